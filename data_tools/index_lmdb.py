"""train_index_lmdb: for each record of train_lmdb, in its order, the place of that image in the official order.

A network that keeps something for each image reads it by a Data layer of its own beside the one of the images, with the same
batch size and no transform: Caffe reads both in the order of their keys, so they stay in step. A record is a Datum of 1 x 1 x 1
zero pixel (the Data layer wants one) whose label is the index; Caffe's float32 label holds whole numbers up to 2^24.
"""

from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.paper.contents import key
from hkd.paper.datasets import FILES, INDEX_FILE


def write(folder, order):
    """Writes it into `folder`: record p holds order[p]."""
    datum = caffe_pb2.Datum(channels=1, height=1, width=1, data=b"\0")
    path = folder / Path(INDEX_FILE).parent
    path.mkdir()
    with lmdb.open(str(path), map_size=len(order) * 256 + (1 << 20), sync=False, lock=False, mode=0o644) as environment:
        with environment.begin(write=True) as transaction:
            for position, index in enumerate(order):
                datum.label = int(index)
                transaction.put(key(position), datum.SerializeToString(), append=True)
        environment.sync(True)


def check(manifest, source, images, labels, order):
    """Raises UserError unless each record p of the train_lmdb that stands is, label and pixels, image order[p] of `source`:
    a later NumPy may shuffle otherwise, and another source may have been named.
    """
    folder = manifest.folder / Path(FILES[0]).parent
    wrong = (
        f"built from other images, or shuffled by another NumPy? name its --source, or delete {shown(manifest.folder)} "
        f"and build it again with --index"
    )
    if len(labels) != manifest.train_images:
        raise UserError(
            f"{shown(folder)}: {manifest.train_images:,} training images, but {source} has {len(labels):,}: {wrong}"
        )
    _, channels, height, width = images.shape
    pad = manifest.pad
    padded = (channels, height + 2 * pad, width + 2 * pad)
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
            for position, index in enumerate(order):
                datum = caffe_pb2.Datum.FromString(transaction.get(key(position)) or b"")
                image = np.frombuffer(datum.data, np.uint8).reshape(padded)[:, pad : pad + height, pad : pad + width]
                if datum.label != labels[index] or not np.array_equal(image, images[index]):
                    raise UserError(f"{shown(folder)}: record {position} is not image {index} of {source}: {wrong}")
    except (lmdb.Error, DecodeError, ValueError) as error:
        raise UserError(f"{shown(folder)}: cannot be read ({error}): {wrong}") from None
