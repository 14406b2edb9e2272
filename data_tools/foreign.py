"""LMDBs that another program wrote for Caffe: every record checked, its pixels taken over.

Caffe's convert_imageset, and whatever decodes with OpenCV, stores blue, green, red; so a JPEG or PNG inside of a record is decoded in
that order, and the order of plain pixels stays as it is: weights and mean files of elsewhere go on to fit.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError
from PIL import Image

import gathered
import pictures
from hkd.base.apart import Crashed, apart
from hkd.base.cli import UserError, explain
from hkd.paper.datasets import MANIFEST, MOST_CLASSES

DATA = "data.mdb"
ENDS = {"train": ("train_lmdb", "train"), "test": ("test_lmdb", "val_lmdb", "test", "val")}
"""What the folders of the two are called, or end in: cifar10_train_lmdb, ilsvrc12_val_lmdb."""


def find(source):
    """{split: folder of an LMDB} in a folder, {None: folder} for one that is to be split, None where there is no LMDB. Raises UserError."""
    source = Path(source)
    if (source / DATA).is_file():
        return {None: source}
    inside = sorted(path.parent for path in source.glob(f"*/{DATA}"))
    if not inside:
        if [*source.glob("*.ldb"), *source.glob("*.sst")]:
            raise UserError(f"{source}: a LevelDB: write the images as an LMDB (convert_imageset -backend lmdb)")
        return None
    if (source / MANIFEST).exists():
        raise UserError(
            f"{source}: a data set that make_lmdb.py built: name what it was built from, {source}/{MANIFEST} says it"
        )
    found = {}
    for split, ends in ENDS.items():
        fitting = [path for path in inside if path.name.endswith(ends)]
        if len(fitting) != 1:
            have = ", ".join(path.name for path in inside)
            raise UserError(
                f"{source}: LMDBs {have}: expected one whose name ends in train_lmdb and one in test_lmdb or val_lmdb"
            )
        found[split] = fitting[0]
    return found


@dataclass(frozen=True)
class Records:
    """What was read of LMDBs, in their order. channels: their names, as far as they are known."""

    gathered: gathered.Gathered
    labels: tuple[int, ...]
    names: tuple[str, ...]
    splits: tuple[str | None, ...]
    channels: tuple[str, ...]


def read(found, wanted, stream, folder):
    """Reads the LMDBs of `find` into `stream`, a file in `folder`; returns the Records. Raises UserError, naming the record."""
    where = " and ".join(map(str, found.values()))
    try:
        # In a process of its own: LMDB crashes on some damaged files.
        with apart(_read, found, wanted, stream, folder) as result:
            kept = np.load(io.BytesIO(result.read()), allow_pickle=False)
    except Crashed as error:
        raise UserError(f"{where}: cannot be read ({error}): damaged, or no LMDB of Caffe? copy it again") from None
    records = int(kept["train"])
    splits = tuple(found) if len(found) == 1 else ("train", "test")
    counts = (len(kept["labels"]),) if len(found) == 1 else (records, len(kept["labels"]) - records)
    names = tuple(f"{found[split].name}, record {i}" for split, n in zip(splits, counts, strict=True) for i in range(n))
    return Records(
        gathered.Gathered(tuple(kept["shape"].tolist()), tuple(map(bytes, kept["digests"])), str(kept["sha256"])),
        tuple(kept["labels"].tolist()),
        names,
        tuple(split for split, n in zip(splits, counts, strict=True) for _ in range(n)),
        tuple(str(name) for name in kept["channels"]),
    )


# --- in a process of its own ------------------------------------------------------------------------------------------------


def _read(result, found, wanted, stream, folder):
    seen = _Seen()
    where = next(iter(found.values())).parent
    try:
        whole = gathered.gather(where, _entries(found, seen, wanted), wanted, stream, folder)
    except OSError as error:
        raise UserError(explain(error)) from None
    digests = np.frombuffer(b"".join(whole.digests), np.uint8).reshape(-1, 16)
    kept = {"shape": whole.shape, "digests": digests, "sha256": whole.sha256, "labels": seen.labels}
    content = io.BytesIO()
    np.savez(content, **kept, train=seen.counts.get("train", 0), channels=seen.channels(whole.shape[0]))
    result.write(content.getvalue())


class _Seen:
    """What the records said beside their pixels."""

    def __init__(self):
        self.labels, self.counts, self.encoded = [], {}, set()

    def channels(self, count):
        if count == 1:
            return ["grey"]
        return ["blue", "green", "red"] if self.encoded == {True} else ["first", "second", "third"]


def _entries(found, seen, wanted):
    """(name, load) of each record, as gathered.gather takes them."""
    for split, path in found.items():
        try:
            with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
                if not transaction.stat()["entries"]:
                    raise UserError(f"{path}: no record in it")
                for position, (key, value) in enumerate(transaction.cursor()):
                    name = f"{path.name}, record {position} ({key[:40].decode(errors='backslashreplace')})"
                    seen.counts[split] = position + 1
                    yield name, lambda value=value: _load(value, seen, wanted)
        except lmdb.Error as error:
            raise UserError(f"{path}: cannot be read ({error}): damaged, or no LMDB? copy it again") from None


def _load(value, seen, wanted):
    try:
        datum = caffe_pb2.Datum.FromString(value)
    except DecodeError:
        raise pictures.Wrong("no Datum of Caffe") from None
    if not 0 <= datum.label < MOST_CLASSES or not datum.HasField("label"):
        said = f"label {datum.label}" if datum.HasField("label") else "no label"
        raise pictures.Wrong(f"{said}: expected 0 to {MOST_CLASSES - 1}")
    seen.labels.append(datum.label)
    seen.encoded.add(datum.encoded)
    if datum.encoded:
        image = pictures.fitted(pictures.decoded(datum.data), wanted.colours)
        return value, image if image.mode == "L" else Image.merge("RGB", image.split()[::-1])
    if datum.float_data:
        raise pictures.Wrong("numbers with a fraction (float_data): expected pixels of 8 bits")
    if datum.channels not in (1, 3):
        raise pictures.Wrong(f"{datum.channels} channels: expected 1 or 3")
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) < 1 or len(datum.data) != datum.channels * datum.height * datum.width:
        raise pictures.Wrong(f"{len(datum.data):,} bytes, and {' x '.join(map(str, shape))} pixels")
    array = np.frombuffer(datum.data, np.uint8).reshape(shape)
    if datum.channels == 3 and wanted.colours == pictures.GREY:
        raise pictures.Wrong("plain pixels, whose order of colours is not known, cannot be made --grey: leave it out")
    return value, Image.fromarray(array[0] if datum.channels == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
