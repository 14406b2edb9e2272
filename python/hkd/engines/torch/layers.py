"""One small function a layer type of Caffe: p is the layer's own parameter message, w its parameter blobs, x its bottoms.

Caffe's semantics, each with its source where PyTorch's differ. `@layer` names the fields of the message that a function
reads; a network that sets another one is refused.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from caffe.proto import caffe_pb2

from hkd.engines.torch import convolutions, fused
from hkd.engines.torch.fields import number, one_of

FLT_MIN = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Kind:
    """A layer type: how it runs; its message and the fields of it that are read; and, for one with parameter blobs,
    `blobs(p, x)`: their (shape, filler) for a first bottom x. Filler: a FillerParameter, or a number."""

    run: Callable
    message: str
    fields: tuple[str, ...]
    blobs: Callable = lambda p, x: []


KINDS = {}


def layer(name, message="", *fields, blobs=None):
    """Registers the function below it as Caffe's layer type `name`; message and fields as in Kind."""

    def register(run):
        KINDS[name] = Kind(run, message, fields, *([blobs] if blobs else []))
        return run

    return register


def run(b, blobs, x, phase):
    """The tops of one layer: b is built.Built."""
    if b.layer.type == "BatchNorm":
        tops = b.kind.run(b.own, blobs, x, phase)
    else:
        down_to = list(b.layer.propagate_down) or [True] * len(x)
        x = [t.detach() if not down else t for t, down in zip(x, down_to, strict=True)]
        tops = b.kind.run(b.own, blobs, x)
    return tops if isinstance(tops, tuple) else (tops,)


# --- with parameter blobs -------------------------------------------------------------------------------------------------


def _convolution_blobs(p, x):
    kernel = number(p.kernel_size, 1, "convolution", "kernel_size")
    shape = (p.num_output, x.shape[1], kernel, kernel)
    return [(shape, p.weight_filler), *([((p.num_output,), p.bias_filler)] if p.bias_term else [])]


@layer(
    "Convolution", "convolution_param", "num_output", "bias_term", "pad", "kernel_size", "stride", "weight_filler",
    "bias_filler", blobs=_convolution_blobs,
)  # fmt: skip
def convolution(p, w, x):
    """N x channels x height x width; group, dilation and a kernel of two sizes are refused (conv_layer.cpp)."""
    stride, pad = number(p.stride, 1, "convolution", "stride"), number(p.pad, 0, "convolution", "pad")
    return convolutions.convolution(x[0], w[0], w[1] if p.bias_term else None, stride, pad)


def _inner_product_blobs(p, x):
    shape = (p.num_output, x[0].numel())
    return [(shape, p.weight_filler), *([((p.num_output,), p.bias_filler)] if p.bias_term else [])]


@layer(
    "InnerProduct", "inner_product_param", "num_output", "bias_term", "weight_filler", "bias_filler", blobs=_inner_product_blobs
)  # fmt: skip
def inner_product(p, w, x):
    """N x num_output, in float32 whatever the precision of the maps is (inner_product_layer.cpp)."""
    return F.linear(x[0].float().flatten(1), w[0], w[1] if p.bias_term else None)


def stored_statistics(w):
    """(mean, variance) that BatchNorm's blobs stand for: sums, to be divided by the third (batch_norm_layer.cpp:98-105)."""
    scale = torch.where(w[2] == 0, 0.0, 1 / w[2])
    return w[0] * scale, w[1] * scale


def accumulate(p, w, mean, variance):
    """Adds a batch's mean and unbiased variance to BatchNorm's blobs (batch_norm_layer.cpp:125-147)."""
    w[2].mul_(p.moving_average_fraction).add_(1)
    w[0].mul_(p.moving_average_fraction).add_(mean)
    w[1].mul_(p.moving_average_fraction).add_(variance)


def normalized(p, w, x, weight=None, bias=None, stored=False):
    """BatchNorm, with a Scale layer's weight and bias in the same call where they are given."""
    if stored:
        return F.batch_norm(x, *stored_statistics(w), weight, bias, eps=p.eps)
    # With a momentum of 1 PyTorch's running statistics are this batch's: its mean and its unbiased variance. They start from
    # zeros, since 0 x what lies in fresh memory may be NaN.
    mean, variance = torch.zeros_like(w[0]), torch.zeros_like(w[1])
    top = F.batch_norm(x, mean, variance, weight, bias, training=True, momentum=1.0, eps=p.eps)
    with torch.no_grad():
        accumulate(p, w, mean, variance)
    return top


def uses_stored_statistics(p, phase):
    """Caffe's default goes by the phase (batch_norm_layer.cpp:14-16)."""
    return p.use_global_stats if p.HasField("use_global_stats") else phase == caffe_pb2.TEST


@layer(
    "BatchNorm", "batch_norm_param", "use_global_stats", "moving_average_fraction", "eps",
    blobs=lambda p, x: [((x.shape[1],), 0.0), ((x.shape[1],), 0.0), ((1,), 0.0)],
)  # fmt: skip
def batch_norm(p, w, x, phase):
    """Without scale and shift, as Caffe has it; w: mean, variance and the factor that both are divided by."""
    return normalized(p, w, x[0], stored=uses_stored_statistics(p, phase))


@layer(
    "Scale", "scale_param", "bias_term", blobs=lambda p, x: [((x.shape[1],), 1.0), *([((x.shape[1],), 0.0)] if p.bias_term else [])]
)  # fmt: skip
def scale(p, w, x):
    """Each channel (axis 1) times a number, plus one where bias_term is true."""
    shape = (1, -1, *[1] * (x[0].dim() - 2))
    top = x[0] * w[0].view(shape)
    return top + w[1].view(shape) if p.bias_term else top


# --- without ----------------------------------------------------------------------------------------------------------------


@layer("ReLU", "relu_param")
def relu(p, w, x):
    """max(x, 0); a negative_slope is refused."""
    return F.relu(x[0])


@layer("Eltwise", "eltwise_param", "operation", "coeff")
def eltwise(p, w, x):
    """The sum of its bottoms, each times its coeff where coeff is given, or their product."""
    one_of(p.operation, (p.SUM, p.PROD), "Eltwise", "operation")
    if p.coeff:
        one_of(p.operation, (p.SUM,), "Eltwise", "coeff of operation")
        x = [t * coeff for t, coeff in zip(x, p.coeff, strict=True)]
    top = x[0]
    for other in x[1:]:
        top = top + other if p.operation == p.SUM else top * other
    return top


def average(x):
    """The mean over each whole map, N x C x 1 x 1, float32."""
    return fused.Averaged.apply(x) if fused.usable(x) else x.mean((2, 3), keepdim=True, dtype=torch.float32)


@layer("Pooling", "pooling_param", "pool", "kernel_size", "stride", "global_pooling")
def pooling(p, w, x):
    """Sizes are rounded up (pooling_layer.cpp:91-97); a window that hangs over is averaged over what it has."""
    if p.global_pooling:
        pool = {p.AVE: average, p.MAX: lambda t: t.amax((2, 3), keepdim=True)}
        return pool[one_of(p.pool, pool, "Pooling", "pool")](x[0])
    pool = {p.AVE: F.avg_pool2d, p.MAX: F.max_pool2d}[one_of(p.pool, (p.AVE, p.MAX), "Pooling", "pool")]
    sizes = [-(-(size - p.kernel_size) // p.stride) for size in x[0].shape[2:]]
    if any(size * p.stride >= whole for size, whole in zip(sizes, x[0].shape[2:], strict=True)):
        one_of("a window outside of the map", (), "Pooling", "kernel_size and stride with")
    if p.kernel_size == 1:
        return x[0][:, :, :: p.stride, :: p.stride]
    return pool(x[0], p.kernel_size, p.stride, ceil_mode=True)


@layer("Softmax", "softmax_param")
def softmax(p, w, x):
    """Over axis 1, in float32."""
    return F.softmax(x[0].float(), 1)


@layer("Power", "power_param", "power", "scale", "shift")
def power(p, w, x):
    """(shift + scale x) ^ power (power_layer.cpp)."""
    top = x[0] * p.scale + p.shift if p.shift else x[0] * p.scale
    return top if p.power == 1 else top**p.power


@layer("Log", "log_param", "shift")
def log(p, w, x):
    """ln(x + shift); another base and a scale are refused."""
    return torch.log(x[0] + p.shift)


@layer("Concat", "concat_param")
def concat(p, w, x):
    """Along axis 1."""
    return torch.cat(x, 1)


@layer("Crop", "crop_param", "axis")
def crop(p, w, x):
    """From `axis` on to the size of the second bottom, from the first element."""
    return x[0][(slice(None),) * p.axis + tuple(slice(size) for size in x[1].shape[p.axis :])]


@layer("Parameter", "parameter_param", "shape", blobs=lambda p, x: [(tuple(p.shape.dim), 0.0)])
def parameter(p, w, x):
    """The blob itself: it shows what a later layer makes of it (parameter_layer.hpp)."""
    return w[0]


@layer("DummyData", "dummy_data_param", "shape")
def dummy_data(p, w, x):
    """Zeros of the shape that is written in the network."""
    return torch.zeros(*p.shape[0].dim)


# --- the project's own ------------------------------------------------------------------------------------------------------


def _fsp_orders(p):
    if (p.module, p.layer) != ("hkd.layers.fsp", "FSP"):
        one_of(f"{p.module}.{p.layer}", ("hkd.layers.fsp.FSP",), "Python", "layer")
    given = json.loads(p.param_str or "{}")
    return [given.get("rows"), given.get("columns")]


@layer("Python", "python_param", "module", "layer", "param_str")
def fsp(p, w, x):
    """The FSP matrix (hkd/layers/fsp.py)."""
    maps = [(t if order is None else t[:, order]).float() for t, order in zip(x, _fsp_orders(p), strict=True)]
    # N x hw x channels: in channels-last memory this is no copy.
    first, second = (t.permute(0, 2, 3, 1).flatten(1, 2) for t in maps)
    return first.transpose(1, 2) @ second / first.shape[1]


# --- losses -----------------------------------------------------------------------------------------------------------------


@layer("SoftmaxWithLoss", "loss_param")
def softmax_with_loss(p, w, x):
    """Mean over the batch of -log(max(P, FLT_MIN)) (softmax_loss_layer.cpp)."""
    return F.cross_entropy(x[0].float(), x[1].flatten().long()).clamp(max=-float(torch.log(torch.tensor(FLT_MIN))))


@layer("EuclideanLoss", "")
def euclidean_loss(p, w, x):
    """Half the squared distance, summed over a sample, averaged over the batch (euclidean_loss_layer.cpp:26)."""
    if fused.usable(*x):
        return fused.SquaredDistance.apply(*x) / (2 * x[0].shape[0])
    return (x[0].float() - x[1].float()).square().sum() / (2 * x[0].shape[0])


@layer("Reduction", "reduction_param", "operation", "coeff", "axis")
def reduction(p, w, x):
    """Over all dimensions from `axis` on, 0 or 1."""
    one_of(p.operation, (p.SUM, p.MEAN, p.SUMSQ), "Reduction", "operation")
    rows = x[0].float().flatten(1) if one_of(p.axis, (0, 1), "Reduction", "axis") else x[0].float().flatten()
    rows = rows.square() if p.operation == p.SUMSQ else rows
    return p.coeff * (rows.mean(-1) if p.operation == p.MEAN else rows.sum(-1))


@layer("Silence", "")
def silence(p, w, x):
    """Takes blobs that nobody reads."""
    return ()


@layer("Accuracy", "accuracy_param")
def accuracy(p, w, x):
    """The share whose class has the single highest score: a tie counts as wrong (accuracy_layer.cpp)."""
    scores, labels = x[0], x[1].flatten().long()
    own = scores.gather(1, labels[:, None])
    return ((scores >= own).sum(1) == 1).float().mean()
