"""The meta batches: training images as a test would show them, read from train_lmdb."""

from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown


class MetaImages:
    """`count` training images, drawn by `random_seed` once for the whole run; a batch of them for each iteration.
    means: Experiment.channel_means."""

    def __init__(self, manifest, facts, count, random_seed, means=()):
        self.seed = random_seed
        chosen = np.sort(np.random.default_rng(random_seed).permutation(manifest.train_images)[:count])
        self.images, self.labels = _read(manifest.folder / "train_lmdb", chosen)
        pad = slice(facts.pad, facts.pad + facts.size)
        self.images = self.images[:, :, pad, pad]
        if means:
            self.mean = np.array(means, np.float32)[:, None, None]
        else:
            self.mean = _mean(manifest.folder / "mean_train.binaryproto")[:, pad, pad] if facts.mean else 0

    def batch(self, size, iteration):
        """(float32 images, centre crops less the mean, not mirrored; labels) of one meta step, no image twice; drawn
        from the seed and the iteration alone, so that a resumed run sees the same."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, iteration, 1, 0]))
        chosen = rng.permutation(len(self.images))[:size]
        return self.images[chosen].astype(np.float32) - self.mean, self.labels[chosen]


def _read(folder, positions):
    """(uint8 images, labels) of some records of an LMDB, in order. Raises UserError, naming the folder."""
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
            data = [caffe_pb2.Datum.FromString(transaction.get(b"%08d" % at) or b"") for at in positions]
        images = [np.frombuffer(d.data, np.uint8).reshape(d.channels, d.height, d.width) for d in data]
        return np.stack(images), np.array([d.label for d in data])
    except (lmdb.Error, DecodeError, ValueError) as error:
        raise UserError(
            f"{shown(Path(folder))} is no LMDB of images of one size ({error}): build the data set again"
        ) from None


def _mean(path):
    blob = caffe_pb2.BlobProto.FromString(path.read_bytes())
    return np.array(blob.data, np.float32).reshape(blob.channels, blob.height, blob.width)
