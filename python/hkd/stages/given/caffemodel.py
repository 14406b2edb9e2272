"""A caffemodel: layers of our names, alone or as the teacher's in a student's network, and what its Data layer did to images."""

import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.networks import losses, resnet
from hkd.stages.given.layers import Layers

BESIDE = (losses.REGRESSOR, losses.COUNTED, losses.WEIGHTS)
"""What the names of layers with blobs begin with that a stage has beside its student."""


def read(path):
    """The NetParameter in a caffemodel. Raises UserError for anything else, and for the form that Caffe had before 2015."""
    try:
        network = caffe_pb2.NetParameter.FromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{shown(path)} is no caffemodel, or a torn one: fetch it again") from None
    if network.layers:
        raise UserError(f"{shown(path)} is of an old form: renew it with Caffe's upgrade_net_proto_binary")
    if not any(layer.blobs for layer in network.layer):
        raise UserError(f"{shown(path)} has no layer with weights: name a trained caffemodel")
    return network


def networks(path, network):
    """{prefix: Layers}: of the network itself, '', and of the teacher beside it, 'teacher/', whichever has layers."""
    found, beside = {"": Layers(), resnet.TEACHER: Layers()}, []
    for layer in network.layer:
        if not layer.blobs:
            continue
        prefix = resnet.TEACHER if layer.name.startswith(resnet.TEACHER) else ""
        if layer.name.startswith(BESIDE):
            beside.append(layer.name)
            continue
        own = layer.name.removeprefix(prefix)
        if own in found[prefix].blobs:
            raise UserError(f"{shown(path)} has layer {layer.name} twice: name a caffemodel that Caffe wrote")
        found[prefix].put(own, [_array(path, layer.name, blob) for blob in layer.blobs], f"layer {layer.name}")
    found = {prefix: layers for prefix, layers in found.items() if layers.blobs}
    for prefix, layers in found.items():
        others = [other + name for other, rest in found.items() if other != prefix for name in rest.blobs]
        layers.unused += [*others, *beside]
    return found


def _array(path, name, blob):
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    values = np.array(blob.data or blob.double_data, np.float32)
    if values.size != np.prod(shape, dtype=np.int64):
        raise UserError(
            f"{shown(path)}: layer {name} has {values.size} values of {'x'.join(map(str, shape))}: it is torn"
        )
    return values.reshape(shape)


def transform(network):
    """(mean of each channel or (), factor) of the images that its Data layers fed it: (), 1.0 where these say nothing of it, or name
    a mean image."""
    for layer in network.layer:
        if layer.type == "Data":
            return tuple(layer.transform_param.mean_value), layer.transform_param.scale
    return (), 1.0
