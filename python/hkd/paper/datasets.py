"""The data sets: what is known of each before any file is read, and what its manifest says once LMDBs are built.

The LMDBs are written by data_tools/make_lmdb.py. Networks and solver files are written from `Dataset` (so that they can
be generated with no data at hand); a stage that trains reads the `Manifest` beside the LMDBs. Of a data set of the user's
own everything is known from its manifest (own_datasets).
"""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from hkd.base import shapes
from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import shown
from hkd.paper import own_datasets


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
        # Preprocessing of these two is not stated: as CIFAR, padded by an eighth of the side (assumptions).
        Dataset("svhn", 10, 3, 32, 73_257, 26_032, pad=4, mean=True, title="SVHN"),
        Dataset("tiny-imagenet", 200, 3, 64, 100_000, 10_000, pad=8, mean=True, title="Tiny-ImageNet"),
    )
}


SIZES = (8, 256)
"""Height and width of an image of the user's own, which two stacks halve: a multiple of 4."""
MOST_CLASSES = 4096

FACTS = shapes.Shape(
    shapes.record(
        {
            "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]*\Z", "maxLength": own_datasets.LONGEST_NAME},
            "classes": {"type": "integer", "minimum": 2, "maximum": MOST_CLASSES},
            "channels": {"enum": [1, 3]},
            "size": {"type": "integer", "minimum": SIZES[0], "maximum": SIZES[1], "multipleOf": 4},
            "train_images": {"type": "integer", "minimum": 1, "maximum": 10**8 - 1},
            "test_images": {"type": "integer", "minimum": 1, "maximum": 10**8 - 1},
            "pad": {"type": "integer", "minimum": 0, "maximum": SIZES[1]},
        },
        closed=True,
    )
)
"""What a record, a job or a manifest says of a data set of the user's own."""


def dataset(name):
    """The Dataset of that name: an official one, or one of the user's own that was declared, or is in a data folder. Raises
    UserError, with the nearest name, for an unknown one."""
    if name in DATASETS:
        return DATASETS[name]
    if own_datasets.known(name) is None and own_datasets.wrong_name(name, DATASETS):
        raise did_you_mean(name, DATASETS, "data set")
    for folder in own_datasets.places() if own_datasets.known(name) is None else ():
        declare_in(folder / name)
    if own_datasets.known(name) is None:
        raise UserError(
            f"{did_you_mean(name, DATASETS, 'data set')}; images of your own become one by python data_tools/make_lmdb.py "
            f"--dataset {name} --source FOLDER, and are looked for in {shown(own_datasets.places()[0] / name)}"
        )
    return own_datasets.known(name)


def declare_in(folder):
    """Declares the data set of the user's own that was built in `folder`. A folder of an official one, or of nothing, is left alone."""
    if folder is not None and (Path(folder) / MANIFEST).is_file():
        written = read_written(Path(folder))
        if written["dataset"] not in DATASETS:
            declare(own_facts(Path(folder), written))


def declare(facts):
    """Declares {field: value}, as `said` gives them and FACTS describes them."""
    own_datasets.declare(Dataset(**facts, mean=True, title=facts["name"]))


def said(*names):
    """What a record or a job has to say of those data sets that are the user's own: a list of FACTS."""
    return [said_of(dataset(name)) for name in dict.fromkeys(names) if name is not None and name not in DATASETS]


def said_of(facts):
    """FACTS of a Dataset."""
    return {key: value for key, value in asdict(facts).items() if key in FACTS.keys}


def own_facts(folder, written):
    """FACTS of a manifest, as read_written gives it. Raises UserError for one that lacks some."""
    try:
        facts = {
            "name": written["dataset"],
            "classes": len(written["class_names"]),
            "channels": len(written["channels"]),
            "size": written["test"]["size"],
            "train_images": written["train"]["images"],
            "test_images": written["test"]["images"],
            "pad": written["pad"],
        }
        return FACTS.checked({key: value if key == "name" else int(value) for key, value in facts.items()})
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{shown(folder / MANIFEST)}: not a manifest of images of your own ({error}): {rebuild(folder)}"
        ) from None


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
_SPLIT = shapes.record({"images": {"type": "integer", "minimum": 1, "maximum": 10**8 - 1}}, {"size": shapes.COUNT})
MANIFEST_SHAPE = shapes.Shape(
    shapes.record(
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
        {
            "mean": shapes.record({"given": {"type": "string", "minLength": 1}, "sha256": shapes.SHA256}),
            # Of a data set of the user's own.
            "class_names": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": MOST_CLASSES},
            "channels": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        },
    )
)


def read_manifest(folder, facts):
    """The manifest of a built data set, or None where nothing is. Raises UserError for one that is not whole, or is not the
    data set that `facts` describes, and for a folder without one: Caffe would abort on it, or worse, train on it.

    Sizes only are compared here, contents.verify reads what is in the files.
    """
    folder = whole_name(folder)
    if not is_built(folder):
        return None
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
    if facts.name not in DATASETS and own_facts(folder, written) != said_of(facts):
        raise UserError(
            f"{shown(folder)} was built again since, from other images: run the same command again, or name another folder with --data"
        )
    for file in files(manifest, facts):
        part = folder / file
        if not part.is_file() or part.stat().st_size != sizes.get(file):
            raise UserError(f"{shown(part)} is missing or not as make_lmdb.py wrote it: {rebuild(folder)}")
    return manifest


def is_built(folder):
    """Whether a data set, of whatever kind, is in `folder`, False where there is no folder. Raises UserError for one of other things."""
    if not folder.exists():
        return False
    if not (folder / MANIFEST).exists():
        raise UserError(
            f"{shown(folder)} was not written by make_lmdb.py (no {MANIFEST}; LMDBs of other programs have another order, "
            f"padding or mean): name a folder that it built, or a new one"
        )
    return True


def read_written(folder):
    """The manifest in `folder` as it was written. Raises UserError for anything else."""
    path = folder / MANIFEST
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError("no file, or too large a one")
        return MANIFEST_SHAPE.parse(path.read_bytes())
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
        more = f" --seed {manifest.seed}" if manifest.seed != 1 else ""
        more += f" --pad {manifest.pad}" if facts.name not in DATASETS else ""
        more += f" --mean {shlex.quote(manifest.mean)}" if manifest.mean else ""
        raise UserError(
            f"{shown(manifest.folder)} has no index of its training images: python data_tools/make_lmdb.py --dataset "
            f"{facts.name} --index{more} --out {shown(manifest.folder)}"
        )
