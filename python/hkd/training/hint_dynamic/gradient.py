"""How the cross entropy of a meta batch, after one step of the student, changes with each hint's weight for each image.

Student theta, learning rate eta, batch of N images with hint losses l_ik, scales c_k, weights w_ik:

    theta' = theta - eta grad L(theta),   L = cross entropy + 1/N sum_ik w_ik c_k l_ik
    d CE_meta(theta') / d w_ik = -eta c_k / N <g, grad l_ik(theta)>,   g = grad CE_meta(theta')
    <g, grad l_ik> = (l_ik(theta + e g) - l_ik(theta - e g)) / 2e,   e = 0.01 / |g|

so that two passes forward stand for N x K gradients, and nothing is differentiated twice. It all happens in networks of
its own: the student that trains keeps its weights and BatchNorm's statistics.
"""

import numpy as np
from caffe.proto import caffe_pb2

from hkd.engines import choice
from hkd.networks import losses, plain, prototxt, resnet
from hkd.networks.feed import Feed

DISTANCE = 0.01  # |e g|: of the two sides from theta


class MetaGradient:
    """network: the stage's NetParameter; net: its TRAIN net; experiment: decides the student; engine: that of `net`. The
    teacher's outputs are taken from `net`, as they were for its last batch. The networks here are float32, whatever `net` is: a
    difference of two sides is lost in bfloat16."""

    def __init__(self, network, net, experiment, engine="caffe"):
        self.net, self.experiment = net, experiment
        bare, self.inputs = _without_teacher(network, net)
        self.probe = choice.train_net(engine, bare)
        self.weights = self.probe.layer_dict[losses.WEIGHTS]
        self.weights.frozen = True
        feed = Feed("DATA", experiment.dynamic_batch, 1)
        alone = plain.network(experiment, experiment.student, feed)
        self.student = choice.train_net(engine, _of_phase(prototxt.with_inputs(alone, experiment.facts)))
        # BatchNorm's three blobs are statistics.
        self.learns = [name for name in self.student.params if self.student.layer_dict[name].type != "BatchNorm"]

    def __call__(self, lr, images, labels):
        """(d CE_meta / d w, N x K; what meta_network.backward needs; CE_meta) at the student's weights of now."""
        loss = self.virtual_loss(lr, images, labels)
        cache, scales = self.weights.cache, self.weights.scales.astype(np.float64)
        direction = [blob.diff.copy() for blob in self._blobs(self.student)]
        # Sums in float64 and in NumPy's own order: BLAS's may depend on the number of threads.
        length = np.sqrt(sum(np.square(d, dtype=np.float64).sum() for d in direction))
        step = DISTANCE / length if length else 0.0
        sides = []
        for sign in (1, -1):
            for blob, own, d in zip(self._blobs(self.probe), self._blobs(self.net), direction, strict=True):
                blob.data[...] = own.data + np.float32(sign * step) * d
            self.probe.forward()
            sides.append(self.weights.losses)
        slope = (sides[0] - sides[1]) / (2 * step) if step else np.zeros_like(sides[0])
        return -lr / len(slope) * scales * slope, cache, loss

    def virtual_loss(self, lr, images, labels):
        """CE_meta(theta'), with the meta-weight network's weights as they are. Leaves g in the student's diffs."""
        for name, blobs in self.probe.params.items():
            for blob, own in zip(blobs, self.net.params[name], strict=True):
                blob.data[...] = own.data
        for name in self.inputs:
            self.probe.blobs[name].data[...] = self.net.blobs[name].data
        self.weights.iteration = self.net.layer_dict[losses.WEIGHTS].iteration
        _gradients(self.probe)
        for blob, theirs in zip(self._blobs(self.student), self._blobs(self.probe), strict=True):
            blob.data[...] = theirs.data - np.float32(lr) * theirs.diff
        self.student.blobs["data"].data[...] = images
        self.student.blobs["label"].data[...] = labels
        _gradients(self.student)
        return float(self.student.blobs["loss"].data)

    def _blobs(self, net):
        return [blob for name in self.learns for blob in net.params[name]]


def _gradients(net):
    net.clear_param_diffs()
    net.forward()
    net.backward()


def _without_teacher(network, net):
    """(a network's TRAIN phase without its data layers and its teacher, the names of what it is given instead)."""
    bare = caffe_pb2.NetParameter(name=network.name)
    made, inputs = set(), []
    kept = [
        layer
        for layer in _of_phase(network).layer
        if layer.type not in ("Data", "Silence") and not layer.name.startswith(resnet.TEACHER)
    ]
    for layer in kept:
        for bottom in layer.bottom:
            if bottom not in made:
                given = bare.layer.add(name=f"given/{bottom}", type="Input", top=[bottom])
                given.input_param.shape.add(dim=net.blobs[bottom].data.shape)
                inputs.append(bottom)
                made.add(bottom)
        bare.layer.add().CopyFrom(layer)
        made.update(layer.top)
    return bare, inputs


def _of_phase(network):
    """The layers that a network has in the TRAIN phase."""
    found = caffe_pb2.NetParameter(name=network.name)
    found.layer.extend(x for x in network.layer if not any(rule.phase == caffe_pb2.TEST for rule in x.include))
    return found
