"""A mean that is given: the mean files, the digest, what Caffe subtracts, and every bad one."""

import numpy as np
import pytest

from conftest import one_line
from hkd.paper import contents, datasets
from lmdbs import build, manifest, nothing_left, read_mean

GIVEN = "125.307,122.95,113.865"


@pytest.fixture(scope="module")
def given(colour_source, once):
    fill = lambda folder: build("cifar10", colour_source, folder / "cifar10", "--mean", GIVEN, check=0)  # noqa: E731
    return once("given-mean", fill) / "cifar10"


def test_every_pixel_of_a_channel_has_the_mean_that_was_given(given, colour):
    mean = read_mean(given / "mean_test.binaryproto")
    assert mean.shape == (3, 32, 32)
    for channel, value in enumerate(GIVEN.split(",")):
        assert (mean[channel] == np.float32(value)).all()
    padded = read_mean(given / "mean_train.binaryproto")
    assert np.array_equal(padded[:, 4:-4, 4:-4], mean) and padded.sum() == pytest.approx(mean.sum(), rel=1e-6)
    assert (given / "train_lmdb/data.mdb").read_bytes() == (colour / "train_lmdb/data.mdb").read_bytes()


def test_it_is_in_the_manifest_and_in_the_digest(given, colour):
    assert manifest(given)["mean"]["given"] == GIVEN and "mean" not in manifest(colour)
    assert manifest(given)["pixels_sha256"] != manifest(colour)["pixels_sha256"]


def test_the_same_command_finds_it_built_and_another_mean_is_refused(given, colour_source):
    done = build("cifar10", colour_source, given, "--mean", "125.3070,122.950,113.865", check=0)
    assert "built already" in done.stdout
    one_line(build("cifar10", colour_source, given), given, f"--mean {GIVEN}, not measured")
    one_line(build("cifar10", colour_source, given, "--mean", "1,2,3"), f"--mean {GIVEN}, not 1,2,3")


@pytest.mark.parametrize("file", ["mean_train.binaryproto", "mean_test.binaryproto"])
def test_a_changed_mean_file_is_found(given, tmp_path, file):
    for path in given.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            (tmp_path / path.relative_to(given)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(given)).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2 + 1] ^= 1
    (tmp_path / file).write_bytes(content)
    facts = datasets.dataset("cifar10")
    with pytest.raises(datasets.UserError, match=f"{file}|labels and pixels"):
        contents.verify(datasets.read_manifest(tmp_path, facts), facts, again=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2", "three numbers"),
        ("125", "three numbers"),
        ("1,2,256", "0 to 255"),
        ("1,2,-1", "0 to 255"),
        ("1,2,nan", "0 to 255"),
        ("red", "three numbers"),
    ],
)
def test_a_bad_mean(text, said, colour_source, tmp_path):
    one_line(build("cifar10", colour_source, tmp_path / "out", f"--mean={text}"), f"--mean {text}", said)
    assert nothing_left(tmp_path / "out")


def test_where_nothing_is_subtracted_none_is_given(fashion_source, tmp_path):
    one_line(build("mnist", fashion_source, tmp_path / "out", "--mean", "33"), "--mean 33", "leave --mean out")
