"""A network for images of your own."""

import caffe
from caffe import layers as L

from hkd.networks import resnet
from hkd.networks.feed import both_phases


def network(experiment, architecture):
    """The network alone, for images that you give it: blob `data` (1 x C x H x W, mean subtracted) to blob `prob`."""
    facts = experiment.facts
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, facts.channels, facts.size, facts.size]})
    n.prob = L.Softmax(resnet.logits(n, experiment, resnet.student(experiment), architecture))
    return both_phases(f"{architecture.name} deploy", n, [])
