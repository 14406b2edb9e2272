"""The data sets: what is known of each before any file is read, and what its manifest says once LMDBs are built.

The LMDBs are written by data_tools/make_lmdb.py. Networks and solver files are written from `Dataset` (so that they can
be generated with no data at hand); a stage that trains reads the `Manifest` beside the LMDBs.
"""

from dataclasses import dataclass
from pathlib import Path

from hkd.base import shapes
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
    pixels: str  # one sha256 over every label and pixel of both LMDBs, in their order, and a mean that was given
    official: bool  # byte for byte the data set that its authors published
    indexed: bool  # train_index_lmdb is there: the place of each training image in the official order
    mean: str = ""  # what was given in place of the measured mean


FILES = ("train_lmdb/data.mdb", "test_lmdb/data.mdb")
MEAN_FILES = ("mean_train.binaryproto", "mean_test.binaryproto")
INDEX_FILE = "train_index_lmdb/data.mdb"
MANIFEST = "manifest.json"

LARGEST_MANIFEST = 1 << 20  # bytes
_SPLIT = shapes.record({"images": {"type": "integer", "minimum": 1, "maximum": 10**8 - 1}})
MANIFEST_SHAPE = shapes.record(
    {
        "dataset": {"type": "string"},
        "train": _SPLIT,
        "test": _SPLIT,
        "pad": {"type": "integer", "minimum": 0, "maximum": 1000},
        "seed": {"type": "integer", "minimum": 0},
        "official": {"type": "boolean"},
        "source": {"type": "string"},
        "pixels_sha256": shapes.SHA256,
        "bytes": {"type": "object", "additionalProperties": shapes.COUNT},
    },
    {"mean": shapes.record({"given": {"type": "string", "minLength": 1}, "sha256": shapes.SHA256})},
)


def read_manifest(folder, facts):
    """The manifest of a built data set, or None where nothing is. Raises UserError for one that is not whole, or is not the
    data set that `facts` describes, and for a folder without one: Caffe would abort on it, or worse, train on it.

    Sizes only are compared here, contents.verify reads what is in the files.
    """
    folder = whole_name(folder)
    if not folder.exists():
        return None
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{shown(folder)} was not written by make_lmdb.py (no {MANIFEST}; LMDBs of other programs have another order, "
            f"padding or mean): name a folder that it built, or a new one"
        )
    written = read_written(folder)
    sizes = written["bytes"]
    manifest = Manifest(
        folder,
        int(written["train"]["images"]),  # JSON has one kind of number: 50.0 is a whole one too
        int(written["test"]["images"]),
        int(written["pad"]),
        int(written["seed"]),
        written["pixels_sha256"],
        written["official"],
        INDEX_FILE in sizes,
        written["mean"]["given"] if "mean" in written else "",
    )
    if written["dataset"] != facts.name:
        raise UserError(
            f"{shown(folder)} holds {written['dataset']}, not {facts.name}: name another folder with --data, or {rebuild(folder)}"
        )
    for file in files(manifest, facts):
        part = folder / file
        if not part.is_file() or part.stat().st_size != sizes.get(file):
            raise UserError(f"{shown(part)} is missing or not as make_lmdb.py wrote it: {rebuild(folder)}")
    return manifest


def read_written(folder):
    """The manifest in `folder` as it was written. Raises UserError for anything else."""
    path = folder / MANIFEST
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError("no file, or too large a one")
        return shapes.parse(path.read_bytes(), MANIFEST_SHAPE)
    except ValueError as error:
        raise UserError(f"{shown(path)}: not a manifest of make_lmdb.py ({error}): {rebuild(folder)}") from None


def files(manifest, facts):
    """The files that a built data set consists of, besides its manifest."""
    return (*FILES, *(MEAN_FILES if facts.mean else ()), *((INDEX_FILE,) if manifest.indexed else ()))


def rebuild(folder):
    """The way out of a damaged data set."""
    return f"delete {shown(folder)} and build it again with data_tools/make_lmdb.py"


def whole_name(folder):
    """`folder` as an absolute path. Raises UserError for a name that Caffe's files cannot hold."""
    path = Path(folder).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{str(path)!a}: this folder's name is not UTF-8, and Caffe's files can name no other: rename it"
        ) from None
    return path


def require_index(manifest, facts):
    """Raises UserError where the data set was built without the index that a network asks for."""
    if not manifest.indexed:
        seed = f" --seed {manifest.seed}" if manifest.seed != 1 else ""
        raise UserError(
            f"{shown(manifest.folder)} has no index of its training images: python data_tools/make_lmdb.py --dataset "
            f"{facts.name} --index{seed} --out {shown(manifest.folder)}"
        )
