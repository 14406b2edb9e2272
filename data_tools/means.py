"""The mean files: what is subtracted from every image, measured on the training images or given by hand.

A mean that is given is part of the data set's digest (manifest.json: pixels_sha256): other networks come of it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.paper.settings import number_text


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
    """The Given of --mean R,G,B (one number for grey images): the same mean for all pixels of a channel. Raises UserError."""
    if not facts.mean:
        raise UserError(f"--mean {text}: {facts.title}'s networks subtract no mean: leave --mean out")
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != facts.channels or not all(0 <= value <= 255 for value in values):
        kind = "three numbers, of red, green and blue," if facts.channels == 3 else "one number"
        raise UserError(f"--mean {text}: expected {kind} from 0 to 255, as 125.307,122.95,113.865")
    mean = np.empty((facts.channels, facts.size, facts.size), np.float32)
    mean[...] = np.array(values, np.float32)[:, None, None]
    return Given(",".join(map(number_text, values)), mean)


def write(folder, mean, pad):
    """mean_train.binaryproto, 0 in the padding, and mean_test.binaryproto. mean: C x H x W, float32."""
    write_mean(Path(folder) / "mean_train.binaryproto", np.pad(mean, ((0, 0), (pad, pad), (pad, pad))))
    write_mean(Path(folder) / "mean_test.binaryproto", mean)


def write_mean(path, mean):
    """mean: C x H x W, float32, as Caffe's own compute_image_mean writes it."""
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width, data=mean.ravel())
    path.write_bytes(blob.SerializeToString())
