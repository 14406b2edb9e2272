"""What is in the LMDBs against their manifest: every kind of damage, found once a machine and before anything is trained."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from conftest import ROOT, command, namespace, one_line
from hkd.base.cli import UserError
from hkd.paper import contents, datasets
from lmdbs import TOOL, manifest

FACTS = datasets.dataset("cifar10")
STAGE = ("--experiment", "cifar10-r14-r8", "--stage", "baseline", "--scale", "0.00003", "--set", "batch=16", "--cpu")


@pytest.fixture
def copy(colour_indexed, tmp_path):
    return shutil.copytree(colour_indexed, tmp_path / "copy")


def verify(folder, **how):
    """Whether every record was read."""
    said = []
    contents.verify(datasets.read_manifest(folder, FACTS), FACTS, say=said.append, **how)
    return bool(said)


def check(folder):
    return command(TOOL, "--dataset", "cifar10", "--out", folder, "--check")


def rewrite(name, change):
    """A damage: LMDB `name` of {key: value} after `change`, with the size that the manifest names."""

    def damage(folder):
        with (
            lmdb.open(str(folder / name), readonly=True, lock=False) as environment,
            environment.begin() as transaction,
        ):
            records = dict(transaction.cursor())
        shutil.rmtree(folder / name)
        (folder / name).mkdir()
        change(records)
        path = str(folder / name)
        with lmdb.open(path, map_size=1 << 28, lock=False) as environment, environment.begin(write=True) as transaction:
            for key, value in sorted(records.items()):
                transaction.put(key, value)
        written = manifest(folder)
        written["bytes"][f"{name}/data.mdb"] = (folder / name / "data.mdb").stat().st_size
        (folder / "manifest.json").write_text(json.dumps(written))

    return damage


def record(position, **fields):
    """A change of `rewrite`: fields of one Datum."""

    def change(records):
        datum = caffe_pb2.Datum.FromString(records[contents.key(position)])
        for name, value in fields.items():
            setattr(datum, name, value)
        records[contents.key(position)] = datum.SerializeToString()

    return change


def value(position, content):
    return lambda records: records.update({contents.key(position): content})


def zeroed(records):
    records.update({key: bytes(len(records[key])) for key in sorted(records)[:1000]})


def fewer(records):
    del records[contents.key(7)]


def another_key(records):
    records[b"image-7"] = records.pop(contents.key(7))


def exchanged(records):
    """Two images with their labels: each is a sound one."""
    one, other = contents.key(3), contents.key(4)
    records[one], records[other] = records[other], records[one]


def flip(name, at=0.5, bytes_=1):
    """A damage: bytes in the middle of a file are others, and its size and time are not."""

    def damage(folder):
        path = folder / name
        times = path.stat()
        content = bytearray(path.read_bytes())
        start = int(len(content) * at)
        for place in range(start, start + bytes_):
            content[place] ^= 0x55
        with path.open("r+b") as stream:
            stream.write(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return damage


def one_pixel(folder):
    """In the file as it lies there, of record 500."""
    with lmdb.open(str(folder / "train_lmdb"), readonly=True, lock=False) as environment, environment.begin() as t:
        pixels = caffe_pb2.Datum.FromString(t.get(contents.key(500))).data
    path = folder / "train_lmdb/data.mdb"
    content = path.read_bytes()
    where = content.index(pixels) + 2000
    flip("train_lmdb/data.mdb", (where + 0.5) / len(content))(folder)


def zeroed_pages(folder):
    path = folder / "train_lmdb/data.mdb"
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 4)
        stream.write(bytes(path.stat().st_size // 2))


DAMAGES = {
    "one byte of a pixel": (one_pixel, "labels and pixels have sha256 "),
    "pages of zeros": (zeroed_pages, "damaged"),
    "1,000 records of zeros": (rewrite("train_lmdb", zeroed), "train_lmdb: record 0 is no Datum"),
    "a label of 77": (
        rewrite("train_lmdb", record(42, label=77)),
        "train_lmdb: record 42 has label 77, expected 0 to 9",
    ),
    "a label of -1": (rewrite("test_lmdb", record(5, label=-1)), "test_lmdb: record 5 has label -1"),
    "another label": (rewrite("test_lmdb", record(5, label=9)), "labels and pixels have sha256 "),
    "an empty record": (rewrite("train_lmdb", value(3, b"")), "train_lmdb: record 3 is empty"),
    "half a record": (rewrite("train_lmdb", value(3, b"\x08\x03\x10")), "train_lmdb: record 3 is no Datum"),
    "half an image": (rewrite("train_lmdb", record(3, data=b"1" * 2400)), "record 3 is not an image of 3 x 40 x 40"),
    "another shape": (rewrite("train_lmdb", record(3, height=80, width=20)), "record 3 is not an image"),
    "a packed image": (rewrite("train_lmdb", record(3, encoded=True)), "record 3 is not an image"),
    "a record fewer": (rewrite("test_lmdb", fewer), "test_lmdb: has 199 records, its manifest says 200"),
    "another key": (rewrite("test_lmdb", another_key), "test_lmdb: record 7 has another key"),
    "another order": (rewrite("train_lmdb", exchanged), "labels and pixels have sha256 "),
    "a mean of other images": (flip("mean_train.binaryproto"), "mean_train.binaryproto: is not the mean"),
    "no mean": (flip("mean_test.binaryproto", 0, 40), "mean_test.binaryproto: is no"),
    "an index twice": (rewrite("train_index_lmdb", record(3, label=5)), "train_index_lmdb: does not name each"),
    "an index of none": (rewrite("train_index_lmdb", record(3, label=-5)), "train_index_lmdb: does not name each"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_named(copy, name):
    assert verify(copy)
    damage, said = DAMAGES[name]
    damage(copy)
    with pytest.raises(UserError) as refused:
        verify(copy)
    line = str(refused.value)
    assert said in line and str(copy) in line and "build it again with data_tools/make_lmdb.py" in line


def test_a_reader_that_crashes_is_one_line(copy):
    """A record whose length is 2 GB, it says: LMDB reads on beyond the file."""
    path = copy / "train_lmdb/data.mdb"
    content = bytearray(path.read_bytes())
    key, at = contents.key(3), 0
    while (at := content.find(key, at + 1)) >= 0:
        content[at - 6 : at - 4] = b"\xff\x7f"  # before its key: length (low, high), flags, length of the key
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read \(its reader was ended by SIG\w+\): damaged"):
        verify(copy)


def test_damaged_pages_are_refused_whatever_stands_in_them(copy):
    path = copy / "train_lmdb/data.mdb"
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(content)
        page = int(rng.integers(2, len(content) // 4096)) * 4096
        damaged[page : page + 4096] = rng.bytes(4096)
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):  # a page may be one that nothing uses any more
            verify(copy)


def test_it_is_read_once_and_again_after_any_change(copy):
    assert [verify(copy) for _ in range(3)] == [True, False, False]
    assert verify(copy, again=True) and not verify(copy)
    for file in (*datasets.FILES, *datasets.MEAN_FILES, datasets.INDEX_FILE, "manifest.json"):
        os.utime(copy / file)
        assert verify(copy), file
        assert not verify(copy)
    moved = shutil.copytree(copy, copy.with_name("moved"))  # with the stamp of the other
    assert verify(moved) and not verify(copy)
    (copy / contents.STAMP).write_bytes(b"\xff" * 10)
    assert verify(copy) and not verify(copy)


def test_what_was_just_built_was_read(colour_indexed):
    assert not verify(colour_indexed)


def test_where_nothing_can_be_written_the_users_folder_keeps_the_stamp(colour, tmp_path):
    copy = shutil.copytree(colour, tmp_path / "copy")
    (copy / contents.STAMP).unlink()
    (tmp_path / "home").mkdir()
    script = (
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$2" || exit 9; '
        'for _ in 1 2; do "$3" data_tools/make_lmdb.py --dataset cifar10 --out "$1" --index || true; '
        '"$3" data_tools/make_lmdb.py --dataset cifar10 --out "$1" || exit 1; done'
    )
    env = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
    done = namespace(script, copy, ROOT, sys.executable, env=env)
    assert done.returncode == 0 and done.stdout.count("pixels sha256") == 2, done.stderr
    assert len(list((tmp_path / "home/.cache/hkd-caffe").iterdir())) == 1
    assert not (copy / contents.STAMP).exists()
    assert done.stderr.count("read-only") == 2  # the index, which is to be written there
    done = namespace(script, copy, ROOT, sys.executable, env={"HOME": "/proc/none", "XDG_CACHE_HOME": ""})
    assert done.returncode == 0 and done.stdout.count("pixels sha256") == 2, done.stderr


def test_a_digest_that_was_not_measured_is_not_printed(copy):
    assert "1,000 training and 200 test images, pixels sha256" in check(copy).stdout
    one_pixel(copy)
    for done in (check(copy), command(TOOL, "--dataset", "cifar10", "--out", copy)):
        one_line(done, copy, "labels and pixels have sha256")
        assert "pixels sha256" not in done.stdout


def test_check_builds_nothing(tmp_path):
    one_line(check(tmp_path / "none"), f"no CIFAR-10 in {tmp_path}/none", "--out", "--check")
    one_line(command(TOOL, "--dataset", "cifar10", "--check", "--source", tmp_path), "--check builds nothing", "alone")
    assert not list(tmp_path.iterdir())


# --- before anything is trained -----------------------------------------------------------------------------------------


def stage(folder, runs, *more):
    return command("python/run_stage.py", *STAGE, "--runs", runs, "--data", folder, *more)


@pytest.mark.parametrize("name", ["one byte of a pixel", "a label of 77", "a label of -1", "an empty record"])
def test_the_driver_refuses_damaged_images(copy, tmp_path, name):
    damage, said = DAMAGES[name]
    damage(copy)
    one_line(stage(copy, tmp_path / "runs"), copy, said, "build it again")
    assert not (tmp_path / "runs").exists()


def test_images_that_are_damaged_between_two_stages_are_not_trained_on(copy, tmp_path):
    done = stage(copy, tmp_path / "runs")
    assert done.returncode == 0 and "reading every record" in done.stdout
    again = stage(copy, tmp_path / "runs", "--seed", 2)
    assert again.returncode == 0 and "reading every record" not in again.stdout
    one_pixel(copy)
    one_line(stage(copy, tmp_path / "runs", "--seed", 3), copy, "labels and pixels have sha256")


def test_lmdbs_of_another_program_are_not_told_to_be_built(copy, tmp_path):
    """To build them into that folder would be refused."""
    (copy / "manifest.json").unlink()
    done = stage(copy, tmp_path / "runs")
    one_line(done, copy, "was not written by make_lmdb.py", "manifest.json", "name a folder that it built")
    assert "--source" not in done.stderr and not (tmp_path / "runs").exists()


# --- the manifest ---------------------------------------------------------------------------------------------------------


def changed(**fields):
    return lambda written: json.dumps(written | fields)


TEXTS = {
    "empty": lambda written: "",
    "no JSON": lambda written: "{",
    "a list": lambda written: "[]",
    "nested": lambda written: "[" * 100_000,
    "not UTF-8": lambda written: b'{"dataset": "\xff"}',
    "nothing": lambda written: "{}",
    "a number as images": changed(train=1000),
    "images as a text": changed(train={"images": "1000"}),
    "no images": changed(test={"images": 0}),
    "NaN images": changed(test={"images": float("nan")}),
    "images beyond all": changed(train={"images": 10**30}),
    "a negative pad": changed(pad=-4),
    "a pad beyond all": changed(pad=10**9),
    "a pad as a text": changed(pad="4"),
    "a seed as a list": changed(seed=[1]),
    "a seed of a half": changed(seed=0.5),
    "official as a text": changed(official="yes"),
    "a digest as a number": changed(pixels_sha256=7),
    "a short digest": changed(pixels_sha256="abc"),
    "bytes as a list": changed(bytes=[]),
    "bytes as texts": changed(bytes={"train_lmdb/data.mdb": "4096"}),
    "a source as a number": changed(source=1),
    "a data set as a list": changed(dataset=["cifar10"]),
    "too large": changed(source="x" * (1 << 20)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_manifest_of_wrong_types(copy, name):
    text = TEXTS[name](manifest(copy))
    (copy / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as refused:
        datasets.read_manifest(copy, FACTS)
    line = str(refused.value)
    assert line.startswith(f"{copy}/manifest.json: not a manifest of make_lmdb.py") and len(line) < 500


def test_whole_numbers_may_be_written_as_others(copy):
    (copy / "manifest.json").write_text(changed(pad=4.0, seed=1.0)(manifest(copy)))
    found = datasets.read_manifest(copy, FACTS)
    assert f"{found.pad} {found.seed}" == "4 1"


@pytest.mark.parametrize("name", ["manifest.json", "test_lmdb/data.mdb"])
def test_a_file_that_never_ends_is_not_read(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(UserError, match=name):
        datasets.read_manifest(copy, FACTS)


def test_a_full_disk_names_the_folder(colour, colour_source, tmp_path):
    """Where the LMDBs have room and the mean file has not."""
    size = sum((colour / file).stat().st_size for file in datasets.FILES) + 8192
    mount = f'mount -t tmpfs -o size={size} none "$1" && cd "$2" && shift 2 && exec "$@"'
    words = [sys.executable, TOOL, "--dataset", "cifar10", "--source", colour_source, "--out", tmp_path / "d/out"]
    (tmp_path / "d").mkdir()
    one_line(namespace(mount, tmp_path / "d", ROOT, *words), tmp_path / "d/.out", "room")


def test_the_stamp_of_one_is_not_anothers(copy, tmp_path):
    """Two processes that read at once both write the same one."""
    words = [sys.executable, str(ROOT / TOOL), "--dataset", "cifar10", "--out", str(copy), "--check"]
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert not verify(copy) and not list(copy.glob(".*.partial"))
