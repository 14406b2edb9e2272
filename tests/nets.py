"""Networks for tests: built from a NetSpec, their loss, its gradient by differences; weights read back from a caffemodel."""

import importlib.util

import caffe
import numpy as np
import pytest

from hkd.networks import prototxt
from hkd.networks.feed import Feed, both_phases, data_layers
from hkd.paper import experiments
from hkd.stages import surgery

ENGINES = [
    "caffe",
    pytest.param("torch", marks=pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch")),
]


def build(n, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("force_backward: true\n" + str(n.to_proto()))
    return caffe.Net(str(path), caffe.TRAIN)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def total(net):
    net.forward()
    return sum(
        float(net.blobs[name].data) * weight
        for name, weight in zip(net._blob_names, net._blob_loss_weights, strict=True)
        if weight
    )


def central_differences(net, blob, step=1e-2):
    """d loss / d blob by (f(x + step) - f(x - step)) / 2 step, element by element."""
    data = net.blobs[blob].data
    gradient = np.zeros(data.shape)
    for index in np.ndindex(*data.shape):
        kept = data[index].copy()
        sides = []
        for sign in (1, -1):
            net.blobs[blob].data[index] = kept + sign * step
            sides.append(total(net))
        net.blobs[blob].data[index] = kept
        gradient[index] = (sides[0] - sides[1]) / (2 * step)
    return gradient


def data_net(folder, phase, tmp_path, batch=100, changes=()):
    experiment = experiments.experiment("cifar10-r14-r8", changes)
    n = caffe.NetSpec()
    test = data_layers(n, experiment, Feed(str(folder), batch, batch))
    n.silent = caffe.layers.Silence(n.data, n.label, ntop=0)
    path = tmp_path / "data.prototxt"
    path.write_text(prototxt.text(both_phases("data", n, test), []))
    return caffe.Net(str(path), phase)


def weights(path):
    """{layer: its blobs as one vector} of a caffemodel."""
    return {
        x.name: np.concatenate([np.array(b.data, np.float32) for b in x.blobs])
        for x in surgery.read(path).layer
        if x.blobs
    }
