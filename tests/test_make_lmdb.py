"""The data tool, through its command line: real archives, small ones in the official layout, and every bad input."""

import gzip
import io
import json
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

from conftest import FASHION, ROOT, command, official, one_line, read_idx, write_cifar, write_fashion, write_idx
from test_data_layer import read_lmdb

TOOL = "data_tools/make_lmdb.py"


def build(dataset, source, out, *more, **options):
    return command(TOOL, "--dataset", dataset, "--source", source, "--out", out, *more, **options)


def nothing_left(out):
    return not out.exists() and nothing_beside(out)


def nothing_beside(out):
    """Neither a lock nor a folder that a build writes in."""
    return not list(out.parent.glob(f".{out.name}*"))


def partials(out):
    return list(out.parent.glob(f".{out.name}.*.partial"))


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


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
    from test_data_layer import read_mean

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


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "tar", "zip"])
def test_every_form_of_archive_gives_the_same_pixels(colour, colour_source, tmp_path, form):
    archive = tmp_path / f"a.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
            for path in colour_source.iterdir():
                z.write(path, f"cifar-10-batches-bin/{path.name}")
    else:
        with tarfile.open(archive, "w" + {"tar.gz": ":gz", "tar.xz": ":xz", "tar": ""}[form]) as t:
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


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
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
    build("fashion-mnist", source, tmp_path / "out", "--trust", check=0)
    assert not manifest(tmp_path / "out")["official"]


@pytest.mark.parametrize("form", ["gz", "xz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "start"])
def test_a_damaged_tar(small, tmp_path, form, damage):
    archive = tmp_path / f"a.tar.{form}"
    with tarfile.open(archive, f"w:{form}") as t:
        t.add(small, "c")
    size = archive.stat().st_size
    {
        "cut": lambda: cut(archive, size * 2 // 3),
        "flip": lambda: flip(archive, size // 2),
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
    out = tmp_path / "out"
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
    both = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("built already" in text for text in said) == 1


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
