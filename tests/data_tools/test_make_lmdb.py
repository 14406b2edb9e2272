"""The data tool, through its command line: real archives, small ones in the official layout, and every bad input."""

import gzip
import io
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archives
import building
from conftest import FASHION, ROOT, command, official, one_line, read_idx, write_cifar, write_fashion, write_idx
from hkd.base.cli import UserError
from lmdbs import TOOL, build, cut, manifest, nothing_beside, nothing_left, read_lmdb, read_mean


def partials(out):
    return list(out.parent.glob(f".{out.name}.*.partial"))


def cifar100(folder, train=50, test=20):
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True)
    for name, count in (("train.bin", train), ("test.bin", test)):
        records = rng.integers(0, 256, (count, 3074), np.uint8)
        records[:, 0] = rng.integers(0, 20, count)
        records[:, 1] = rng.integers(0, 100, count)
        (folder / name).write_bytes(records.tobytes())
    return folder


# --- what is built ------------------------------------------------------------------------------------------------------


def test_the_whole_fashion_mnist_of_debians_package(tmp_path):
    done = command(TOOL, "--dataset", "fashion-mnist", "--out", tmp_path / "f", check=0)
    assert "60,000 training and 10,000 test images" in done.stdout and not done.stderr
    written = manifest(tmp_path / "f")
    assert written["official"] and written["train"]["per_class"] == [6000] * 10 and written["pad"] == 0
    assert not list((tmp_path / "f").glob("mean*"))
    images, labels = read_lmdb(tmp_path / "f/test_lmdb")
    np.testing.assert_array_equal(images[:, 0], read_idx(FASHION / "t10k-images-idx3-ubyte.gz", 3))
    np.testing.assert_array_equal(labels, read_idx(FASHION / "t10k-labels-idx1-ubyte.gz", 1))


def test_the_real_cifar10_archive(tmp_path):
    done = build("cifar10", official("cifar-10-binary.tar.xz"), tmp_path / "c", check=0)
    assert "50,000 training and 10,000 test images" in done.stdout
    written = manifest(tmp_path / "c")
    assert (
        written["official"]
        and written["train"]["per_class"] == [5000] * 10
        and written["test"]["per_class"] == [1000] * 10
    )
    assert written["pixels_sha256"].startswith("7dcbc9b98668")
    # He et al.'s mean of CIFAR-10 is known: about 125.3, 123.0, 113.9 in red, green, blue.

    np.testing.assert_allclose(
        read_mean(tmp_path / "c/mean_test.binaryproto").mean(axis=(1, 2)), [125.3, 123.0, 113.9], atol=0.1
    )


def test_the_real_mnist(tmp_path):
    build("mnist", official("mnist"), tmp_path / "m", check=0)
    written = manifest(tmp_path / "m")
    assert written["official"] and written["train"]["images"] == 60_000 and written["test"]["images"] == 10_000


def test_a_small_cifar100_has_its_fine_labels(tmp_path):
    source = cifar100(tmp_path / "cifar-100-binary")
    done = build("cifar100", source, tmp_path / "out", check=0)
    assert "not the official CIFAR-100: 50 + 20 images" in done.stderr
    raw = np.frombuffer((source / "test.bin").read_bytes(), np.uint8).reshape(-1, 3074)
    images, labels = read_lmdb(tmp_path / "out/test_lmdb")
    np.testing.assert_array_equal(labels, raw[:, 1])
    np.testing.assert_array_equal(images.reshape(20, -1), raw[:, 2:])


def test_the_training_images_are_shuffled_by_the_seed_and_whole(colour, colour_source, tmp_path):
    images, labels = read_lmdb(colour / "train_lmdb")
    raw = np.concatenate(
        [
            np.frombuffer((colour_source / f"data_batch_{i}.bin").read_bytes(), np.uint8).reshape(-1, 3073)
            for i in range(1, 6)
        ]
    )
    order = np.random.default_rng(1).permutation(len(raw))
    np.testing.assert_array_equal(labels, raw[order, 0])
    np.testing.assert_array_equal(images[:, :, 4:-4, 4:-4].reshape(len(raw), -1), raw[order, 1:])
    assert not np.array_equal(labels, raw[:, 0])
    build("cifar10", colour_source, tmp_path / "same", check=0)
    build("cifar10", colour_source, tmp_path / "other", "--seed", 2, check=0)
    pixels = [manifest(folder)["pixels_sha256"] for folder in (colour, tmp_path / "same", tmp_path / "other")]
    assert pixels[0] == pixels[1] != pixels[2]


FAST = {"gz": {"compresslevel": 1}, "xz": {"preset": 0}, "": {}}


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "tar", "zip"])
def test_every_form_of_archive_gives_the_same_pixels(colour, colour_source, tmp_path, form):
    archive = tmp_path / f"a.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            for path in colour_source.iterdir():
                z.write(path, f"cifar-10-batches-bin/{path.name}")
    else:
        packed = form[4:]
        with tarfile.open(archive, f"w:{packed}", **FAST[packed]) as t:
            t.add(colour_source, "cifar-10-batches-bin")
    build("cifar10", archive, tmp_path / "out", check=0)
    assert manifest(tmp_path / "out")["pixels_sha256"] == manifest(colour)["pixels_sha256"]


def test_the_padding_can_be_chosen(colour_source, tmp_path):
    build("cifar10", colour_source, tmp_path / "out", "--pad", 2, check=0)
    assert read_lmdb(tmp_path / "out/train_lmdb")[0].shape == (1000, 3, 36, 36)
    assert manifest(tmp_path / "out")["pad"] == 2


def test_building_twice_builds_once_and_never_overwrites(colour_source, tmp_path):
    out = tmp_path / "out"
    build("cifar10", colour_source, out, check=0)
    before = (out / "train_lmdb/data.mdb").stat().st_mtime_ns
    assert "built already" in build("cifar10", colour_source, out, check=0).stdout
    one_line(build("cifar10", colour_source, out, "--seed", 3), "--seed 1, not 3", "--out")
    one_line(build("cifar10", colour_source, out, "--pad", 0), "--pad 4, not 0")
    one_line(build("cifar10", tmp_path / "elsewhere", out), f"was built from {colour_source}", "elsewhere")
    assert (out / "train_lmdb/data.mdb").stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    one_line(build("cifar10", colour_source, tmp_path / "mine"), "not written by make_lmdb.py")
    (out / "manifest.json").write_text("{}")
    one_line(build("cifar10", colour_source, out), "not a manifest")


# --- bad input --------------------------------------------------------------------------------------------------------


def flip(path, at, count=1):
    """Another bit in each of `count` bytes of the file `path`, from byte `at` on."""
    content = bytearray(path.read_bytes())
    for place in range(at, at + count):
        content[place] ^= 0x10
    path.write_bytes(bytes(content))


@pytest.fixture
def small(tmp_path, colour_source):
    """A copy of the small CIFAR-10 to damage."""
    return shutil.copytree(colour_source, tmp_path / "small")


def test_a_file_that_is_no_multiple_of_the_record(small, tmp_path):
    cut(small / "data_batch_2.bin", 10_000)
    one_line(build("cifar10", small, tmp_path / "out"), "data_batch_2.bin", "10000 bytes", "3073")
    assert nothing_left(tmp_path / "out")


def test_a_label_out_of_range(small, tmp_path):
    content = bytearray((small / "test_batch.bin").read_bytes())
    content[3073 * 7] = 10
    (small / "test_batch.bin").write_bytes(bytes(content))
    one_line(build("cifar10", small, tmp_path / "out"), "test image 7", "label 10", "0 to 9")
    assert nothing_left(tmp_path / "out")


def test_a_missing_file(small, tmp_path):
    (small / "data_batch_4.bin").unlink()
    one_line(build("cifar10", small, tmp_path / "out"), "data_batch_4.bin is not in it")


def test_an_empty_file(small, tmp_path):
    for path in small.glob("data_batch_*.bin"):
        path.write_bytes(b"")
    one_line(build("cifar10", small, tmp_path / "out"), "no training images")


def test_no_such_source(tmp_path):
    one_line(build("cifar10", tmp_path / "nowhere", tmp_path / "out"), "nowhere", "no such file")


def test_one_file_where_a_folder_is_wanted(fashion_source, tmp_path):
    source = fashion_source / "train-images-idx3-ubyte.gz"
    one_line(
        build("fashion-mnist", source, tmp_path / "out"), "only one file of the data set", "t10k-labels-idx1-ubyte"
    )


def test_a_bit_flipped_in_an_official_file(tmp_path):
    source = tmp_path / "flipped"
    source.mkdir()
    for path in FASHION.glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        if path.name.startswith("t10k-images"):
            content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        (source / path.name).write_bytes(gzip.compress(content, 1))
    one_line(build("fashion-mnist", source, tmp_path / "out"), "t10k-images-idx3-ubyte", "not the official content")
    assert nothing_left(tmp_path / "out")
    done = build("fashion-mnist", source, tmp_path / "out", "--trust", check=0)
    assert not manifest(tmp_path / "out")["official"]
    # As many images as the official ones: what is said is what differs.
    assert "not the official Fashion-MNIST: t10k-images-idx3-ubyte has sha256 " in done.stderr
    assert "(official: 5b4141f0afba)" in done.stderr and "60,000" not in done.stderr


@pytest.mark.parametrize("form", ["gz", "xz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "start"])
def test_a_damaged_tar(small, tmp_path, form, damage):
    archive = tmp_path / f"a.tar.{form}"
    with tarfile.open(archive, f"w:{form}", **FAST[form]) as t:
        t.add(small, "c")
    size = archive.stat().st_size
    {
        "cut": lambda: cut(archive, size * 2 // 3),
        # Not one byte: it may be the length or the distance of a match, and copy the same black pixels from elsewhere.
        "flip": lambda: flip(archive, size // 2, 64),
        "start": lambda: flip(archive, 1),
    }[damage]()
    one_line(build("cifar10", archive, tmp_path / "out"), archive.name)
    assert nothing_left(tmp_path / "out")


def test_a_zip_with_a_wrong_crc(small, tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for path in sorted(small.iterdir()):
            z.write(path, path.name)
    flip(archive, 5000)
    one_line(build("cifar10", archive, tmp_path / "out"), "data_batch_1.bin", "CRC")
    assert nothing_left(tmp_path / "out")


def test_a_gz_that_is_cut_short(fashion_source, tmp_path):
    source = shutil.copytree(fashion_source, tmp_path / "cut")
    cut(source / "train-images-idx3-ubyte.gz", 40_000)
    one_line(build("fashion-mnist", source, tmp_path / "out"), "train-images-idx3-ubyte.gz", "cut short")


def test_as_many_labels_as_images(fashion_source, tmp_path):
    source = shutil.copytree(fashion_source, tmp_path / "fewer")
    write_idx(source / "train-labels-idx1-ubyte.gz", np.zeros(639, np.uint8))
    one_line(build("fashion-mnist", source, tmp_path / "out"), "640 training images but 639 labels")


def test_an_idx_header_that_promises_more(fashion_source, tmp_path):
    source = shutil.copytree(fashion_source, tmp_path / "more")
    content = gzip.decompress((source / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with gzip.open(source / "t10k-labels-idx1-ubyte.gz", "wb") as stream:
        stream.write(content[:4] + (2**31).to_bytes(4, "big") + content[8:])
    one_line(build("fashion-mnist", source, tmp_path / "out"), "t10k-labels-idx1-ubyte", "header promises")
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"PNG"))
    one_line(build("fashion-mnist", source, tmp_path / "out"), "t10k-labels-idx1-ubyte", "idx magic")


def member(name, **fields):
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.bin"),
        member("/etc/outside.bin"),
        member("a/../../outside.bin"),
        member("link.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("data_batch_1.bin", type=tarfile.LNKTYPE, linkname="../x"),
        member("device", type=tarfile.CHRTYPE),
    ],
    ids=lambda m: m.name,
)
def test_a_tar_member_that_leaves_the_folder_or_is_a_link(small, tmp_path, bad):
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as t:
        t.addfile(bad, io.BytesIO(b""))
        t.add(small, "c")
    one_line(build("cifar10", archive, tmp_path / "out"), bad.name, "member")
    assert nothing_left(tmp_path / "out") and not (tmp_path / "outside.bin").exists()


@pytest.mark.parametrize("name", ["../outside.bin", "/outside.bin", "..\\outside.bin", "C:\\outside.bin"])
def test_a_zip_member_that_leaves_the_folder(small, tmp_path, name):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr(zipfile.ZipInfo(name), b"x")
        for path in small.iterdir():
            z.write(path, path.name)
    one_line(build("cifar10", archive, tmp_path / "out"), "leaves the folder")


def test_a_zip_member_that_is_a_link(small, tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        link = zipfile.ZipInfo("data_batch_1.bin")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        z.writestr(link, b"/etc/passwd")
    one_line(build("cifar10", archive, tmp_path / "out"), "data_batch_1.bin", "link")


def test_a_file_that_unpacks_to_far_too_much(fashion_source, tmp_path):
    source = shutil.copytree(fashion_source, tmp_path / "bomb")
    with gzip.open(source / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as stream:
        for _ in range(250):
            stream.write(bytes(1 << 20))
    one_line(build("fashion-mnist", source, tmp_path / "out"), "train-images-idx3-ubyte.gz", "larger than")


def test_idx_dimensions_whose_product_wraps_round(fashion_source, tmp_path):
    """2^22 x 2^21 x 2^21 is 0 in 64 bits, the length of what follows."""
    source = shutil.copytree(fashion_source, tmp_path / "wraps")
    header = bytes((0, 0, 8, 3)) + b"".join((1 << bits).to_bytes(4, "big") for bits in (22, 21, 21))
    (source / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))
    one_line(build("fashion-mnist", source, tmp_path / "out"), "t10k-images-idx3-ubyte: 16 bytes", "header promises")


def header_alone(kind, size, name="data_batch_1.bin", **fields):
    """The 512 bytes of a member that is of `size` bytes, it says."""
    info = member(name, type=kind, **fields)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**records):
    """A header of records for the next member."""
    lines = b""
    for key, value in records.items():
        text = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(len(text), 9000) if len(str(n)) + len(text) == n)
        lines += str(length).encode() + text
    return header_alone(tarfile.XHDTYPE, len(lines)) + lines.ljust(-(-len(lines) // 512) * 512, b"\0")


PLAIN = header_alone(tarfile.REGTYPE, 0)
SPARSE_0 = pax(GNU_sparse_map="0,1")
SPARSE_1 = pax(GNU_sparse_major=1, GNU_sparse_minor=0)
HEADERS = {
    "a long name of 3 GiB": (PLAIN + header_alone(tarfile.GNUTYPE_LONGNAME, 3 << 30), "too large"),
    "records of 3 GiB": (PLAIN + header_alone(tarfile.XHDTYPE, 3 << 30), "too large"),
    "the same for all members": (header_alone(tarfile.XGLTYPE, 3 << 30), "too large"),
    "records up to the end": (PLAIN + header_alone(tarfile.XHDTYPE, -1024) + bytes(2 << 20), "too large"),
    "a header of headers": (pax(comment="x" * 8000) * 200 + PLAIN, "too large"),
    "a sparse file": (header_alone(tarfile.GNUTYPE_SPARSE, 0), "sparse"),
    "a sparse file as records": (SPARSE_0 + PLAIN, "sparse"),
    "a sparse file of no numbers": (pax(GNU_sparse_map="x,y") + PLAIN, "damaged"),
    "a sparse file without its map": (PLAIN + SPARSE_1 + PLAIN, "damaged"),
    "a sparse map without end": (PLAIN + SPARSE_1 + PLAIN + b"9999999\n" + b"1\n" * 20_000_000, "too large"),
    "a negative size": (PLAIN + header_alone(tarfile.REGTYPE, -512, "x") + bytes(1024), "x"),
    "a negative size as a record": (PLAIN + pax(size=-2048) + header_alone(tarfile.REGTYPE, 0, "y") + bytes(1024), "y"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_tar_whose_headers_claim_what_is_not_so(tmp_path, name):
    content, said = HEADERS[name]
    archive = tmp_path / "a.tar"
    archive.write_bytes(content)
    if "3 GiB" in name:
        os.truncate(archive, len(content) + (3 << 30))
    one_line(build("cifar10", archive, tmp_path / "out", timeout=100), archive, said)


def test_an_archive_without_end(tmp_path):
    (tmp_path / "a.tar").touch()
    os.truncate(tmp_path / "a.tar", 5 << 30)
    one_line(build("cifar10", tmp_path / "a.tar", tmp_path / "out", timeout=100), "a.tar: larger than 4294967296 bytes")


def test_a_zip_whose_names_are_not_what_they_are_said_to_be(tmp_path):
    """Marked as UTF-8."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("dätä", b"x")
    archive.write_bytes(archive.read_bytes().replace("ä".encode(), b"\xff\xff"))
    one_line(build("cifar10", archive, tmp_path / "out"), "a.zip: damaged", "get it again")


def small_archive(form):
    stream = io.BytesIO()
    files = {
        "c/readme-of-a-name-as-long-as-can-be-" + "x" * 200: b"text",
        "c/train.bin": b"1" * 700,
        "c/test.bin": b"2",
    }
    if form == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as z:
            for name, content in files.items():
                z.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode="w", format=getattr(tarfile, f"{form.upper()}_FORMAT")) as t:
            for name, content in files.items():
                t.addfile(member(name, size=len(content), mtime=0.5), io.BytesIO(content))
    return stream.getvalue()


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("form", ["zip", "pax", "gnu"])
def test_damaged_bytes_of_an_archive_are_read_or_refused(form, changes, tmp_path_factory):
    content = bytearray(small_archive(form))
    for at, value in changes:
        content[at % len(content)] = value
        if form != "zip":  # a header is read as far as its sum is right
            for block in range(0, len(content) - 511, 512):
                header = content[block : block + 512]
                if header[257:262] == b"ustar":
                    total = 256 + sum(header[:148]) + sum(header[156:])
                    content[block + 148 : block + 156] = b"%06o\0 " % total
    path = tmp_path_factory.getbasetemp() / f"damaged.{form}"
    path.write_bytes(content)
    try:
        archives.read_files(path, archives.Wanted(("train.bin", "test.bin"), 1000, 2000))
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("name", ["fifo", "/dev/zero"])
def test_a_source_that_never_ends(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    one_line(build("cifar10", tmp_path / name, tmp_path / "out", timeout=60), name, "neither a file nor a folder")


def test_a_folder_with_a_file_that_never_ends(small, tmp_path):
    (small / "data_batch_3.bin").unlink()
    os.mkfifo(small / "data_batch_3.bin")
    one_line(build("cifar10", small, tmp_path / "out", timeout=60), "data_batch_3.bin is not in it")


def test_an_empty_name_is_not_the_current_folder(colour_source, tmp_path):
    one_line(command(TOOL, "--dataset", "cifar10", "--source", "", "--out", tmp_path / "out", cwd=colour_source), "''")
    one_line(command(TOOL, "--dataset", "cifar10", "--out", "", cwd=tmp_path), "--out", "''")
    one_line(command("data_tools/fetch.py", "--dataset", "cifar10", "--out", "", cwd=tmp_path), "--out", "''")


def test_names_that_are_not_utf_8(colour_source, tmp_path):
    """Of what is read they may be; Caffe's files could not name the LMDBs."""
    source = shutil.copytree(colour_source, tmp_path / os.fsdecode(b"s\xff"))
    (source / os.fsdecode(b"\xfe.bin")).write_bytes(b"")
    build("cifar10", source, tmp_path / "out", check=0)
    done = build("cifar10", source, tmp_path / "out", check=0)
    assert "built already" in done.stdout
    named = tmp_path / os.fsdecode(b"o\xff")
    one_line(build("cifar10", source, named), "o\\udcff", "not UTF-8", "rename")
    one_line(command("data_tools/fetch.py", "--dataset", "cifar10", "--out", named), "not UTF-8")
    one_line(command("python/run_stage.py", "--experiment", "cifar10-r14-r8", "--data", named), "not UTF-8")
    assert not named.exists()


@pytest.mark.parametrize(
    ("dataset", "file", "said"),
    [
        (
            "cifar10",
            "cifar-10-batches-py/data_batch_1",
            ("pickles", "cifar-10-binary.tar.gz", "fetch.py --dataset cifar10"),
        ),
        ("cifar10", "cifar-10-batches-mat/data_batch_1.mat", ("MATLAB version", "cifar-10-binary.tar.gz")),
        ("cifar10", "cifar-100-binary/train.bin", ("CIFAR-100", "--dataset cifar100")),
        ("cifar100", "cifar-100-python/train", ("pickles", "cifar-100-binary.tar.gz", "fetch.py --dataset cifar100")),
        ("cifar100", "cifar-10-batches-bin/data_batch_1.bin", ("CIFAR-10,", "--dataset cifar10")),
    ],
)
def test_another_form_of_the_data_set(tmp_path, dataset, file, said):
    ran = f"cposix\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode()
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(ran)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as t:
        t.add(tmp_path / file, file)
    for source in (tmp_path / "a.tar.gz", (tmp_path / file).parent):
        one_line(build(dataset, source, tmp_path / "out"), source, *said)
    assert not (tmp_path / "ran").exists()


def test_unknown_data_set_and_bad_numbers(tmp_path, fashion_source):
    one_line(command(TOOL, "--dataset", "cifar11"), "cifar11", "did you mean cifar10")
    one_line(build("fashion-mnist", fashion_source, tmp_path / "o", "--pad", -1), "--pad -1")
    one_line(build("fashion-mnist", fashion_source, tmp_path / "o", "--seed", -1), "--seed -1")


def test_a_target_that_cannot_be_written(colour_source, tmp_path):
    (tmp_path / "file").write_text("")
    one_line(build("cifar10", colour_source, tmp_path / "file/out"), "file")


def test_a_target_without_room(colour_source, tmp_path):
    """RLIMIT_FSIZE: a write beyond 1 MB fails, as on a full disk."""
    done = build(
        "cifar10",
        colour_source,
        tmp_path / "out",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    one_line(done, "out", "room")
    assert nothing_left(tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_build_leaves_no_data_set_and_the_next_one_works(tmp_path, number):
    source = write_fashion(tmp_path / "s", 20_000, 500)
    out = tmp_path / "out"
    arguments = [
        sys.executable,
        str(ROOT / TOOL),
        "--dataset",
        "fashion-mnist",
        "--source",
        str(source),
        "--out",
        str(out),
    ]
    killed = 0
    for delay in np.linspace(0.0, 0.25, 6):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not partials(out):
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        killed += process.wait() != 0
        if out.exists():  # it was quicker: then it must be whole
            assert manifest(out)["train"]["images"] == 20_000
            shutil.rmtree(out)
        if number == signal.SIGTERM and process.returncode:
            assert nothing_left(out)
    assert killed
    assert subprocess.run(arguments, stdout=subprocess.DEVNULL).returncode == 0
    assert len(read_lmdb(out / "train_lmdb")[1]) == 20_000 and nothing_beside(out)


def test_two_builds_at_once_make_one_data_set(colour_source, tmp_path):
    """Of two users or nodes: what they have in common is the folder that they build in."""
    out = tmp_path / "data/out"
    temporary = [tmp_path / "one", tmp_path / "other"]
    arguments = [
        sys.executable,
        str(ROOT / TOOL),
        "--dataset",
        "cifar10",
        "--source",
        str(colour_source),
        "--out",
        str(out),
    ]
    both = []
    for folder in temporary:
        folder.mkdir()
        environment = {**os.environ, "TMPDIR": str(folder)}
        both.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment))
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("built already" in text for text in said) == 1
    assert "1,000 training" in command(TOOL, "--dataset", "cifar10", "--out", out, "--check", check=0).stdout
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert not [path for folder in temporary for path in folder.iterdir()]


def _build_slowly(out, notes):
    with building.only_builder(out) as partial:
        partial.mkdir()
        for word in ("begin", "end"):
            with notes.open("a") as stream:
                stream.write(f"{word} {partial.name}\n")
            time.sleep(0.02)


def test_many_builders_of_one_folder_come_one_after_another(tmp_path):
    """Each removes the lock as it goes, while others wait for it."""
    processes = [
        multiprocessing.get_context("fork").Process(target=_build_slowly, args=(tmp_path / "out", tmp_path / "notes"))
        for _ in range(12)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [word for word, _ in lines] == ["begin", "end"] * 12
    names = [name for _, name in lines]
    assert names[::2] == names[1::2] and len(set(names)) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("event", ["open", "os.remove"])
def test_a_signal_as_the_lock_is_made_or_removed_leaves_none(colour_source, tmp_path, event):
    stopped = f"""if 1:
        import os, runpy, signal, sys
        def stop(event, arguments):
            if event == {event!r} and str(arguments[0]).endswith(".out.lock"):
                os.kill(os.getpid(), signal.SIGTERM)
        sys.addaudithook(stop)
        sys.path.insert(0, {str(ROOT / "data_tools")!r})
        runpy.run_path({str(ROOT / TOOL)!r}, run_name="__main__")
    """
    words = ("--dataset", "cifar10", "--source", colour_source, "--out", tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", stopped, *map(str, words)], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (128 + signal.SIGTERM, "error: interrupted")
    assert nothing_beside(tmp_path / "out")


def test_what_killed_builds_left_goes_and_nothing_else(tmp_path):
    for name in (".out.0123abcd.partial", ".out.v2.0123abcd.partial", ".other.0123abcd.partial", "out.partial"):
        (tmp_path / name / "train_lmdb").mkdir(parents=True)
    (tmp_path / ".out.lock").touch()
    with building.only_builder(tmp_path / "out"):
        assert (tmp_path / ".out.lock").exists() and not (tmp_path / ".out.0123abcd.partial").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        ".out.v2.0123abcd.partial",
        ".other.0123abcd.partial",
        "out.partial",
    }


def test_a_build_whose_lock_another_did_not_see_leaves_the_others_folder(tmp_path):
    """As of two nodes, where a file system keeps its locks to itself."""
    out = tmp_path / "out"
    with building.only_builder(out) as partial:
        partial.mkdir()
        (partial / "mine").write_text("")
        out.mkdir()
        (out / "theirs").write_text("")
        with pytest.raises(UserError, match="built by another process meanwhile"):
            building.put_in_place(partial, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_a_folder_without_permission(colour_source):
    # Not even root may make folders there; in a container it is mounted read-only.
    one_line(build("cifar10", colour_source, "/sys/hkd-data"), "/sys", "another folder")


def test_writing_cifar_files_is_what_the_reader_reads(tmp_path):
    images = np.arange(12 * 3072, dtype=np.uint8).reshape(12, 3, 32, 32)
    write_cifar(tmp_path / "w", images, np.arange(12) % 10, 2)
    build("cifar10", tmp_path / "w", tmp_path / "out", check=0)
    read, labels = read_lmdb(tmp_path / "out/test_lmdb")
    np.testing.assert_array_equal(read, images[10:])
    np.testing.assert_array_equal(labels, [0, 1])
