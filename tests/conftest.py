"""What the tests share: real images in small number, data sets built from them, and the commands as a user types them."""

import gzip
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # `make test &` in a script has every process ignore Ctrl-C, which tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "data_tools")]
os.environ.setdefault("GLOG_minloglevel", "2")  # Caffe's log of every layer would bury a failure
# Tests run side by side: with more threads than cores, those that wait for each other burn most of the time.
os.environ["OMP_NUM_THREADS"] = "1"
# Hundreds of commands are started: without their bytecode each would compile this project's modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
for name in ("DATA", "RUNS", "RESULTS", "IMAGE"):
    os.environ.pop(f"HKD_{name}", None)  # inside the container image the tests are those of a checkout
for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(name, None)  # started by make, the commands that they run answer as those that a user starts

FASHION = Path("/usr/share/datasets/fashion-mnist")
OFFICIAL = Path(os.environ.get("HKD_TEST_DATA", ROOT.parent / "shared/data"))
"""Data sets as published, or parts of them. Tests that need them skip where the folder is absent."""


def official(name):
    path = OFFICIAL / name
    if not path.exists():
        pytest.skip(f"{name} is not in {OFFICIAL} (name its folder with HKD_TEST_DATA)")
    return path


def needs_compiler():
    if shutil.which("g++") is None:
        pytest.skip("no compiler here, as in the container image: nothing can be built")


def command(script, *arguments, check=None, env=None, cwd=ROOT, **options):
    """Runs a command of this project as a user does; returns the CompletedProcess. check: the exit code expected."""
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        **options,
    )
    if check is not None:
        assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def namespace(script, *arguments, env=None):
    """Runs a script of sh with mounts of its own, as one who may mount; skips where the system lets nobody."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no namespace for mounts here")
    words = ["unshare", "-rm", "sh", "-c", script, "sh", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(env or {})})


def one_line(done, *words):
    """Asserts that a command failed with exit code 2 and one line on stderr that has all of `words`."""
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("note: ")]
    assert done.returncode == 2, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert str(word) in lines[0], f"{word!r} not in: {lines[0]}"


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header + array.tobytes())


def read_idx(path, dimensions):
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content[4 : 4 + 4 * dimensions], ">u4").astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def write_fashion(folder, train, test):
    """A folder in MNIST's format with the first `train` and `test` real Fashion-MNIST images."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        write_idx(
            folder / f"{prefix}-images-idx3-ubyte.gz", read_idx(FASHION / f"{prefix}-images-idx3-ubyte.gz", 3)[:count]
        )
        write_idx(
            folder / f"{prefix}-labels-idx1-ubyte.gz", read_idx(FASHION / f"{prefix}-labels-idx1-ubyte.gz", 1)[:count]
        )
    return folder


def write_cifar(folder, images, labels, per_file):
    """A folder in CIFAR-10's binary layout: five training files and a test file of `per_file` records each."""
    folder.mkdir(parents=True, exist_ok=True)
    records = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).astype(np.uint8)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for i, name in enumerate(names):
        (folder / name).write_bytes(records[i * per_file : (i + 1) * per_file].tobytes())
    return folder


def write_svhn(folder, images, digits, train):
    """SVHN's two .mat files: the first `train` of N x 3 x 32 x 32 images, and the others."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels = images.transpose(2, 3, 1, 0), np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
    for name, part in (("train", slice(0, train)), ("test", slice(train, None))):
        content = {"X": pixels[..., part], "y": labels[part]}
        savemat(folder / f"{name}_32x32.mat", content, do_compression=True)
    return folder


def jpeg(pixels):
    """pixels: 64 x 64 (grey) or 64 x 64 x 3, uint8."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def tiny_imagenet_files(a_class=3):
    """{path: bytes} in Tiny-ImageNet's layout: 200 classes, `a_class` training images and a test image of each, real ones
    of Fashion-MNIST enlarged and coloured, every fifth grey. The classes are in no order."""
    grey = read_idx(FASHION / "train-images-idx3-ubyte.gz", 3)[: 200 * (a_class + 1)]
    wnids = [f"n{number:08d}" for number in np.random.default_rng(4).permutation(200) * 7 + 1_000_000]
    files = {"wnids.txt": "".join(f"{wnid}\n" for wnid in wnids).encode(), "words.txt": b"n00001740\tentity\n"}
    annotations = []
    for number, image in enumerate(grey):
        large = np.zeros((64, 64), np.uint8)
        large[4:60, 4:60] = image.repeat(2, axis=0).repeat(2, axis=1)
        content = jpeg(large if number % 5 == 0 else np.stack([large, large // 2, 255 - large], axis=2))
        at, wnid = divmod(number, 200)[0], wnids[number % 200]
        if at < a_class:
            files[f"train/{wnid}/images/{wnid}_{at * 9}.JPEG"] = content  # 0, 9, 18: as text 18 stands before 9
        else:
            files[f"val/images/val_{number}.JPEG"] = content
            annotations.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    files["val/val_annotations.txt"] = "".join(annotations[::-1]).encode()
    return files


def few_of_tiny_imagenet(files, test):
    """Of {path: bytes} in its layout the first training image of each class and the first `test` validation images."""
    lines = files["val/val_annotations.txt"].decode().splitlines(keepends=True)[:test]
    kept = {f"val/images/{line.split()[0]}" for line in lines} | {"wnids.txt", "words.txt"}
    first = {}
    for name in sorted(name for name in files if name.startswith("train/") and name.endswith(".JPEG")):
        first.setdefault(name.split("/")[1], name)
    few = {name: files[name] for name in files if name in kept | set(first.values())}
    return few | {"val/val_annotations.txt": "".join(lines).encode()}


def write_zip(path, files, top="tiny-imagenet-200/"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, fill): a folder that `fill(folder)` fills, once for all workers that run the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"

    def made(name, fill):
        folder, marker = shared / name, shared / f"{name}.made"
        shared.mkdir(exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not marker.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                marker.touch()
        return folder

    return made


def copy_of_runs(runs, out):
    """A copy to change. Weights, nearly all of its size, are links in it: replace such a file, never write into it."""

    def copied(source, target):
        weights = Path(source).suffix in (".caffemodel", ".solverstate")
        return os.link(source, target) if weights else shutil.copy2(source, target)

    return shutil.copytree(runs, out, copy_function=copied)


def build_lmdb(out, dataset, source, *more):
    command("data_tools/make_lmdb.py", "--dataset", dataset, "--source", source, "--out", out, *more, check=0)


@pytest.fixture(scope="session")
def tiny_imagenet(once):
    """200 + 20 images of 3 x 64 x 64 in 200 classes as LMDBs with their index, in Tiny-ImageNet's layout (tiny_imagenet_files)."""

    def fill(folder):
        files = few_of_tiny_imagenet(tiny_imagenet_files(a_class=1), 20)
        archive = write_zip(folder / "tiny-imagenet-200.zip", files)
        build_lmdb(folder / "tiny-imagenet", "tiny-imagenet", archive, "--index")

    return once("tiny-imagenet", fill) / "tiny-imagenet"


@pytest.fixture(scope="session")
def fashion_source(once):
    return once("fashion-source", lambda folder: write_fashion(folder / "source", 640, 200)) / "source"


@pytest.fixture(scope="session")
def fashion(fashion_source, once):
    """640 + 200 real Fashion-MNIST images as LMDBs."""
    fill = lambda folder: build_lmdb(folder / "fashion-mnist", "fashion-mnist", fashion_source)  # noqa: E731
    return once("fashion", fill) / "fashion-mnist"


def coloured(count):
    """(count x 3 x 32 x 32 images, their labels): the first of Fashion-MNIST, coloured."""
    grey = read_idx(FASHION / "train-images-idx3-ubyte.gz", 3)[:count].astype(np.uint16)
    labels = read_idx(FASHION / "train-labels-idx1-ubyte.gz", 1)[:count]
    images = np.zeros((count, 3, 32, 32), np.uint8)
    for channel, weight in enumerate((256, 192, 128)):
        images[:, channel, 2:30, 2:30] = grey * weight >> 8
    images[:, :, :2] = np.arange(1, 33)  # nothing at the edges is 0: the padding can be told from the image
    return images, labels


@pytest.fixture(scope="session")
def colour_source(once):
    """CIFAR-10's layout with real images, coloured from Fashion-MNIST: padding, mean and channels are all in play, and
    no test of them has to skip where CIFAR-10 itself is absent."""
    fill = lambda folder: write_cifar(folder / "cifar-10-batches-bin", *coloured(1200), 200)  # noqa: E731
    return once("colour-source", fill) / "cifar-10-batches-bin"


@pytest.fixture(scope="session")
def colour(colour_source, once):
    """1,000 + 200 images as CIFAR-10 LMDBs."""
    return once("colour", lambda folder: build_lmdb(folder / "cifar10", "cifar10", colour_source)) / "cifar10"


@pytest.fixture(scope="session")
def colour_indexed(colour_source, once):
    """The same with the index of the training images."""
    fill = lambda folder: build_lmdb(folder / "cifar10", "cifar10", colour_source, "--index")  # noqa: E731
    return once("colour-indexed", fill) / "cifar10"


@pytest.fixture(scope="session")
def lmdbs(once):
    """A data folder as the workflow wants it, with few images, since its many stages test on all of them: cifar10 of 250 + 50
    (coloured) and mnist of 320 + 50 (Fashion-MNIST's, in MNIST's format)."""

    def fill(folder):
        build_lmdb(folder / "cifar10", "cifar10", write_cifar(folder / "cifar-10-batches-bin", *coloured(300), 50))
        build_lmdb(folder / "mnist", "mnist", write_fashion(folder / "fashion", 320, 50))

    return once("data", fill)


def snakemake(*arguments, config=(), cores=2, check=None, env=None, **options):
    """Runs Snakemake in the checkout as a user does; returns the CompletedProcess."""
    words = ["--cores", str(cores), *map(str, arguments), *(["--config", *config] if config else [])]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        **options,
    )
    if check is not None:
        assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


TINY = ("scale=0.00003", "set=batch=8")
"""1 or 2 iterations a stage: what is tested is that the numbers arrive where they belong."""


@pytest.fixture(scope="session")
def paper_runs(lmdbs, once):
    """Tables 1 and 4 and figures 7 and 9 by one command, with all three nets: folder with runs/ and out/, and what
    Snakemake said."""

    def fill(folder):
        where = (f"data={lmdbs}", f"runs={folder / 'runs'}", f"out={folder / 'out'}")
        names = ("table1", "table4", "figure7", "figure9")
        done = snakemake(*names, config=(*TINY, *where), check=0)
        (folder / "said").write_text(done.stdout + done.stderr)

    folder = once("paper", fill)
    return folder, (folder / "said").read_text()


@pytest.fixture(scope="module")
def runs(paper_runs):
    """The runs of paper_runs, as tables read them."""
    from hkd.results.runs import Runs

    return Runs(paper_runs[0] / "runs")


@pytest.fixture
def damaged(paper_runs, tmp_path):
    """The folder of these runs in a copy, to damage."""
    return copy_of_runs(paper_runs[0] / "runs", tmp_path / "runs")


RUN, MAKE = "python/run_stage.py", "python/make_tables.py"
SCALE = 0.0005  # 18 iterations of teacher, baseline and KD; 2, 4 and 8 of the hint steps
EXPERIMENT = "fashion-mnist-r14w4-r8w4"
"""Networks of a quarter of the papers' width: most of what the tests train is trained for its files, not for what it learns."""


def run_stage(data, runs, *more, scale=SCALE, **options):
    return command(RUN, "--experiment", EXPERIMENT, "--data", data, "--runs", runs, "--scale", scale, *more, **options)


def group(runs, scale=SCALE, seed=1):
    return Path(runs) / f"fashion-mnist/scale{scale:g}-seed{seed}"


@pytest.fixture(scope="session")
def chain(fashion, once):
    """The layer-wise method from nothing to its KD stage, in one command: the folder of its stages, and what was said."""

    def fill(folder):
        done = run_stage(fashion, folder / "runs", "--method", "layerwise", "--stage", "kd", check=0)
        (folder / "said").write_text(done.stdout)

    folder = once("chain", fill)
    return group(folder / "runs"), (folder / "said").read_text()


@pytest.fixture
def copy(chain, tmp_path):
    """The chain in a runs folder of its own, to damage."""
    shutil.copytree(chain[0].parent.parent, tmp_path / "runs")
    return tmp_path / "runs"
