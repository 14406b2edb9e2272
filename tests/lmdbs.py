"""LMDBs for tests: built by the data tool as a user does, and read back without it."""

import json

import lmdb
import numpy as np
from caffe.proto import caffe_pb2

from conftest import command

TOOL = "data_tools/make_lmdb.py"


def read_lmdb(folder):
    images, labels = [], []
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        for _, value in transaction.cursor():
            datum = caffe_pb2.Datum.FromString(value)
            images.append(np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width))
            labels.append(datum.label)
    return np.array(images), np.array(labels)


def read_mean(path):
    blob = caffe_pb2.BlobProto.FromString(path.read_bytes())
    return np.array(blob.data, np.float32).reshape(blob.channels, blob.height, blob.width)


def build(dataset, source, out, *more, **options):
    return command(TOOL, "--dataset", dataset, "--source", source, "--out", out, *more, **options)


def nothing_beside(out):
    """Neither a lock nor a folder that a build writes in."""
    return not list(out.parent.glob(f".{out.name}*"))


def nothing_left(out):
    return not out.exists() and nothing_beside(out)


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
