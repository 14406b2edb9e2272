"""A network for images of your own."""

from dataclasses import replace

import caffe
from caffe import layers as L

from hkd.networks import resnet
from hkd.networks.feed import both_phases


def network(experiment, architecture):
    """The network alone, for images that you give it: blob `data` (1 x C x H x W, less the mean
    image where the data set has one) to blob `prob`. Every layer is one that OpenCV and ncnn can read too."""
    facts = experiment.facts
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, facts.channels, facts.size, facts.size]})
    style = replace(resnet.student(experiment), sliced=True)
    n.prob = L.Softmax(resnet.logits(n, experiment, style, architecture))
    return both_phases(f"{architecture.name} deploy", n, [])
