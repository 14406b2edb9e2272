"""What this project needs of pycaffe where there is none: the messages, and NetSpec to write networks with. See the README beside.

Python finds pycaffe first wherever it is installed: this folder stands last on the path.
"""

from caffe.net_spec import NetSpec, layers, params, to_proto
from caffe.proto import caffe_pb2

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


class Layer:
    """The base class of Python layers, which pycaffe alone runs."""


__all__ = ["TEST", "TRAIN", "Layer", "NetSpec", "layers", "params", "to_proto"]


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    from hkd.base.cli import UserError

    raise UserError(f"caffe.{name} needs pycaffe, which is not installed here: make setup, or use --engine torch")
