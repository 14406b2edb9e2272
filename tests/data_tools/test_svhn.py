"""SVHN's .mat files, through the command line: the real images, random ones, and every bad input."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

import svhn
from conftest import FASHION, ROOT, official, one_line, write_svhn
from hkd.base.cli import UserError
from hkd.paper import datasets
from lmdbs import TOOL, build, cut, manifest, nothing_left, read_lmdb, read_mean

FACTS = datasets.dataset("svhn")


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """90 + 30 random images: every label, and no two pixels that could be exchanged unseen."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (120, 3, 32, 32), np.uint8)
    return write_svhn(tmp_path_factory.mktemp("svhn") / "source", images, np.arange(120) % 10, 90)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """8,000 images, so that reading them takes a while."""
    images = np.random.default_rng(1).integers(0, 256, (8_000, 3, 32, 32), np.uint8)
    return write_svhn(tmp_path_factory.mktemp("svhn") / "large", images, np.arange(8_000) % 10, 7_990)


@pytest.fixture
def bad(source, tmp_path):
    """A copy to damage."""
    return shutil.copytree(source, tmp_path / "bad")


def contents(folder, name="train"):
    return {key: value for key, value in loadmat(folder / f"{name}_32x32.mat").items() if key in "Xy"}


# --- what is built ------------------------------------------------------------------------------------------------------


def test_the_real_images(tmp_path):
    """The first 4,000 official test images, cut where no house is on both sides."""
    whole = loadmat(official("svhn_test_first4000_32x32.mat"))
    images, digits = whole["X"].transpose(3, 2, 0, 1), whole["y"].ravel() % 10
    part = write_svhn(tmp_path / "part", images, digits, 3198)
    done = build("svhn", part, tmp_path / "out", check=0)
    assert "not the official SVHN: 3,198 + 802 images (official: 73,257 + 26,032)" in done.stderr
    written = manifest(tmp_path / "out")
    assert not written["official"] and written["pad"] == 4
    assert written["train"]["per_class"] == np.bincount(digits[:3198]).tolist()
    found, labels = read_lmdb(tmp_path / "out/test_lmdb")
    np.testing.assert_array_equal(found, images[3198:])
    np.testing.assert_array_equal(labels, digits[3198:])
    order = np.random.default_rng(1).permutation(3198)
    found, labels = read_lmdb(tmp_path / "out/train_lmdb")
    np.testing.assert_array_equal(found[:, :, 4:-4, 4:-4], images[order])
    np.testing.assert_array_equal(labels, digits[order])
    padding = np.ones((40, 40), bool)
    padding[4:-4, 4:-4] = False
    assert not found[:, :, padding].any()
    mean = images[:3198].mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(read_mean(tmp_path / "out/mean_test.binaryproto"), mean)
    np.testing.assert_array_equal(
        read_mean(tmp_path / "out/mean_train.binaryproto"), np.pad(mean, ((0, 0), (4, 4), (4, 4)))
    )


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    compressed=st.booleans(),
    row=st.booleans(),
    kind=st.sampled_from([np.uint8, np.int32, np.int64]),
)
def test_any_images_are_read_as_they_were_written(count, seed, compressed, row, kind):
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 256, (32, 32, 3, count), np.uint8), rng.integers(1, 11, count)
    stream = io.BytesIO()
    savemat(
        stream,
        {"X": pixels, "y": labels.astype(kind)[None if row else slice(None), ...].reshape((1, -1) if row else (-1, 1))},
        do_compression=compressed,
    )
    files = dict.fromkeys(("train_32x32.mat", "test_32x32.mat"), stream.getvalue())
    for images, digits in svhn.read(FACTS, files):
        np.testing.assert_array_equal(images, pixels.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(digits, np.where(labels == 10, 0, labels))


def test_a_single_image_whose_last_dimension_matlab_drops():
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    savemat(stream, {"X": pixels, "y": np.array([[10]])})
    (images, digits), _ = svhn.read(FACTS, dict.fromkeys(("train_32x32.mat", "test_32x32.mat"), stream.getvalue()))
    np.testing.assert_array_equal(images, pixels.transpose(2, 0, 1)[None])
    assert digits == [0]


def test_the_third_official_file_is_not_read(source, tmp_path):
    shutil.copytree(source, tmp_path / "three")
    (tmp_path / "three/extra_32x32.mat").write_bytes(b"not looked at")
    build("svhn", tmp_path / "three", tmp_path / "out", check=0)
    assert manifest(tmp_path / "out")["train"]["images"] == 90


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_missing_file(bad, tmp_path):
    (bad / "test_32x32.mat").unlink()
    one_line(build("svhn", bad, tmp_path / "out"), "test_32x32.mat is not in it")


def test_one_file_named_instead_of_the_folder(source, tmp_path):
    one_line(build("svhn", source / "train_32x32.mat", tmp_path / "out"), "only one file", "give the folder")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_short(bad, tmp_path, share):
    path = bad / "train_32x32.mat"
    cut(path, int(path.stat().st_size * share))
    one_line(build("svhn", bad, tmp_path / "out"), "train_32x32.mat", "cut short", "get it again")
    assert nothing_left(tmp_path / "out")


def test_a_file_that_is_something_else(bad, tmp_path):
    shutil.copy(FASHION / "t10k-labels-idx1-ubyte.gz", bad / "train_32x32.mat")
    one_line(build("svhn", bad, tmp_path / "out"), "train_32x32.mat", "no MATLAB file")


def test_a_file_of_matlab_7_3(bad, tmp_path):
    # Its header as MATLAB writes it: text, version 0x0200, byte order, then HDF5 from byte 512 on.
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (bad / "test_32x32.mat").write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(2000))
    one_line(build("svhn", bad, tmp_path / "out"), "test_32x32.mat", "MATLAB 7.3", "expected version 5")


def test_a_file_of_matlab_4(bad, tmp_path):
    savemat(bad / "test_32x32.mat", {"X": np.zeros((32, 32)), "y": np.ones((1, 1))}, format="4")
    one_line(build("svhn", bad, tmp_path / "out"), "test_32x32.mat", "X is 32 x 32: expected 32 x 32 x 3 x N")


def wrong_names(content):
    return {"images": content["X"], "labels": content["y"]}


def no_labels(content):
    return {"X": content["X"]}


def transposed(content):
    return content | {"X": content["X"].transpose(3, 0, 1, 2)}


def floats(content):
    return content | {"X": content["X"] / 255}


def fewer_labels(content):
    return content | {"y": content["y"][:-1]}


def label(value):
    def change(content):
        content["y"] = content["y"].astype(np.int64)
        content["y"][7] = value
        return content

    change.__name__ = f"label_{value}"
    return change


def half_a_label(content):
    return content | {"y": content["y"] + 0.5}


def far_too_many(content):
    return content | {"y": np.ones((1, 100_001), np.uint8)}


def words(content):
    return content | {"X": "a text", "y": np.ones((3, 1))}


def complex_pixels(content):
    return content | {"X": content["X"] * 1j}


def none_at_all(content):
    return {"X": np.zeros((32, 32, 3, 0), np.uint8), "y": np.zeros((0, 1), np.uint8)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong_names, ("train_32x32.mat: no variable X", "'images', 'labels'", "expected X and y")),
        (no_labels, ("no variable y",)),
        (transposed, ("train_32x32.mat: X is 90 x 32 x 32 x 3", "expected 32 x 32 x 3 x N")),
        (floats, ("X is of type float64", "expected uint8")),
        (complex_pixels, ("X is of type complex128",)),
        (fewer_labels, ("svhn: 90 training images but 89 labels",)),
        (label(0), ("train_32x32.mat: image 7 has label 0", "1 to 10")),
        (label(11), ("image 7 has label 11", "10 is digit 0")),
        (label(266), ("image 7 has label 266",)),
        (label(-1), ("image 7 has label -1",)),
        (half_a_label, ("y is of type float64", "whole numbers")),
        (far_too_many, ("at most 100,000 images",)),
        (words, ("X is ", "expected 32 x 32 x 3 x N")),
        (none_at_all, ("no training images",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wrong_variables(bad, tmp_path, change, said):
    savemat(bad / "train_32x32.mat", change(contents(bad)))
    one_line(build("svhn", bad, tmp_path / "out"), *said)
    assert nothing_left(tmp_path / "out")


def test_dimensions_whose_product_wraps_round(bad, tmp_path):
    """2^16 four times over is 0 in 64 bits."""
    stream = io.BytesIO()
    savemat(stream, contents(bad) | {"y": np.ones((3, 5, 7, 11), np.uint8)})
    sizes, wrapping = (b"".join(n.to_bytes(4, "little") for n in four) for four in ((3, 5, 7, 11), [1 << 16] * 4))
    assert stream.getvalue().count(sizes) == 1
    (bad / "train_32x32.mat").write_bytes(stream.getvalue().replace(sizes, wrapping))
    one_line(build("svhn", bad, tmp_path / "out"), "y 65536 x 65536 x 65536 x 65536: expected at most 100,000 images")


@settings(max_examples=100, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_bytes_are_read_or_refused_in_one_line(compressed, changes):
    stream = io.BytesIO()
    savemat(
        stream, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((2, 1), np.uint8)}, do_compression=compressed
    )
    content = bytearray(stream.getvalue())
    # The tags and headers lie at both ends.
    for at, value in changes:
        near = at % 256 if at % 2 else -1 - at % 128
        content[near % len(content)] = value
    files = dict.fromkeys(("train_32x32.mat", "test_32x32.mat"), bytes(content))
    try:
        for images, digits in svhn.read(FACTS, files):
            assert images.shape[1:] == (3, 32, 32) and images.dtype == digits.dtype == np.uint8
    except UserError as error:
        assert "train_32x32.mat: " in str(error) and "\n" not in str(error)


def is_reading(pid):
    """Whether the process waits for the one that reads a file for it: their shared memory is open."""
    with contextlib.suppress(OSError):
        return any("memfd:" in str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line(large, tmp_path, number):
    """Ctrl-C goes to every process of the command, `kill` to one; the reader's own process says nothing of either."""
    words = [
        sys.executable,
        str(ROOT / TOOL),
        "--dataset",
        "svhn",
        "--source",
        str(large),
        "--out",
    ]
    stopped_reading = 0
    # On a busy machine a signal may come when the reader is done: then again, until one came before.
    for attempt, delay in enumerate((0.0, 0.05, 0.1, 0.2, *[0.0] * 20)):
        if attempt > 3 and stopped_reading:
            break
        out = tmp_path / f"out{attempt}"
        process = subprocess.Popen(
            [*words, str(out)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        while process.poll() is None and not is_reading(process.pid):
            time.sleep(0.001)
        time.sleep(delay)
        reading = is_reading(process.pid)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        said = process.communicate()[1]
        if process.returncode == 0:
            continue  # it was finished before the signal came, which on a busy machine comes late
        stopped_reading += reading
        assert (process.returncode, said) == (128 + number, "error: interrupted\n")
        assert nothing_left(out)
    assert stopped_reading


def test_caffes_data_layer_takes_it_as_it_takes_cifar(source, tmp_path):
    import caffe

    build("svhn", source, tmp_path / "svhn", check=0)
    n = caffe.NetSpec()
    n.data, n.label = caffe.layers.Data(
        ntop=2,
        data_param={
            "source": str(tmp_path / "svhn/train_lmdb"),
            "batch_size": 30,
            "backend": caffe.params.Data.LMDB,
        },
        transform_param={"crop_size": 32, "mean_file": str(tmp_path / "svhn/mean_train.binaryproto")},
    )
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)  # TEST: the crop is the centre
    net.forward()
    images, labels = read_lmdb(tmp_path / "svhn/train_lmdb")
    mean = read_mean(tmp_path / "svhn/mean_test.binaryproto")
    np.testing.assert_array_equal(net.blobs["data"].data, images[:30, :, 4:-4, 4:-4].astype(np.float32) - mean)
    np.testing.assert_array_equal(net.blobs["label"].data, labels[:30])
