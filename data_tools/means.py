"""The mean files: what is subtracted from every image, measured on the training images or given by hand.

A mean that is given is part of the data set's digest (manifest.json: pixels_sha256): other networks come of it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.paper.settings import number_text

LARGEST_FILE = 64 << 20  # bytes


@dataclass(frozen=True)
class Given:
    """A mean that was given. text: as it was; mean: C x H x W, float32, of an image without padding."""

    text: str
    mean: np.ndarray

    @property
    def said(self):
        """What the manifest says of it."""
        return {"given": self.text, "sha256": hashlib.sha256(self.mean.tobytes()).hexdigest()}


def given(text, facts):
    """The Given of --mean: R,G,B (one number for grey images), the same for all pixels of a channel, or a file of Caffe. Raises
    UserError."""
    if not facts.mean:
        raise UserError(f"--mean {text}: {facts.title}'s networks subtract no mean: leave --mean out")
    if Path(text).is_file():
        mean = _of_file(text, facts)
        return Given(str(Path(text).absolute()), mean)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != facts.channels or not all(0 <= value <= 255 for value in values):
        kind = "three numbers, of red, green and blue," if facts.channels == 3 else "one number"
        raise UserError(
            f"--mean {text}: expected {kind} from 0 to 255, as {'125.307,122.95,113.865' if facts.channels == 3 else '72.9'}, or a file "
            f"of Caffe that is there, as mean.binaryproto"
        )
    if 0 < max(values) <= 1:
        scaled = ",".join(number_text(255 * value) for value in values)
        raise UserError(f"--mean {text}: of pixels from 0 to 1, and these are from 0 to 255: give --mean {scaled}")
    mean = np.empty((facts.channels, facts.size, facts.size), np.float32)
    mean[...] = np.array(values, np.float32)[:, None, None]
    return Given(",".join(map(number_text, values)), mean)


def _of_file(name, facts):
    """The mean in a binaryproto file, as Caffe's compute_image_mean writes it, C x H x W. Raises UserError."""
    path, shape = Path(name), (facts.channels, facts.size, facts.size)
    blob = caffe_pb2.BlobProto()
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError
        blob.ParseFromString(path.read_bytes())
        found = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
        mean = np.array(blob.data, np.float32).reshape(found)
    except (DecodeError, ValueError):
        raise UserError(f"--mean {name}: no mean file of Caffe (a BlobProto of float numbers)") from None
    mean = mean[0] if mean.ndim == 4 and len(mean) == 1 else mean
    if mean.shape != shape:
        raise UserError(
            f"--mean {name}: {' x '.join(map(str, mean.shape))} numbers, and images of {facts.name} are {' x '.join(map(str, shape))}: "
            f"give that of these images, or leave --mean out"
        )
    wrong = mean[~((mean >= 0) & (mean <= 255))]
    if wrong.size:
        raise UserError(f"--mean {name}: {wrong[0]} in it: expected pixel values, 0 to 255")
    return mean


def write(folder, mean, pad):
    """mean_train.binaryproto, 0 in the padding, and mean_test.binaryproto. mean: C x H x W, float32."""
    write_mean(Path(folder) / "mean_train.binaryproto", np.pad(mean, ((0, 0), (pad, pad), (pad, pad))))
    write_mean(Path(folder) / "mean_test.binaryproto", mean)


def write_mean(path, mean):
    """mean: C x H x W, float32, as Caffe's own compute_image_mean writes it."""
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width, data=mean.ravel())
    path.write_bytes(blob.SerializeToString())
