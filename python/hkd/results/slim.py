"""A student's caffemodel without the weights of the teacher beside it, which are kept once, by themselves; and whole again."""

import hashlib

from caffe.proto import caffe_pb2

from hkd.base.files import sha256
from hkd.networks import resnet
from hkd.stages import surgery

REMEDY = "take it from its commit again, or delete it"


def own_layers(caffemodel):
    """The bytes of a caffemodel without the teacher's layers: for the student's own network."""
    network = caffe_pb2.NetParameter.FromString(caffemodel)
    own = [layer for layer in network.layer if not _of_teacher(layer)]
    kept = caffe_pb2.NetParameter(name=network.name, layer=own)
    return kept.SerializeToString(deterministic=True)


def own_weights(caffemodel):
    """The bytes of a caffemodel whose layers of the teacher have no weights: it can be made whole again."""
    network = caffe_pb2.NetParameter.FromString(caffemodel)
    for layer in network.layer:
        if _of_teacher(layer):
            del layer.blobs[:]
    return network.SerializeToString(deterministic=True)


def whole(path, teachers, digest):
    """The bytes with a sha256 that the file at `path` comes to, as it is or with the weights of one of the `teachers` (caffemodels)
    put back; None where none of them gives it. Raises UserError for a file that is no caffemodel."""
    if sha256(path) == digest:
        return path.read_bytes()
    for teacher in teachers:
        blobs = {layer.name: layer.blobs for layer in surgery.read(teacher, REMEDY).layer}
        network = surgery.read(path, REMEDY)
        for layer in filter(_of_teacher, network.layer):
            layer.blobs.extend(blobs.get(layer.name.removeprefix(resnet.TEACHER), []))
        content = network.SerializeToString(deterministic=True)
        if hashlib.sha256(content).hexdigest() == digest:
            return content
    return None


def _of_teacher(layer):
    return layer.name.startswith(resnet.TEACHER)
