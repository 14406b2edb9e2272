"""What a residual network does beside its convolutions, on maps of a CPU, in as few passes as can be: fused.cpp.

The functions here take and give maps of bfloat16 or float32 in channels-last memory; factors and statistics are float32. Where no C++
compiler is found the engine takes PyTorch's own operations: slower, and with less exact statistics. PyTorch adds the values of a
channel in float32 one after another: of 64 images of MNIST a variance is right to 4e-4, here and in Caffe to a millionth or two.
No second derivative goes through them; asked for one, PyTorch raises an error.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_suffix(".cpp")
# -fno-trapping-math: comparisons may be done on all lanes of a vector; no value changes.
FLAGS = ("-O3", "-march=native", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
MAPS = {torch.bfloat16: (), torch.float32: ("-DFLOAT32",)}
POINTER, LONG, INT, FLOAT, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float, ctypes.c_double
SIGNATURES = {
    "norm_forward": ([POINTER] * 3 + [LONG, INT] + [POINTER] * 2 + [FLOAT, INT, POINTER], None),
    "norm_backward": ([POINTER] * 6 + [LONG, INT, POINTER, FLOAT, INT] + [POINTER] * 3, None),
    "accumulate": ([POINTER, LONG, INT, FLOAT] + [POINTER] * 3, None),
    "halve": ([POINTER] * 2 + [LONG] + [INT] * 3, None),
    "halve_backward": ([POINTER] * 2 + [LONG] + [INT] * 3, None),
    "averaged": ([POINTER] * 2 + [LONG] * 2 + [INT], None),
    "averaged_backward": ([POINTER] * 2 + [LONG] * 2 + [INT], None),
    "crops": ([POINTER] * 7 + [LONG] + [INT] * 5, None),
    "squared_distance": ([POINTER] * 2 + [LONG], DOUBLE),
    "scaled_difference": ([POINTER] * 2 + [FLOAT, POINTER, LONG], None),
}


def processor():
    """What decides which instructions a program may use here, and so its last bits."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return " ".join(dict.fromkeys(x for x in lines if x.startswith(("model name", "flags", "Features"))))


@functools.cache
def library(dtype):
    """fused.cpp compiled for maps of a type in MAPS, or None where it cannot be compiled. Compiled once a machine, into the user's
    cache."""
    flags = (*FLAGS, *MAPS[dtype])
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if compiler is None:
        return _without("no C++ compiler (g++)")
    # -march=native is of this processor, and PyTorch's own OpenMP is used, so that both share their threads.
    runtime = Path(torch.__file__).parent / "lib"
    key = hashlib.sha256(
        "\n".join((SOURCE.read_text(), *flags, compiler, processor(), str(runtime))).encode()
    ).hexdigest()
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hkd-caffe"
    compiled = folder / f"fused-{key[:16]}.so"
    try:
        if not compiled.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch) / compiled.name
                command = [compiler, *flags, str(SOURCE), "-o", str(made), f"-L{runtime}"]
                subprocess.run(command, check=True, capture_output=True, text=True)
                made.replace(compiled)
        found = ctypes.CDLL(str(compiled))
    except subprocess.CalledProcessError as error:
        return _without(f"{compiler} fails: {(error.stderr.strip().splitlines() or ['no word'])[0]}")
    except OSError as error:
        return _without(str(error))
    for name, (arguments, result) in SIGNATURES.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, result
    return found


@functools.cache  # said once
def _without(reason):
    print(f"note: the torch engine does without its compiled passes, and is slower: {reason}", file=sys.stderr)
    return None


def usable(x, other=None):
    """Whether the compiled functions take this map, and the other one beside it."""
    fits = x.dtype in MAPS and x.device.type == "cpu" and x.dim() == 4
    return fits and (other is None or other.dtype == x.dtype) and library(x.dtype) is not None


def _dense(x):
    """`x` in channels-last memory: itself, but where someone gave it another layout."""
    return x.contiguous(memory_format=torch.channels_last)


def _at(tensor):
    return None if tensor is None else tensor.data_ptr()


class Normalized(torch.autograd.Function):
    """relu(BatchNorm(x) weight + bias + other) with the statistics of the batch, twice, and these, 4 x C: mean, biased variance,
    and the factor and shift that they come to.

    x, other: N x C x H x W, other may be None; weight, bias: C, float32. Twice, for two readers: what comes back from both is
    added in the same pass as it is used, where PyTorch would add it in one of its own.
    """

    @staticmethod
    def forward(ctx, x, other, weight, bias, eps, relu):
        x, other = _dense(x), None if other is None else _dense(other)
        top, saved = torch.empty_like(x), torch.empty(4, x.shape[1])
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        library(x.dtype).norm_forward(
            _at(x), _at(other), _at(top), rows, channels, _at(weight), _at(bias), eps, relu, _at(saved)
        )
        ctx.save_for_backward(x, weight, saved, *([] if other is None else [top]))
        ctx.numbers = (rows, channels, eps, relu)
        ctx.mark_non_differentiable(saved)
        ctx.set_materialize_grads(False)
        return top, top.view_as(top), saved

    @staticmethod
    @once_differentiable
    def backward(ctx, one, two, _):
        x, weight, saved, *top = ctx.saved_tensors
        rows, channels, eps, relu = ctx.numbers
        gradient, *second = (_dense(g) for g in (one, two) if g is not None)
        below, above = torch.empty_like(x), torch.empty_like(x) if top else None
        of_weight, of_bias = torch.empty(channels), torch.empty(channels)
        library(x.dtype).norm_backward(
            _at(gradient), _at(second[0]) if second else None, _at(x), _at(top[0]) if top else None, _at(above), _at(below),
            rows, channels, _at(weight), eps, relu, _at(saved), _at(of_weight), _at(of_bias),
        )  # fmt: skip
        return below, above, of_weight, of_bias, None, None


def accumulate(saved, count, fraction, stored):
    """Adds a batch's statistics to BatchNorm's three blobs, as layers.accumulate does. saved: Normalized's; count: the values of a
    channel that they are of; stored: float32, changed in place."""
    library(torch.float32).accumulate(_at(saved), count, saved.shape[1], fraction, *map(_at, stored))


def crops(images, chosen, tops, lefts, mirrored, mean, size):
    """A batch of crops of `size`, less the mean, mirrored where `mirrored` says so, or None without a compiler.

    images: uint8, N x C x H x W; chosen, tops, lefts: int64; mean: float32, C x H x W, or None. The array has the shape n x C x size,
    in channels-last memory.
    """
    if library(torch.float32) is None:
        return None
    _, channels, *whole = images.shape
    made = np.empty((len(chosen), *size, channels), np.float32)
    given = [x if x is None else np.ascontiguousarray(x) for x in (images, chosen, tops, lefts, mirrored, mean)]
    at = [x if x is None else x.ctypes.data for x in (*given, made)]
    library(torch.float32).crops(*at, len(chosen), channels, *whole, *size)
    return made.transpose(0, 3, 1, 2)


class Halved(torch.autograd.Function):
    """Option A's shortcut: every second pixel of a map, and as many channels of zeros again."""

    @staticmethod
    def forward(ctx, x):
        n, channels, height, width = ctx.shape = x.shape
        x = _dense(x)
        top = torch.empty(
            (n, 2 * channels, (height + 1) // 2, (width + 1) // 2), dtype=x.dtype, memory_format=torch.channels_last
        )
        library(x.dtype).halve(_at(x), _at(top), n, height, width, channels)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        n, channels, height, width = ctx.shape
        gradient = _dense(gradient)
        below = torch.empty(ctx.shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        library(gradient.dtype).halve_backward(_at(gradient), _at(below), n, height, width, channels)
        return below


class Averaged(torch.autograd.Function):
    """The mean over each whole map, N x C x 1 x 1, float32."""

    @staticmethod
    def forward(ctx, x):
        n, channels, height, width = ctx.shape = x.shape
        x, ctx.dtype, top = _dense(x), x.dtype, torch.empty(n, channels, 1, 1)
        library(x.dtype).averaged(_at(x), _at(top), n, height * width, channels)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        n, channels, height, width = ctx.shape
        gradient = gradient.contiguous()
        below = torch.empty(ctx.shape, dtype=ctx.dtype, memory_format=torch.channels_last)
        library(ctx.dtype).averaged_backward(_at(gradient), _at(below), n, height * width, channels)
        return below


class SquaredDistance(torch.autograd.Function):
    """The sum of the squares of one map less another, float32."""

    @staticmethod
    def forward(ctx, one, other):
        one, other = _dense(one), _dense(other)
        ctx.save_for_backward(one, other)
        return torch.tensor(library(one.dtype).squared_distance(_at(one), _at(other), one.numel()), dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        one, other = ctx.saved_tensors
        below = torch.empty_like(one)
        library(one.dtype).scaled_difference(_at(one), _at(other), 2 * float(gradient), _at(below), one.numel())
        return below, -below if ctx.needs_input_grad[1] else None
