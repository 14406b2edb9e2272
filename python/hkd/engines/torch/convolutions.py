"""Convolutions of the maps of a CPU.

A product of two bfloat16 numbers is exact in float32, and it is added up in float32 wherever it is computed. So a convolution of
bfloat16 maps may as well be one of float32 maps whose top is rounded: the same but for the order of its sums, and faster where the
processor multiplies bfloat16 numbers slowly or not at all (devices.bf16_is_fast).
"""

import functools
from pathlib import Path

import torch
import torch.nn.functional as F

from hkd.engines import devices

SOURCE = Path(__file__)
is_fast = functools.cache(devices.bf16_is_fast)


def _in_float32(x):
    """Whether the convolutions of a map are computed in float32 though it is of bfloat16."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not is_fast()


def convolution(x, weight, bias, stride, pad):
    """The convolution of a map, with its gradients; weight and bias (or None) are of any type, and rounded to the map's."""
    weight, bias = (None if blob is None else blob.to(x.dtype) for blob in (weight, bias))
    if not _in_float32(x):
        return F.conv2d(x, weight, bias, stride, pad)
    wide = (None if t is None else t.float() for t in (x, weight, bias))
    return F.conv2d(*wide, stride, pad).to(x.dtype)


class Folded:
    """relu(convolution + bias + other) of maps of one shape, for no gradient; weight and bias as in `convolution`.

    Of bfloat16 maps of a CPU it is one call of oneDNN's, which adds and cuts off what it just made, with the weights in the order
    that it computes them in, which it else makes at each call.
    """

    def __init__(self, x, weight, bias, stride, pad):
        self.given = (weight, bias, stride, pad)
        self.one_call = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if self.one_call:
            self.wide = _in_float32(x)
            weight, bias = (blob.to(x.dtype).to(torch.float32 if self.wide else x.dtype) for blob in (weight, bias))
            where = ([pad] * 2, [stride] * 2, [1, 1], 1)
            packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *where, list(x.shape))
            self.given = (packed, bias, *where)

    def __call__(self, x, other=None, relu=False):
        if not self.one_call:
            made = convolution(x, *self.given)
            made = made if other is None else made + other
            return F.relu_(made) if relu else made
        dtype, kernel = x.dtype, torch.ops.mkldnn._convolution_pointwise
        if self.wide:
            x, other = x.float(), None if other is None else other.float()
        if other is None:
            made = kernel(x, *self.given, "relu" if relu else "none", [], "")
        else:
            made = kernel.binary(x, other, *self.given, "add", 1.0, "relu" if relu else None, [], "")
        return made.to(dtype)
