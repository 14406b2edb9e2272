"""What is in the LMDBs of a data set against its manifest: every record is read, once a machine.

A record is that of data_tools/make_lmdb.py: its key is its place, its value a Datum of uint8 pixels and a label. Caffe does not
look: it trains on zeros, takes a label as an index into memory, and aborts on an empty record.

What was read is remembered by a stamp, the sizes, times and inodes of all files: beside them, or where the user may not write
there (a read-only mount) in the user's folder for such things. Where neither can be written they are read each time.
"""

import hashlib
import math
import os
from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.apart import Crashed, apart
from hkd.base.cli import UserError
from hkd.base.files import shown, write_whole
from hkd.paper.datasets import FILES, INDEX_FILE, MANIFEST, MEAN_FILES, files, rebuild

STAMP = ".verified"
CHECKS = 1
"""Goes up when `verify` asks for more, so that what was read before is read again."""


def key(position):
    """The key of a record: the positions in order are the keys in order."""
    return b"%08d" % position


def label_bytes(label, facts):
    """A label as it goes into the digest: a byte, two where a byte does not hold every class."""
    return label.to_bytes(1 if facts.classes <= 256 else 2, "little")


def verify(manifest, facts, again=False, say=lambda line: None):
    """Raises UserError, naming the file and the record, unless the data set is, record by record, what its manifest says.

    Reads everything only where it was not read on this machine since it was last written, or `again` asks for it.
    """
    before = stamp(manifest, facts)
    if not again and any(_holds(place, before) for place in _places(manifest.folder)):
        return
    say(f"{shown(manifest.folder)}: reading every record, once a machine")
    try:
        with apart(_read_all, manifest, facts):
            pass
    except Crashed as error:
        raise _damaged(manifest, manifest.folder, f"cannot be read ({error})") from None
    if stamp(manifest, facts) != before:
        raise UserError(f"{shown(manifest.folder)} was changed while it was read: run the same command again")
    for place in _places(manifest.folder):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, before)
            return
        except OSError:
            continue  # read-only, full, someone else's


def stamp(manifest, facts):
    """What a stamp holds where these files, as they are now, were read."""
    lines = [f"hkd-caffe {CHECKS}"]
    for file in (MANIFEST, *files(manifest, facts)):
        found = (manifest.folder / file).stat()
        lines.append(f"{file} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}")
    return "\n".join(lines) + "\n"


def _holds(place, text):
    try:
        return place.is_file() and place.read_text(errors="replace") == text
    except OSError:
        return False


def _places(folder):
    """Where a stamp may be, the first one first."""
    yield folder / STAMP
    home = os.environ.get("HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or (home and f"{home}/.cache")
    if cache:
        yield Path(cache) / "hkd-caffe" / (hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16] + STAMP)


def _damaged(manifest, path, what):
    return UserError(f"{shown(path)}: {what}: damaged after it was built? {rebuild(manifest.folder)}")


# --- what is read, in a process of its own ----------------------------------------------------------------------------


def _read_all(result, manifest, facts):
    size = facts.size + 2 * manifest.pad
    digest, sums = hashlib.sha256(), np.zeros((facts.channels, size, size), np.uint64)
    for label, pixels in _images(manifest, facts, FILES[0], manifest.train_images, sums.shape):
        digest.update(label_bytes(label, facts))
        digest.update(pixels)
        if facts.mean:
            sums += np.frombuffer(pixels, np.uint8).reshape(sums.shape)
    for label, pixels in _images(manifest, facts, FILES[1], manifest.test_images, (facts.channels, *[facts.size] * 2)):
        digest.update(label_bytes(label, facts))
        digest.update(pixels)
    mean, pad = None, manifest.pad
    if facts.mean:
        measured = (sums / manifest.train_images).astype(np.float32)[:, pad : size - pad, pad : size - pad]
        mean = _read_mean(manifest, MEAN_FILES[1], measured.shape) if manifest.mean else measured
    if manifest.mean:
        digest.update(mean.tobytes())
    if digest.hexdigest() != manifest.pixels:
        what = f"labels and pixels have sha256 {digest.hexdigest()[:12]}, those that were built {manifest.pixels[:12]}"
        raise _damaged(manifest, manifest.folder, what)
    if facts.mean:
        padded = np.pad(mean, ((0, 0), (pad, pad), (pad, pad)))
        for file, expected in zip(MEAN_FILES, (padded, mean), strict=True):
            if not np.array_equal(_read_mean(manifest, file, expected.shape), expected):
                raise _damaged(manifest, manifest.folder / file, "is not the mean of the training images")
    if manifest.indexed:
        _check_index(manifest)


def _images(manifest, facts, file, count, shape):
    """(label, pixels as bytes) of each record, in order."""
    for path, position, datum in _records(manifest, file, count, shape):
        if not 0 <= datum.label < facts.classes:
            what = f"record {position} has label {datum.label}, expected 0 to {facts.classes - 1}"
            raise _damaged(manifest, path, what)
        yield datum.label, datum.data


def _records(manifest, file, count, shape):
    """(path, position, Datum) of each of the `count` records of an LMDB, every Datum of the given shape."""
    path = (manifest.folder / file).parent
    try:
        with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
            entries = transaction.stat()["entries"]
            if entries != count:
                raise _damaged(manifest, path, f"has {entries:,} records, its manifest says {count:,}")
            for position, (name, value) in zip(range(count), transaction.cursor(), strict=True):
                if name != key(position):
                    raise _damaged(manifest, path, f"record {position} has another key, {name[:20]!r}")
                yield path, position, _datum(manifest, path, position, value, shape)
    except (lmdb.Error, ValueError) as error:
        raise _damaged(manifest, path, f"cannot be read ({error})") from None


def _datum(manifest, path, position, value, shape):
    try:
        datum = caffe_pb2.Datum.FromString(value)
    except DecodeError:
        raise _damaged(manifest, path, f"record {position} is no Datum") from None
    found = (datum.channels, datum.height, datum.width)
    if datum.encoded or datum.float_data or found != shape or len(datum.data) != math.prod(shape):
        what = f"record {position} is not an image of {' x '.join(map(str, shape))} bytes"
        raise _damaged(manifest, path, what if value else f"record {position} is empty")
    return datum


def _read_mean(manifest, file, expected):
    """A mean file as float32 of the shape `expected`."""
    path = manifest.folder / file
    try:
        blob = caffe_pb2.BlobProto.FromString(path.read_bytes())
    except DecodeError:
        raise _damaged(manifest, path, "is no mean file of Caffe") from None
    if (blob.channels, blob.height, blob.width) != expected or len(blob.data) != math.prod(expected):
        raise _damaged(manifest, path, f"is no mean of {' x '.join(map(str, expected))} pixels")
    return np.array(blob.data, np.float32).reshape(expected)


def _check_index(manifest):
    """Each training image has its place in the official order, and no two have the same."""
    path = (manifest.folder / INDEX_FILE).parent
    places = [datum.label for *_, datum in _records(manifest, INDEX_FILE, manifest.train_images, (1, 1, 1))]
    if sorted(places) != list(range(manifest.train_images)):
        raise _damaged(manifest, path, "does not name each training image once")
