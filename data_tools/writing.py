"""The files of a data set: LMDBs, mean files, manifest."""

import hashlib
import json
import sys
from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from rich.progress import track

import index_lmdb
import means
from hkd.base.files import write_whole
from hkd.paper.contents import key, label_bytes
from hkd.paper.datasets import FILES, INDEX_FILE, MANIFEST, MEAN_FILES

IMAGES_A_TRANSACTION = 4096
BYTES_A_TRANSACTION = 24 << 20
"""LMDB holds the pages of a transaction in memory: at most this much of larger images."""


def shuffled(count, seed):
    """The order of the training images in train_lmdb: record p is image order[p]."""
    return np.random.default_rng(seed).permutation(count)


def write(content, folder, pad, seed, index, mean, quiet):
    """Writes all files of a content.Content into `folder`, which is made. mean: a means.Given, or None for what is measured."""
    facts, (train, labels), (test, test_labels) = content.facts, content.train, content.test
    folder.mkdir()
    order = shuffled(len(labels), seed)
    digest = hashlib.sha256()
    sums = np.zeros(train.shape[1:], np.uint64) if facts.mean else None
    _write_lmdb(folder / "train_lmdb", facts, train, labels, order, pad, digest, quiet, sums)
    _write_lmdb(folder / "test_lmdb", facts, test, test_labels, np.arange(len(test_labels)), 0, digest, quiet)
    if index:
        index_lmdb.write(folder, order)
    if facts.mean:
        means.write(folder, mean.mean if mean else (sums / len(order)).astype(np.float32), pad)
    if mean:
        digest.update(mean.mean.tobytes())
    manifest = {
        "dataset": facts.name,
        "train": _counts(facts, labels) | {"size": facts.size + 2 * pad},
        "test": _counts(facts, test_labels) | {"size": facts.size},
        "channels": list(content.channels),
        "layout": "Datum: uint8, channels x height x width",
        "pad": pad,
        "seed": seed,
        "official": content.official,
        "source": content.source,
        "source_sha256": content.sha256,
        "pixels_sha256": digest.hexdigest(),
        "bytes": {
            file: (folder / file).stat().st_size
            for file in (*FILES, *MEAN_FILES, INDEX_FILE)
            if (folder / file).exists()
        },
    }
    if mean:
        manifest["mean"] = mean.said
    write_manifest(folder, manifest | content.said)


def write_manifest(folder, manifest):
    """Writes it whole; returns its path."""
    path = Path(folder) / MANIFEST
    write_whole(path, json.dumps(manifest, indent=1) + "\n")
    return path


def _write_lmdb(path, facts, images, labels, order, pad, digest, quiet, sums=None):
    """images N x C x H x W uint8 and labels N, written in `order` with `pad` zero pixels on each side; every label and padded
    pixel goes into `digest`, and the pixels of every image onto `sums` (C x H x W) if given. Keys are the positions, so that a
    cursor reads them in order.
    """
    _, channels, height, width = images.shape
    padded = np.zeros((channels, height + 2 * pad, width + 2 * pad), np.uint8)
    inner = padded[:, pad : pad + height, pad : pad + width]
    # A value over half a page lies in whole pages of its own.
    map_size = len(order) * (padded.size // 4096 + 2) * 4096 + (64 << 20)
    step = min(IMAGES_A_TRANSACTION, max(1, BYTES_A_TRANSACTION // padded.size))
    path.mkdir()  # LMDB would give the folder the mode of the file, and nobody but root could open what is in it
    with lmdb.open(str(path), map_size=map_size, sync=False, lock=False, mode=0o644) as environment:
        starts = range(0, len(order), step)
        for start in track(starts, description=path.name, disable=quiet or not sys.stdout.isatty(), transient=True):
            # A new message now and then: protobuf keeps all that was ever put into one as long as it lives.
            datum = caffe_pb2.Datum(channels=channels, height=padded.shape[1], width=padded.shape[2])
            with environment.begin(write=True) as transaction:
                for position in range(start, min(start + step, len(order))):
                    index = order[position]
                    inner[...] = images[index]
                    if sums is not None:
                        sums += inner
                    datum.data = padded.tobytes()
                    datum.label = int(labels[index])
                    digest.update(label_bytes(datum.label, facts))
                    digest.update(datum.data)
                    transaction.put(key(position), datum.SerializeToString(), append=True)
        environment.sync(True)


def _counts(facts, labels):
    return {"images": len(labels), "per_class": np.bincount(labels, minlength=facts.classes).tolist()}
