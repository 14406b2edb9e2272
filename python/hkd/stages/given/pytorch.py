"""The CIFAR ResNet of PyTorch: `conv1, bn1, layer1.0.conv1, ... linear` or `fc`, or what compare_torch.py exports.

Its BatchNorm is Caffe's BatchNorm and Scale. A convolution's bias, which ours has not, goes into the mean of the BatchNorm above:
(x + b) - m = x - (m - b).
"""

import re
from dataclasses import dataclass

import numpy as np

from hkd.networks.resnet import module_name
from hkd.paper.architecture import Architecture
from hkd.stages.given.files import COUNTER
from hkd.stages.given.layers import Layers, blocks_of

PADDINGS = ("appended", "two-sided")
"""Where option A has its zeros: after the channels that it keeps, as ours, or half of them on each side."""


@dataclass(frozen=True)
class Dialect:
    """How a file names things: blocks ('layer{}.{}.' with the first one's number), the projection's two parts, the head."""

    block: str
    first: int
    projection: tuple[str, str]
    head: str

    def module(self, stack, block):
        return self.block.format(stack, block - 1 + self.first)


def dialect(names):
    """The Dialect of a state dict's names, whatever else is wrong with them."""
    head = "linear" if "linear.weight" in names else "fc"
    if any(name.startswith("stack1.") for name in names):
        return Dialect("stack{}.block{}.", 1, ("projection", "projection_bn"), head)
    kind = "downsample" if any(".downsample." in name for name in names) else "shortcut"
    return Dialect("layer{}.{}.", 0, (f"{kind}.0", f"{kind}.1"), head)


def modules(names):
    """{(stack, block)}, both from 1, that a state dict has names of."""
    own = dialect(names)
    pattern = re.compile(re.escape(own.block).replace(r"\{\}", r"(\d{1,4})"))
    found = [pattern.match(name) for name in names]
    return {(int(m[1]), int(m[2]) + 1 - own.first) for m in found if m}


def layers(tensors, blocks, projection):
    """Layers of this project's names from a state dict, {name: float32 array}.

    blocks: of each stack; projection: whether its shortcuts are. What is missing or left over stands in the result.
    """
    own, names = dialect(tensors), set(tensors)
    made = Layers()
    used = set()

    def take(name):
        used.add(name)
        if name not in tensors:
            made.missing.append(name)
        return tensors.get(name)

    def put(layer, note, *arrays):
        if all(array is not None for array in arrays):
            made.put(layer, arrays, note)

    for conv, bn, target in _units(own, blocks, projection):
        weight = take(f"{conv}.weight")
        gamma, beta, mean, variance = (
            take(f"{bn}.{part}") for part in ("weight", "bias", "running_mean", "running_var")
        )
        bias, less = None, ""
        if f"{conv}.bias" in names:
            bias, less = take(f"{conv}.bias"), f", less {conv}.bias"
        if bias is not None and mean is not None and bias.shape == mean.shape:
            mean = (mean.astype(np.float64) - bias).astype(np.float32)
        conv_layer, bn_layer, scale_layer = target
        put(conv_layer, f"{conv}.weight", weight)
        put(bn_layer, f"{bn}.running_mean, running_var{less}", mean, variance, np.ones(1, np.float32))
        put(scale_layer, f"{bn}.weight, bias", gamma, beta)
    put("fc", f"{own.head}.weight, bias", take(f"{own.head}.weight"), take(f"{own.head}.bias"))
    left = names - used
    made.unused = sorted(name for name in left if name.endswith("." + COUNTER))
    made.left_over = sorted(left - set(made.unused))
    return made


def _units(own, blocks, projection):
    """(convolution, BatchNorm, (our three layers)) of the network, bottom up."""
    yield "conv1", "bn1", ("conv1", "bn1", "scale1")
    for stack, block in Architecture(6 * blocks + 2).modules:
        theirs, ours = own.module(stack, block), module_name((stack, block))
        for i in (1, 2):
            yield f"{theirs}conv{i}", f"{theirs}bn{i}", tuple(f"{ours}{part}{i}" for part in ("conv", "bn", "scale"))
        if projection and stack > 1 and block == 1:
            conv, bn = (theirs + part for part in own.projection)
            yield conv, bn, tuple(f"{ours}projection{part}" for part in ("", "_bn", "_scale"))


def has_projection(tensors):
    """Whether a state dict has weights of a shortcut."""
    parts = dialect(tensors).projection
    return any(name.endswith(f".{parts[0]}.weight") for name in tensors)


def appended(found, width):
    """The same network with the zeros of its option A behind the channels that it keeps: Layers whose zeros were on both sides.

    Of stack 2 theirs are width / 2 zeros, the channels of stack 1, width / 2 zeros; stack 3 has those of stack 2 between two halves
    in the same way. order[i]: which of their channels is our channel i.
    """
    orders = {1: np.arange(width)}
    for stack in (2, 3):
        before = len(orders[stack - 1])
        half = before // 2
        outer = [*range(half), *range(half + before, 2 * before)]
        orders[stack] = np.concatenate([half + orders[stack - 1], outer])
    for stack, block in blocks_of(found):
        name = module_name((stack, block))
        before = orders[stack - 1] if block == 1 and stack > 1 else orders[stack]
        found.reorder(f"{name}conv1", 1, before)
        found.reorder(f"{name}conv2", 0, orders[stack])
        for layer in ("bn2", "scale2"):
            found.reorder(f"{name}{layer}", 0, orders[stack])
    found.reorder("fc", 1, orders[3])
