"""Layers that run as one, where that is faster and gives the same: a plan of steps for a network.

Caffe writes convolution, BatchNorm, Scale and ReLU in place on one blob; only what the last of them leaves there can be seen.
"""

import torch
import torch.nn.functional as F
from caffe.proto import caffe_pb2

from hkd.engines.torch import layers
from hkd.engines.torch.fields import number


class Single:
    """One layer by itself."""

    def __init__(self, net, b):
        self.net, self.b = net, b

    def __call__(self, tensors):
        x = [tensors[name] for name in self.b.layer.bottom]
        tops = layers.run(self.b, self.b.blobs, x, self.net.phase)
        device = self.net.device
        for name, top in zip(self.b.layer.top, tops, strict=True):
            tensors[name] = top.to(device)

    def changed(self):
        pass


class Normalized:
    """BatchNorm, Scale and perhaps ReLU in one call, with the statistics of the batch."""

    def __init__(self, net, chain):
        self.net, (self.bn, self.scale, *rest) = net, chain
        self.relu = bool(rest)

    def __call__(self, tensors):
        bottom, top = self.bn.layer.bottom[0], self.bn.layer.top[0]
        weight, bias = self.scale.blobs
        made = layers.normalized(self.bn.own, self.bn.blobs, tensors[bottom], weight, bias)
        tensors[top] = F.relu_(made) if self.relu else made

    def changed(self):
        pass


class Summed:
    """The sum of two maps and its ReLU, in place on the sum."""

    def __init__(self, net, chain):
        self.bottoms, self.top = list(chain[0].layer.bottom), chain[0].layer.top[0]

    def __call__(self, tensors):
        one, other = (tensors[name] for name in self.bottoms)
        tensors[self.top] = F.relu_(one + other)

    def changed(self):
        pass


class Folded:
    """A convolution with the stored statistics, Scale and perhaps ReLU folded into its weights; for no gradient."""

    def __init__(self, net, chain):
        self.net, (self.conv, self.bn, self.scale, *rest) = net, chain
        self.relu, self.weights = bool(rest), None

    def __call__(self, tensors):
        if self.weights is None:
            self.weights = self._fold()
        p = self.conv.own
        stride, pad = number(p.stride, 1, "", ""), number(p.pad, 0, "", "")
        made = F.conv2d(tensors[self.conv.layer.bottom[0]], *self.weights, stride=stride, padding=pad)
        tensors[self.conv.layer.top[0]] = F.relu_(made) if self.relu else made

    @torch.no_grad()
    def _fold(self):
        mean, variance = layers.stored_statistics(self.bn.blobs)
        factor = self.scale.blobs[0] / torch.sqrt(variance + self.bn.own.eps)
        weight = self.conv.blobs[0] * factor.view(-1, 1, 1, 1)
        return weight.to(memory_format=torch.channels_last), self.scale.blobs[1] - mean * factor

    def changed(self):
        self.weights = None


class Halved(torch.autograd.Function):
    """Every second pixel and as many channels of zeros again. PyTorch's own backward of a slice would make its gradient
    in another memory format than the maps', and all below it slow."""

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        half = x[:, :, ::2, ::2]
        n, channels, height, width = half.shape
        like = {"dtype": x.dtype, "device": x.device, "memory_format": torch.channels_last}
        top = torch.empty((n, 2 * channels, height, width), **like)
        top[:, :channels], top[:, channels:] = half, 0
        return top

    @staticmethod
    def backward(ctx, gradient):
        like = {"dtype": gradient.dtype, "device": gradient.device, "memory_format": torch.channels_last}
        below = torch.empty(ctx.shape, **like).zero_()
        below[:, :, ::2, ::2] = gradient[:, : ctx.shape[1]]
        return below


class Shortcut:
    """Option A as hkd.networks.resnet.option_a writes it: frame, crop, pooling over one pixel, zeros, concatenation."""

    TYPES = ("DummyData", "Crop", "Pooling", "Power", "Concat")

    def __init__(self, net, chain):
        self.bottom, self.top = chain[1].layer.bottom[0], chain[4].layer.top[0]

    def __call__(self, tensors):
        tensors[self.top] = Halved.apply(tensors[self.bottom])

    def changed(self):
        pass

    @classmethod
    def is_one(cls, chain):
        """Whether these five layers are one: the crop to an odd size leaves out no second pixel, the power is zero."""
        frame, crop, pool, zeros, concat = chain
        size = frame.own.shape[0].dim[-1] if frame.own.shape else 0
        p = pool.own
        return (
            size % 2 == 1
            and crop.own.axis == 2
            and (p.pool, p.kernel_size, p.stride, p.global_pooling) == (p.AVE, 1, 2, False)
            and (zeros.own.power, zeros.own.scale, zeros.own.shift) == (1, 0, 0)
            and list(crop.layer.bottom)[1:] == list(frame.layer.top)
            and list(pool.layer.bottom) == list(crop.layer.top)
            and list(zeros.layer.bottom) == list(pool.layer.top)
            and list(concat.layer.bottom) == [*pool.layer.top, *zeros.layer.top]
        )


class Frozen:
    """Steps without a learning layer under them: no gradient is recorded."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, tensors):
        with torch.no_grad():
            for step in self.steps:
                step(tensors)

    def changed(self):
        for step in self.steps:
            step.changed()


def plan(net):
    """The steps of a network's layers, in order."""
    steps, frozen, learning = [], [], set()
    rest = [b for b in net.built if b.kind.run is not None]
    while rest:
        chain = _chain(rest)
        learns = _learns(net, chain, learning)
        step, length = _fused(net, chain, learns)
        del rest[:length]
        taken = chain[:length]
        if learns:
            learning.update(top for b in taken for top in b.layer.top)
            steps += [Frozen(frozen)] if frozen else []
            steps.append(step)
            frozen = []
        else:
            learning.difference_update(top for b in taken for top in b.layer.top)
            frozen.append(step)
    return steps + ([Frozen(frozen)] if frozen else [])


def _learns(net, chain, learning):
    if net.phase != caffe_pb2.TRAIN:
        return False
    mine = any(
        not b.layer.param or any(spec.lr_mult for spec in b.layer.param) for b in chain if b.layer.type in WITH_BLOBS
    )
    return mine or any(bottom in learning for b in chain for bottom in b.layer.bottom)


WITH_BLOBS = ("Convolution", "InnerProduct", "Scale")


def _chain(rest):
    """The first layer and those after it that work in place on its top, as far as convolution-BatchNorm-Scale-ReLU goes;
    or the five layers of a shortcut."""
    if tuple(b.layer.type for b in rest[:5]) == Shortcut.TYPES and Shortcut.is_one(rest[:5]):
        return rest[:5]
    order = ["Eltwise", "ReLU"] if rest[0].layer.type == "Eltwise" else ["Convolution", "BatchNorm", "Scale", "ReLU"]
    if rest[0].layer.type not in order[:2]:
        return rest[:1]
    at = order.index(rest[0].layer.type)
    chain, top = [rest[0]], rest[0].layer.top[0]
    for b, expected in zip(rest[1:], order[at + 1 :], strict=False):
        if b.layer.type != expected or list(b.layer.bottom) != [top] or list(b.layer.top) != [top]:
            break
        chain.append(b)
    return chain


def _fused(net, chain, learns):
    """(step, number of layers of the chain that it runs)."""
    types = [b.layer.type for b in chain]
    if tuple(types) == Shortcut.TYPES:
        return Shortcut(net, chain), 5
    if types == ["Eltwise", "ReLU"] and chain[0].own.operation == chain[0].own.SUM and len(chain[0].layer.bottom) == 2:
        return Summed(net, chain), 2
    if types[:3] == ["Convolution", "BatchNorm", "Scale"]:
        stored = layers.uses_stored_statistics(chain[1].own, net.phase)
        if stored and not learns and not chain[0].own.bias_term and chain[2].own.bias_term:
            return Folded(net, chain), len(chain)
        return Single(net, chain[0]), 1
    if types[:2] == ["BatchNorm", "Scale"] and learns and chain[1].own.bias_term:
        stored = layers.uses_stored_statistics(chain[0].own, net.phase)
        return (Single(net, chain[0]), 1) if stored else (Normalized(net, chain), len(chain))
    return Single(net, chain[0]), 1
