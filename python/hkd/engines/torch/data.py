"""The Data layer: an LMDB decoded once into memory, batches in its order, cropped, mirrored and the mean subtracted."""

from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError
from numpy.lib.stride_tricks import sliding_window_view

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.engines.torch import fused
from hkd.engines.torch.fields import one_of, only

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST


class Feed:
    """The batches of one Data layer, in the order of the LMDB and over again (data_layer.cpp).

    images: uint8, N x C x H x W; labels: int64, N. Batch k holds images k * batch to (k + 1) * batch - 1, modulo N. The
    crops and mirrors of batch k are drawn from (random_seed, k) alone.
    """

    def __init__(self, layer, phase, random_seed):
        where = f"layer {layer.name}"
        only(layer.data_param, ("source", "batch_size", "backend"), where)
        only(layer.transform_param, ("mirror", "crop_size", "mean_file", "mean_value"), where)
        one_of(layer.data_param.backend, (caffe_pb2.DataParameter.LMDB,), where, "backend")
        # A layer may have a phase of its own (net.cpp, Init).
        self.phase, self.seed = layer.phase if layer.HasField("phase") else phase, random_seed
        self.batch = layer.data_param.batch_size
        self.images, self.labels = read_lmdb(layer.data_param.source)
        self.crop, self.mirror = layer.transform_param.crop_size, layer.transform_param.mirror
        self.mean = _mean(layer.transform_param, self.images.shape[1:], where)
        self.next_batch = 0

    @property
    def shape(self):
        """Of a batch: N x channels x height x width, after cropping."""
        _, channels, height, width = self.images.shape
        return (self.batch, channels, self.crop or height, self.crop or width)

    @property
    def crops(self):
        """How many crops an image has, mirrored ones counted."""
        room, mirrored = self._room, 2 if self.mirror else 1
        return mirrored * (room[0] + 1) * (room[1] + 1) if self.crops_at_random else 1

    @property
    def crops_at_random(self):
        """Whether each image is cropped at a random place: in the TRAIN phase alone."""
        return bool(self.crop) and self.phase == TRAIN

    @property
    def _room(self):
        """The rows and columns that a crop leaves out."""
        _, _, height, width = self.shape
        return self.images.shape[2] - height, self.images.shape[3] - width

    def slots(self, k):
        """A number for each image of batch k that its crop alone has, of len(images) * crops."""
        tops, lefts, flips = self._draw(k)
        at = np.arange(k * self.batch, (k + 1) * self.batch) % len(self.images)
        if self.crops_at_random:
            at = (at * (self._room[0] + 1) + tops) * (self._room[1] + 1) + lefts
        return at * 2 + flips if self.mirror else at

    def skip(self):
        """Leaves one batch out, as if it had been trained on."""
        self.next_batch += 1

    def next(self):
        """(float32 images, int64 labels) of the next batch."""
        # Made when it is asked for: a thread that made it ahead was no faster, it took its time from the iteration's.
        self.next_batch += 1
        return self.make(self.next_batch - 1)

    def make(self, k):
        """(float32 images, int64 labels) of batch k."""
        chosen = np.arange(k * self.batch, (k + 1) * self.batch) % len(self.images)
        drawn = self._draw(k)
        made = fused.crops(self.images, chosen, *drawn, self.mean, self.shape[2:])
        return self._cropped(chosen, *drawn) if made is None else made, self.labels[chosen]

    def _cropped(self, chosen, tops, lefts, flips):
        """What fused.crops makes, without a compiler."""
        out = self._windows(self.images)[chosen, :, tops, lefts].astype(np.float32)
        if self.mean is not None:  # at the position of the crop (data_transformer.cpp)
            out -= self._windows(self.mean[None])[0, :, tops, lefts]
        out[flips] = out[flips, :, :, ::-1]
        return out

    def _windows(self, images):
        """N x C x tops x lefts x height x width: every crop of every image, without a copy."""
        return sliding_window_view(images, self.shape[2:], axis=(2, 3))

    def _draw(self, k):
        """Where each image of batch k is cropped and whether it is mirrored: at random in training, else the centre.

        mirror has no phase check in Caffe; nor has it here.
        """
        room = self._room
        # Drawing advances the first word of the counter: with k there, neighbouring batches would share their numbers.
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, k, 0, 0]))
        if self.crops_at_random:
            tops, lefts = rng.integers(0, room[0] + 1, self.batch), rng.integers(0, room[1] + 1, self.batch)
        else:
            tops, lefts = (np.full(self.batch, room[axis] // 2) for axis in (0, 1))
        flips = rng.integers(0, 2, self.batch) if self.mirror else np.zeros(self.batch, int)
        return tops, lefts, flips.astype(bool)


def read_lmdb(folder):
    """(images, labels) of an LMDB of Datum messages, in the order of its keys. Raises UserError, naming the folder."""
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, max_readers=1) as environment:
            count = environment.stat()["entries"]
            with environment.begin() as transaction:
                for i, value in enumerate(transaction.cursor().iternext(keys=False)):
                    datum = caffe_pb2.Datum.FromString(value)
                    if i == 0:
                        images = np.empty((count, datum.channels, datum.height, datum.width), np.uint8)
                        labels = np.empty(count, np.int64)
                    images[i] = np.frombuffer(datum.data, np.uint8).reshape(images.shape[1:])
                    labels[i] = datum.label
        return images, labels
    except (lmdb.Error, DecodeError, ValueError, UnboundLocalError) as error:
        raise UserError(
            f"{shown(Path(folder))} is no LMDB of images of one size ({error}): build the data set again"
        ) from None


def _mean(transform, shape, where):
    """The mean image as float32, C x H x W, or None without one: that of mean_file, or a number a channel."""
    path, values = transform.mean_file, np.array(transform.mean_value, np.float32)
    if len(values):
        if len(values) not in (1, shape[0]) or path:
            raise UserError(f"{where}: {len(values)} times mean_value, and images of {shape[0]} channels")
        return np.ascontiguousarray(np.broadcast_to(values[:, None, None], shape))
    if not path:
        return None
    blob = caffe_pb2.BlobProto.FromString(Path(path).read_bytes())
    mean = np.array(blob.data, np.float32)
    if mean.size != np.prod(shape):
        raise UserError(f"{where}: {path} has {mean.size} values, an image {np.prod(shape)}")
    return mean.reshape(shape)
