"""The data sets: what is known of each before any file is read, and what its manifest says once LMDBs are built.

The LMDBs are written by data_tools/make_lmdb.py. Networks and solver files are written from `Dataset` (so that they can
be generated with no data at hand); a stage that trains reads the `Manifest` beside the LMDBs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import shown


@dataclass(frozen=True)
class Dataset:
    """A data set as its authors publish it.

    channels, size: images are uint8, channels x size x size; colour channels in the order red, green, blue.
    pad:            zero pixels added on each side of a training image, and the random crop back to `size` they are for.
    mean:           whether the per-pixel mean of the training images is subtracted.
    """

    name: str
    classes: int
    channels: int
    size: int
    train_images: int
    test_images: int
    pad: int
    mean: bool
    title: str


DATASETS = {
    d.name: d
    for d in (
        # He et al. 2016, section 4.2: per-pixel mean subtracted, 4 pixels padded on each side.
        Dataset("cifar10", 10, 3, 32, 50_000, 10_000, pad=4, mean=True, title="CIFAR-10"),
        Dataset("cifar100", 100, 3, 32, 50_000, 10_000, pad=4, mean=True, title="CIFAR-100"),
        # Bae et al. 2019, section 3.1.3: "without data preprocessing".
        Dataset("mnist", 10, 1, 28, 60_000, 10_000, pad=0, mean=False, title="MNIST"),
        # Not in the paper; treated as MNIST, whose format it has.
        Dataset("fashion-mnist", 10, 1, 28, 60_000, 10_000, pad=0, mean=False, title="Fashion-MNIST"),
        # Preprocessing of these two is not stated: as CIFAR, padded by an eighth of the side (assumptions.py).
        Dataset("svhn", 10, 3, 32, 73_257, 26_032, pad=4, mean=True, title="SVHN"),
        Dataset("tiny-imagenet", 200, 3, 64, 100_000, 10_000, pad=8, mean=True, title="Tiny-ImageNet"),
    )
}


def dataset(name):
    """The Dataset of that name. Raises UserError, with the nearest name, for an unknown one."""
    if name not in DATASETS:
        raise did_you_mean(name, DATASETS, "data set")
    return DATASETS[name]


@dataclass(frozen=True)
class Manifest:
    """What make_lmdb.py wrote about the LMDBs in `folder`."""

    folder: Path
    train_images: int
    test_images: int
    pad: int
    seed: int
    pixels: str  # one sha256 over every label and pixel of both LMDBs, in their order
    official: bool  # byte for byte the data set that its authors published
    indexed: bool  # train_index_lmdb is there: the place of each training image in the official order


FILES = ("train_lmdb/data.mdb", "test_lmdb/data.mdb")
MEAN_FILES = ("mean_train.binaryproto", "mean_test.binaryproto")
INDEX_FILE = "train_index_lmdb/data.mdb"


def read_manifest(folder, facts):
    """The manifest of a built data set, or None where none is built. Raises UserError for one that is not whole, or is
    not the data set that `facts` describes: Caffe would abort on it, or worse, train on it.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.exists():
        return None
    rebuild = f"delete {shown(folder)} and build it again with data_tools/make_lmdb.py"
    try:
        written = json.loads(path.read_text())
        sizes = written["bytes"]
        manifest = Manifest(
            folder,
            written["train"]["images"],
            written["test"]["images"],
            written["pad"],
            written["seed"],
            written["pixels_sha256"],
            written["official"],
            INDEX_FILE in sizes,
        )
        name = written["dataset"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{shown(path)}: not a manifest of make_lmdb.py: {rebuild}") from None
    if name != facts.name:
        raise UserError(
            f"{shown(folder)} holds {name}, not {facts.name}: name another folder with --data, or {rebuild}"
        )
    for file in (*FILES, *(MEAN_FILES if facts.mean else ()), *((INDEX_FILE,) if manifest.indexed else ())):
        part = folder / file
        if not part.exists() or part.stat().st_size != sizes.get(file):
            raise UserError(f"{shown(part)} is missing or not as make_lmdb.py wrote it: {rebuild}")
    return manifest


def require_index(manifest, facts):
    """Raises UserError where the data set was built without the index that a network asks for."""
    if not manifest.indexed:
        seed = f" --seed {manifest.seed}" if manifest.seed != 1 else ""
        raise UserError(
            f"{shown(manifest.folder)} has no index of its training images: python data_tools/make_lmdb.py --dataset "
            f"{facts.name} --index{seed} --out {shown(manifest.folder)}"
        )
