"""Blobs: as pycaffe shows them, as Caffe's files have them, and as their fillers make them."""

import hashlib

import numpy as np
import torch
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.engines.torch.fields import one_of, only


class Blob:
    """What pycaffe calls a blob: `data` and `diff` as NumPy arrays (of a CPU tensor the same memory)."""

    def __init__(self, tensor):
        self.tensor = tensor

    @property
    def data(self):
        return self.tensor.detach().float().cpu().numpy()

    @property
    def diff(self):
        found = self.tensor.grad
        return np.zeros(self.tensor.shape, np.float32) if found is None else found.float().cpu().numpy()


def array(proto):
    """A BlobProto as float32, in its shape."""
    shape = (
        tuple(proto.shape.dim) if proto.HasField("shape") else (proto.num, proto.channels, proto.height, proto.width)
    )
    values = np.array(proto.data, np.float32)
    if values.size != np.prod(shape):
        raise UserError(
            f"a blob has {values.size} values, its shape {shape_text(shape)} needs {int(np.prod(shape))}: the file is damaged"
        )
    return values.reshape(shape)


def proto(tensor):
    """A tensor as a BlobProto, float32."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(tensor.shape)
    blob.data.extend(tensor.detach().float().cpu().contiguous().flatten().numpy())
    return blob


def as_blob(vector, shape):
    """A vector's memory as a blob of a shape: that of a convolution in channels-last memory, as the maps are. PyTorch else makes such
    a copy of its weights twice an iteration."""
    if len(shape) != 4:
        return vector.view(shape)
    n, channels, height, width = shape
    return vector.view(n, height, width, channels).permute(0, 3, 1, 2)


def filled(shape, filler, random_seed, name):
    """A parameter blob as its filler makes it (filler.hpp), from random numbers of (random_seed, name) alone."""
    if isinstance(filler, float):
        return torch.full(shape, filler)
    if isinstance(filler, np.ndarray):
        return torch.from_numpy(filler)
    one_of(filler.type, ("constant", "gaussian", "msra"), name, "filler")
    if filler.type == "constant":
        only(filler, ("type", "value"), name)
        return torch.full(shape, filler.value)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    rng = np.random.Generator(np.random.Philox(key=[random_seed, key]))
    only(filler, ("type", "std", "mean") if filler.type == "gaussian" else ("type",), name)
    fan_in = int(np.prod(shape[1:]))
    std = filler.std if filler.type == "gaussian" else (2 / fan_in) ** 0.5
    return torch.from_numpy(rng.normal(filler.mean, std, shape).astype(np.float32))


def shape_text(shape):
    """64x3x3x3; scalar for no dimension."""
    return "x".join(map(str, shape)) or "scalar"
