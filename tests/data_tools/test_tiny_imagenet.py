"""Tiny-ImageNet's archive, through the command line: the real images, a small one in its layout, and every bad input."""

import io
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import datasets
import sources
import tiny_imagenet
from conftest import ROOT, jpeg, official, one_line, tiny_imagenet_files, write_zip
from hkd.base.cli import UserError
from hkd.paper.datasets import dataset
from lmdbs import TOOL, build, cut, manifest, nothing_left, read_lmdb, read_mean

FACTS = dataset("tiny-imagenet")
FILES = tiny_imagenet_files()
WNIDS = FILES["wnids.txt"].decode().split()
TRAIN = [f"train/{wnid}/images/{wnid}_{number}.JPEG" for wnid in WNIDS for number in (0, 9, 18)]
ANNOTATIONS = [line.split("\t") for line in FILES["val/val_annotations.txt"].decode().splitlines()]


def pixels(content):
    """A JPEG as Pillow decodes it, 3 x 64 x 64."""
    return np.array(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200.zip", FILES)


@pytest.fixture(scope="session")
def built(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("lmdb") / "tiny-imagenet"
    return out, build("tiny-imagenet", source, out, check=0)


# --- what is built ------------------------------------------------------------------------------------------------------


def test_the_real_images(tmp_path):
    """20 training images and 4 validation images of each class, some of them grey."""
    archive = official("tiny-imagenet-200-small.zip")
    done = build("tiny-imagenet", archive, tmp_path / "out", check=0)
    assert "not the official tiny-imagenet-200.zip: 4,000 + 800 images (official: 100,000 + 10,000)" in done.stderr
    written = manifest(tmp_path / "out")
    assert not written["official"] and written["pad"] == 8 and written["decoder"].startswith("Pillow ")
    assert written["train"]["per_class"] == [20] * 200 and written["test"]["per_class"] == [4] * 200
    with zipfile.ZipFile(archive) as z:
        content = {name.removeprefix("tiny-imagenet-200/"): z.read(name) for name in z.namelist()}
    wnids = content["wnids.txt"].decode().split()
    lines = [line.split("\t") for line in content["val/val_annotations.txt"].decode().splitlines()]
    images, labels = read_lmdb(tmp_path / "out/test_lmdb")
    np.testing.assert_array_equal(labels, [wnids.index(line[1]) for line in lines])
    for found, line in zip(images, lines, strict=True):
        np.testing.assert_array_equal(found, pixels(content[f"val/images/{line[0]}"]))
    names = [name for name in content if name.startswith("train/") and name.endswith(".JPEG")]
    names.sort(key=lambda name: (wnids.index(name.split("/")[1]), int(name.split("_")[1].split(".")[0])))
    images, labels = read_lmdb(tmp_path / "out/train_lmdb")
    order = np.random.default_rng(1).permutation(4000)
    total = np.zeros((3, 64, 64))
    for found, label, index in zip(images, labels, order, strict=True):
        image = pixels(content[names[index]])
        np.testing.assert_array_equal(found[:, 8:-8, 8:-8], image)
        assert label == wnids.index(names[index].split("/")[1])
        total += image
    np.testing.assert_array_equal(read_mean(tmp_path / "out/mean_test.binaryproto"), (total / 4000).astype(np.float32))
    grey = [name for name in names if Image.open(io.BytesIO(content[name])).mode == "L"]
    assert grey, "no grey image is in it"


def test_a_small_one_is_whole_in_its_order(built):
    out, done = built
    assert "600 training and 200 test images" in done.stdout
    images, labels = read_lmdb(out / "train_lmdb")
    order = np.random.default_rng(1).permutation(600)
    assert images.shape == (600, 3, 80, 80)
    for found, label, index in zip(images, labels, order, strict=True):
        np.testing.assert_array_equal(found[:, 8:-8, 8:-8], pixels(FILES[TRAIN[index]]))
        assert label == index // 3
    padding = np.ones((80, 80), bool)
    padding[8:-8, 8:-8] = False
    assert not images[:, :, padding].any()
    images, labels = read_lmdb(out / "test_lmdb")
    np.testing.assert_array_equal(images, [pixels(FILES[f"val/images/{line[0]}"]) for line in ANNOTATIONS])
    np.testing.assert_array_equal(labels, [WNIDS.index(line[1]) for line in ANNOTATIONS])


def test_the_mean_is_zero_in_the_padding(built):
    mean = read_mean(built[0] / "mean_train.binaryproto")
    inner = mean[:, 8:-8, 8:-8]
    expected = np.mean([pixels(FILES[name]) for name in TRAIN], axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(inner, expected)
    np.testing.assert_array_equal(mean, np.pad(inner, ((0, 0), (8, 8), (8, 8))))


@pytest.mark.parametrize("form", ["folder", "tar.gz", "zip without its top folder"])
def test_every_form_gives_the_same_pixels(built, tmp_path, form):
    if form == "folder":
        where = tmp_path / "tiny-imagenet-200"
        for name, content in FILES.items():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_bytes(content)
    elif form == "tar.gz":
        where = tmp_path / "a.tar.gz"
        with tarfile.open(where, "w:gz", compresslevel=1) as t:
            for name, content in FILES.items():
                info = tarfile.TarInfo(f"tiny-imagenet-200/{name}")
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
    else:
        where = write_zip(tmp_path / "a.zip", FILES, top="")
    build("tiny-imagenet", where, tmp_path / "out", check=0)
    assert manifest(tmp_path / "out")["pixels_sha256"] == manifest(built[0])["pixels_sha256"]


def test_a_part_of_it_is_read(tmp_path):
    """No image at all of a class is a part too, as with the other data sets."""
    part = {name: content for name, content in FILES.items() if not name.startswith(f"train/{WNIDS[5]}/")}
    build("tiny-imagenet", write_zip(tmp_path / "a.zip", part), tmp_path / "out", check=0)
    assert manifest(tmp_path / "out")["train"]["per_class"] == [3] * 5 + [0] + [3] * 194


def test_only_the_official_archive_is_official(source, tmp_path, monkeypatch):
    """One of its size with other bytes is damaged; an unpacked folder cannot be known to be it."""
    sha256 = datasets.read_dataset(FACTS, source)[3]
    size = source.stat().st_size
    monkeypatch.setitem(sources.ARCHIVES, "tiny-imagenet", sources.Member(size, sha256))
    assert not datasets.read_dataset(FACTS, source)[2]
    with zipfile.ZipFile(source) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert "an unpacked folder" in datasets.read_dataset(FACTS, tmp_path / "unpacked")[2][0]
    monkeypatch.setitem(sources.ARCHIVES, "tiny-imagenet", sources.Member(size, "0" * 64))
    with pytest.raises(UserError, match=r"tiny-imagenet-200.zip: has the official size but not the official content"):
        datasets.read_dataset(FACTS, source)
    assert "has sha256" in datasets.read_dataset(FACTS, source, trust=True)[2][0]


# --- bad input --------------------------------------------------------------------------------------------------------


def without(*names):
    return {name: content for name, content in FILES.items() if name not in names}


def annotated(change):
    lines = FILES["val/val_annotations.txt"].decode().splitlines()
    return FILES | {"val/val_annotations.txt": "\n".join(change(lines)).encode()}


def classes(change):
    return FILES | {"wnids.txt": "\n".join(change(list(WNIDS))).encode()}


IMAGE = TRAIN[100]
VAL = "val/images/" + ANNOTATIONS[6][0]
SOUND = pixels(FILES[IMAGE]).transpose(1, 2, 0)


def cmyk():
    stream = io.BytesIO()
    Image.fromarray(SOUND).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def png():
    stream = io.BytesIO()
    Image.fromarray(SOUND).save(stream, "PNG")
    return stream.getvalue()


def claiming(width, height):
    """A JPEG whose header claims another size."""
    content = bytearray(jpeg(SOUND))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(content)


BAD = {
    "no class file": (without("wnids.txt"), ("wnids.txt is not in it",)),
    "no annotations": (without("val/val_annotations.txt"), ("val_annotations.txt is not in it",)),
    "a class too few": (classes(lambda lines: lines[:-1]), ("wnids.txt: 199 classes: expected 200",)),
    "a class twice": (classes(lambda lines: [*lines[:-1], lines[3]]), (f"wnids.txt: line 200: {WNIDS[3]}", "twice")),
    "not a text": (FILES | {"wnids.txt": b"n01\xff\xfe"}, ("wnids.txt: byte 3 is no ASCII",)),
    "an unknown class": (
        FILES | {"train/n99999999/images/n99999999_0.JPEG": FILES[IMAGE]},
        ("train/n99999999/images/n99999999_0.JPEG", "not in wnids.txt"),
    ),
    "an annotation without an image": (without(VAL), ("line 7", VAL, "is not there")),
    "an image without an annotation": (annotated(lambda lines: lines[:6] + lines[7:]), (VAL, "no line")),
    "an annotation twice": (annotated(lambda lines: [*lines, lines[2]]), ("line 201", ANNOTATIONS[2][0], "twice")),
    "an annotation of an unknown class": (
        annotated(lambda lines: [lines[0].replace(ANNOTATIONS[0][1], "n99999999"), *lines[1:]]),
        ("line 1", "'n99999999'", "not in wnids.txt"),
    ),
    "an annotation without a class": (annotated(lambda lines: ["val_1.JPEG", *lines[1:]]), ("line 1", "a tab")),
    "no training images": (
        {name: content for name, content in FILES.items() if not name.startswith("train/")},
        ("no training images", "expected 100000"),
    ),
    "an image of another size": (FILES | {IMAGE: jpeg(SOUND[:48])}, (IMAGE, "64 x 48 pixels", "expected 64 x 64")),
    "an image of ink": (FILES | {IMAGE: cmyk()}, (IMAGE, "CMYK", "expected RGB or grey")),
    "a png": (FILES | {IMAGE: png()}, (IMAGE, "no JPEG")),
    "an empty image": (FILES | {IMAGE: b""}, (IMAGE, "no JPEG")),
    "half an image": (FILES | {IMAGE: FILES[IMAGE][: len(FILES[IMAGE]) // 2]}, (IMAGE, "damaged, cut short")),
    "half a test image": (FILES | {VAL: FILES[VAL][:-30]}, (VAL, "damaged, cut short")),
    "an image that claims 100 million pixels": (FILES | {IMAGE: claiming(10_000, 10_000)}, (IMAGE,)),
    "an image that claims 4 thousand million": (FILES | {IMAGE: claiming(65_500, 65_500)}, (IMAGE,)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_archive(tmp_path, name):
    files, said = BAD[name]
    one_line(build("tiny-imagenet", write_zip(tmp_path / "a.zip", files), tmp_path / "out"), *said)
    assert nothing_left(tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice(tmp_path):
    archive = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(archive, "a") as z:
        z.writestr(f"tiny-imagenet-200/{IMAGE}", FILES[IMAGE])
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), f"{IMAGE} is in it twice")
    with zipfile.ZipFile(archive, "w") as z:
        for top in ("a/", "b/"):
            for path, content in FILES.items():
                z.writestr(top + path, content)
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), "twice")


def test_an_archive_that_is_cut_short(source, tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(source.read_bytes())
    cut(archive, archive.stat().st_size // 2)
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), "a.zip")
    assert nothing_left(tmp_path / "out")


def test_an_archive_with_a_flipped_bit(source, tmp_path):
    content = bytearray(source.read_bytes())
    content[content.index(FILES[IMAGE]) + 700] ^= 4
    (tmp_path / "a.zip").write_bytes(content)
    one_line(build("tiny-imagenet", tmp_path / "a.zip", tmp_path / "out"), IMAGE, "CRC")


@pytest.mark.parametrize("path", ["../train/n01000000/images/n_0.JPEG", "/val/images/val_1.JPEG"])
def test_a_member_that_leaves_the_folder(tmp_path, path):
    archive = write_zip(tmp_path / "a.zip", FILES)
    with zipfile.ZipFile(archive, "a") as z:
        z.writestr(zipfile.ZipInfo(path), b"x")
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), "leaves the folder")


def test_an_encrypted_archive(tmp_path):
    archive = tmp_path / "a.zip"
    content = bytearray(write_zip(archive, FILES).read_bytes())
    # The flag "encrypted" of the first member, in its own header and in the directory.
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4) + 8] |= 1
    archive.write_bytes(content)
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), "encrypted")


def test_images_that_come_to_far_too_much(tmp_path):
    """Each is small enough, and packed they are nothing."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for number in range(5):
            z.writestr(f"train/{WNIDS[0]}/images/{WNIDS[0]}_{number}.JPEG", bytes(100_000_000))
    one_line(build("tiny-imagenet", archive, tmp_path / "out"), "more than 400000000 bytes in all")


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=5),
    end=st.integers(0, 99),
)
def test_damaged_bytes_are_decoded_or_refused_in_one_line(changes, end):
    content = bytearray(FILES[IMAGE])
    for at, value in changes:
        content[at % len(content)] = value
    content = bytes(content[: len(content) * (100 - end // 10) // 100])
    try:
        image = tiny_imagenet.decode("a.JPEG", content, 64)
        assert image.shape == (3, 64, 64) and image.dtype == np.uint8
    except UserError as error:
        assert str(error).startswith("a.JPEG: ") and "\n" not in str(error)


# --- what it needs ------------------------------------------------------------------------------------------------------


def test_the_memory_is_that_of_the_jpegs_not_of_the_pixels(tmp_path):
    """12,000 images are 147 MB decoded and 230 MB padded; their JPEGs 20 MB."""
    files = dict(FILES)
    for wnid in WNIDS:
        for number in range(60):
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = FILES[
                f"train/{wnid}/images/{wnid}_{number % 3 * 9}.JPEG"
            ]
    archive = write_zip(tmp_path / "a.zip", files)
    words = ["--dataset", "tiny-imagenet", "--source", str(archive), "--out", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, str(ROOT / TOOL), *words], stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, own_memory(process.pid))
        time.sleep(0.002)
    assert process.returncode == 0
    assert manifest(tmp_path / "out")["train"]["images"] == 12_000
    assert 20_000 < peak < 150_000, f"{peak} kB"


def own_memory(pid):
    """kB of a process that are not pages of files, which any other process could have for the asking."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
