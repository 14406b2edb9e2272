"""A network as the text of a prototxt file, and as Caffe builds it."""

import tempfile

import caffe
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from hkd.base.files import naming

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


def text(network, header):
    """The network as a prototxt file with `header` (lines) as comments at its head."""
    return "".join(f"# {line}\n" for line in header) + text_format.MessageToString(network)


def parse(content):
    """The NetParameter of a prototxt. Raises google.protobuf.text_format.ParseError."""
    return text_format.Parse(content, caffe_pb2.NetParameter())


def without_cuda(network):
    """The names of layers that compute on the CPU wherever the others do: a Python layer has no CUDA code."""
    return [layer.name for layer in network.layer if layer.type == "Python"]


def built(network, facts, phase, shares=1):
    """The caffe.Net of one phase on the CPU, a batch divided by `shares` in place of its LMDBs. Caffe allocates nothing
    for its blobs until it is run."""
    return as_net(with_inputs(network, facts, shares), phase)


def as_net(network, phase):
    """The caffe.Net of a NetParameter."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        with naming(file.name):
            file.write(text_format.MessageToString(network))
            file.flush()
        return caffe.Net(file.name, phase)


def with_inputs(network, facts, shares=1):
    """The network with Input layers in place of its Data layers, of the same phases and batches, divided by `shares`."""
    bare = caffe_pb2.NetParameter(name=network.name)
    for layer in network.layer:
        if layer.type != "Data":
            bare.layer.add().CopyFrom(layer)
            continue
        batch = layer.data_param.batch_size // shares
        for top, shape in zip(layer.top, ([batch, facts.channels, facts.size, facts.size], [batch]), strict=False):
            made = bare.layer.add(name=top, type="Input", top=[top], include=layer.include)
            made.input_param.shape.add(dim=shape)
    return bare
