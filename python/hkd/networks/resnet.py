"""The CIFAR ResNet of 6n+2 layers (He et al. 2016, section 4.2; Bae et al. 2019, figure 2) in a few NetSpec helpers.

Every layer is named by hand, because Caffe matches weights by layer name alone. A helper adds layers to the NetSpec `n`
and returns the top. `frozen` layers have lr_mult 0 and use stored statistics: a teacher inside a student's network.
"""

from dataclasses import dataclass

from caffe import layers as L
from caffe import params as P

TEACHER = "teacher/"  # the prefix of a teacher's layers inside a student's network


@dataclass(frozen=True)
class Style:
    """How a ResNet's layers are written: the prefix of their names, whether they learn, and the open choices. `sliced`: option A crops by
    Slice layers, which other readers of Caffe's files know, not by Crop and DummyData, which they do not."""

    prefix: str = ""
    frozen: bool = False
    shortcut: str = "A"
    bn_fraction: float = 0.999
    sliced: bool = False

    def learns(self, blobs):
        """The `param` entries of a layer with that many parameter blobs; none (Caffe's 1 and 1) where it learns."""
        return {"param": [{"lr_mult": 0, "decay_mult": 0}] * blobs} if self.frozen else {}


def conv_bn(n, style, name, number, bottom, width, kernel, stride, relu=True):
    """Convolution (MSRA, no bias) - BatchNorm - Scale [- ReLU], the last three in place. `name` ends in '/' or is ''."""
    name = style.prefix + name
    conv = n[f"{name}conv{number}"] = L.Convolution(
        bottom,
        num_output=width,
        kernel_size=kernel,
        pad=kernel // 2,
        stride=stride,
        bias_term=False,
        weight_filler={"type": "msra"},
        **style.learns(1),
    )
    return bn_scale(n, style, f"{name}%s{number}", conv, relu)


def bn_scale(n, style, pattern, bottom, relu):
    """BatchNorm, Scale with bias, and ReLU if `relu`, all in place. pattern: of their names, with %s for bn, scale and relu."""
    # Caffe's BatchNorm would use batch statistics in the TRAIN phase, and update the stored ones, even at lr_mult 0.
    stored = {"use_global_stats": True} if style.frozen else {}
    top = n[pattern % "bn"] = L.BatchNorm(
        bottom, moving_average_fraction=style.bn_fraction, in_place=True, **stored, **style.learns(3)
    )
    top = n[pattern % "scale"] = L.Scale(top, bias_term=True, in_place=True, **style.learns(2))
    if relu:
        top = n[pattern % "relu"] = L.ReLU(top, in_place=True)
    return top


def option_a(n, style, name, bottom, size):
    """He et al.'s parameter-free shortcut where maps halve and channels double: every second pixel, zeros appended.

    size: height and width of `bottom`. Caffe's pooling rounds up, so an even map would give one row and column too many:
    the last ones, which no second pixel lies in, are cropped off before. Average, not MAX, over that one pixel: MAX finds
    no maximum in an empty window or among NaN, and its backward pass then writes before the start of its memory
    (pooling_layer.cpp: mask -1).
    """
    name = style.prefix + name
    odd = size - 1 + size % 2
    cropped = _sliced(n, name, bottom, size, odd) if style.sliced else _cropped(n, name, bottom, odd)
    half = n[name + "identity"] = L.Pooling(cropped, pool=P.Pooling.AVE, kernel_size=1, stride=2)
    zeros = n[name + "zeros"] = L.Power(half, scale=0)
    top = n[name + "shortcut"] = L.Concat(half, zeros)
    return top


def _cropped(n, name, bottom, odd):
    frame = n[name + "frame"] = L.DummyData(shape={"dim": [1, 1, odd, odd]})
    top = n[name + "crop"] = L.Crop(bottom, frame, axis=2, propagate_down=[True, False])
    return top


def _sliced(n, name, bottom, size, odd):
    if size == odd:
        return bottom
    rows, row = n[name + "rows"], n[name + "last_row"] = L.Slice(bottom, ntop=2, axis=2, slice_point=odd)
    top, column = n[name + "columns"], n[name + "last_column"] = L.Slice(rows, ntop=2, axis=3, slice_point=odd)
    # Caffe would list tops that nobody reads among the network's outputs.
    n[name + "silence"] = L.Silence(row, column, ntop=0)
    return top


def projection(n, style, name, bottom, width):
    """The alternative that public Caffe ports use: 1x1 convolution of stride 2, BatchNorm, Scale."""
    top = n[f"{style.prefix}{name}projection"] = L.Convolution(
        bottom,
        num_output=width,
        kernel_size=1,
        stride=2,
        bias_term=False,
        weight_filler={"type": "msra"},
        **style.learns(1),
    )
    return bn_scale(n, style, f"{style.prefix}{name}projection_%s", top, relu=False)


def residual_module(n, style, name, bottom, width, halves, size):
    """conv-BN-ReLU-conv-BN, plus the shortcut; the ReLU that follows (figure 2B) is left to the caller. `halves`: stride 2
    and twice the channels; `size`: height and width of `bottom`."""
    top = conv_bn(n, style, name, 1, bottom, width, kernel=3, stride=2 if halves else 1)
    top = conv_bn(n, style, name, 2, top, width, kernel=3, stride=1, relu=False)
    shortcut = bottom
    if halves:
        shortcut = (
            option_a(n, style, name, bottom, size)
            if style.shortcut == "A"
            else projection(n, style, name, bottom, width)
        )
    top = n[f"{style.prefix}{name}sum"] = L.Eltwise(top, shortcut, operation=P.Eltwise.SUM)
    return top


def module_name(module):
    """(stack, block) -> what the names of its layers begin with."""
    stack, block = module
    return f"stack{stack}/block{block}/"


STEM = (0, 0)
"""The first convolution with its BatchNorm and ReLU, where a module's (stack, block) is asked for."""


def body(n, style, bottom, architecture, size, last=None, early=()):
    """The first convolution and the residual modules, (stack, block) counted from 1, up to `last` (default: all).

    Returns {module: its output}, STEM first: N x width x 32 x 32 in stack 1, N x 2 width x 16 x 16 in stack 2, N x 4 width x 8 x 8 in
    stack 3 for 32 x 32 images (`size` 32); after the module's last ReLU, or before it for the modules in `early`.
    """
    top = conv_bn(n, style, "", 1, bottom, architecture.widths[0], kernel=3, stride=1)
    last = last or architecture.modules[-1]
    outputs = {STEM: top}
    for module in architecture.modules[: architecture.modules.index(last) + 1]:
        stack, block = module
        halves = stack > 1 and block == 1
        name = module_name(module)
        top = residual_module(n, style, name, top, architecture.widths[stack - 1], halves, size)
        size = (size + 1) // 2 if halves else size
        outputs[module] = top
        if module in early and module == last:
            break
        # In place it would overwrite what an early output is read from.
        top = n[f"{style.prefix}{name}relu"] = L.ReLU(top, in_place=module not in early)
        if module not in early:
            outputs[module] = top
    return outputs


def classifier(n, style, bottom, classes):
    """Global average pooling and the fully connected layer; returns the logits, N x classes."""
    pooled = n[style.prefix + "pool"] = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
    logits = n[style.prefix + "fc"] = L.InnerProduct(
        pooled,
        num_output=classes,
        weight_filler={"type": "msra"},
        bias_filler={"type": "constant", "value": 0},
        **style.learns(2),
    )
    return logits


def student(experiment):
    """The Style of the network that learns."""
    return Style("", False, experiment.shortcut, experiment.bn_fraction)


def teacher(experiment):
    """The Style of the teacher inside a student's network."""
    return Style(TEACHER, True, experiment.shortcut, experiment.bn_fraction)


def logits(n, experiment, style, architecture, last=None):
    """A ResNet on the blob `data`, up to its fully connected layer."""
    *_, top = body(n, style, n.data, architecture, experiment.facts.size, last).values()
    return classifier(n, style, top, experiment.facts.classes)
