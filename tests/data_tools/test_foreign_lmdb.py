"""LMDBs of other programs: taken over pixel by pixel, trained on with their own mean, every bad record named."""

import io
import json
import shlex
import shutil

import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from PIL import Image

from conftest import command, one_line
from hkd.paper import contents, datasets
from lmdbs import build, manifest, nothing_left, read_lmdb, read_mean
from own_folders import coloured, fashion_images
from pages import PAGES, commands


def datum(image, label, encoded=None):
    """As convert_imageset writes it: blue, green, red; encoded: the file's own bytes."""
    height, width = image.shape[:2]
    if encoded:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, encoded)
        return caffe_pb2.Datum(data=stream.getvalue(), label=int(label), encoded=True)
    data = image.transpose(2, 0, 1)[::-1].tobytes() if image.ndim == 3 else image.tobytes()
    channels = 3 if image.ndim == 3 else 1
    return caffe_pb2.Datum(channels=channels, height=height, width=width, data=data, label=int(label))


def write(folder, values):
    """An LMDB of Datums, or bytes, with the keys of convert_imageset."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 26) as environment, environment.begin(write=True) as transaction:
        for number, value in enumerate(values):
            content = value if isinstance(value, bytes) else value.SerializeToString()
            transaction.put(b"%08d_n/%d.png" % (number, number), content)
    return folder


@pytest.fixture(scope="module")
def pictures():
    images, labels = fashion_images(80)
    return coloured(images), labels


@pytest.fixture(scope="module")
def mean(tmp_path_factory):
    values = np.arange(3 * 32 * 32, dtype=np.float32) % 256
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=32, width=32, data=values)
    path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    return path, values.reshape(3, 32, 32)


@pytest.mark.parametrize("encoded", [None, "PNG"])
def test_two_lmdbs_are_taken_over_with_their_mean_and_trained_on(encoded, pictures, mean, tmp_path):
    images, labels = pictures
    source = tmp_path / "LMDBS"
    write(source / "my_train_lmdb", [datum(*one, encoded) for one in zip(images[:50], labels[:50], strict=True)])
    write(source / "my_val_lmdb", [datum(*one, encoded) for one in zip(images[50:], labels[50:], strict=True)])
    (tmp_path / "mean.binaryproto").write_bytes(mean[0].read_bytes())
    line = next(c for c in commands(PAGES["data_tools/README.md"]) if "LMDBS" in c)
    homes = {"HKD_DATA": str(tmp_path / "data")}
    from conftest import ROOT

    command(ROOT / "data_tools/make_lmdb.py", *shlex.split(line)[2:], env=homes, cwd=tmp_path, check=0)
    out = tmp_path / "data/known"
    test, test_labels = read_lmdb(out / "test_lmdb")
    assert np.array_equal(test, images[50:].transpose(0, 3, 1, 2)[:, ::-1]) and np.array_equal(test_labels, labels[50:])
    train, train_labels = read_lmdb(out / "train_lmdb")
    given = {(i.transpose(2, 0, 1)[::-1].tobytes(), int(n)) for i, n in zip(images[:50], labels[:50], strict=True)}
    found = zip(train[:, :, 4:-4, 4:-4], train_labels, strict=True)
    assert {(i.tobytes(), int(n)) for i, n in found} == given and len(train) == 50
    assert np.array_equal(read_mean(out / "mean_test.binaryproto"), mean[1])
    said = manifest(out)
    assert said["channels"] == (["blue", "green", "red"] if encoded else ["first", "second", "third"])
    assert said["mean"]["given"] == str(tmp_path / "mean.binaryproto")
    assert said["class_names"] == [str(n) for n in range(10)] and said["read"]["test_share"] is None
    if encoded is None:
        run = (
            "--experiment",
            "known-r14-r8",
            "--stage",
            "baseline",
            "--data",
            out,
            "--runs",
            tmp_path / "runs",
            "--cpu",
        )
        command("python/run_stage.py", *run, "--scale", "0.00001", "--set", "batch=10", check=0)
        (record,) = (tmp_path / "runs").glob("known/*/*/record.json")
        assert json.loads(record.read_text())["digests"]["pixels"] == said["pixels_sha256"]


def test_one_lmdb_is_divided_class_by_class_and_its_index_can_be_added(pictures, tmp_path):
    images, labels = pictures
    source = write(tmp_path / "whole", [datum(*one) for one in zip(images, labels, strict=True)])
    build("mine", source, tmp_path / "out", "--test-share", "0.2", "--index", check=0)
    said, whole = manifest(tmp_path / "out"), np.bincount(labels)
    assert said["test"]["per_class"] == [max(1, round(0.2 * n)) for n in whole.tolist()]
    assert said["train"]["images"] + said["test"]["images"] == 80
    places = read_lmdb(tmp_path / "out/train_index_lmdb")[1]
    assert sorted(places) == list(range(said["train"]["images"]))
    size = (source / "data.mdb").stat().st_size
    shutil.rmtree(source)
    write(source, [datum(*one) for one in zip(images, labels[::-1], strict=True)])
    assert (source / "data.mdb").stat().st_size == size
    one_line(
        build("mine", source, tmp_path / "out", "--test-share", "0.2"), "built from other images than are in", source
    )


def test_a_mean_file_that_changes_is_found(pictures, mean, tmp_path):
    images, labels = pictures
    source = write(tmp_path / "whole", [datum(*one) for one in zip(images, labels, strict=True)])
    build("mine", source, tmp_path / "out", "--mean", mean[0], check=0)
    one_line(build("mine", source, tmp_path / "out"), "--mean", "not measured")
    facts = datasets.Dataset(
        **datasets.own_facts(tmp_path / "out", datasets.read_written(tmp_path / "out")), mean=True, title="mine"
    )
    for file in datasets.MEAN_FILES:
        path = tmp_path / "out" / file
        kept = path.read_bytes()
        blob = caffe_pb2.BlobProto.FromString(kept)
        blob.data[len(blob.data) // 2] += 1
        path.write_bytes(blob.SerializeToString())
        with pytest.raises(datasets.UserError, match=r"labels and pixels|mean_train"):
            contents.verify(datasets.read_manifest(tmp_path / "out", facts), facts, again=True)
        path.write_bytes(kept)


def test_a_driver_that_needs_the_index_says_the_whole_command(pictures, mean, tmp_path):
    images, labels = pictures
    source = write(tmp_path / "whole", [datum(*one) for one in zip(images, labels, strict=True)])
    build("mine", source, tmp_path / "out", "--mean", mean[0], "--pad", 2, "--seed", 4, "--resize", 28, check=2)
    build("mine", source, tmp_path / "out", "--mean", mean[0], "--pad", 2, "--seed", 4, check=0)
    run = ("python/run_stage.py", "--experiment", "mine-r14-r8", "--method", "hint-dynamic", "--stage", "dynamic")
    settings = (
        "--set",
        "batch=8",
        "--set",
        "dynamic_images=20",
        "--set",
        "dynamic_batch=8",
        "--cpu",
        "--scale",
        "0.00001",
    )
    done = command(*run, *settings, "--data", tmp_path / "out", "--runs", tmp_path / "runs")
    one_line(done, "has no index", "python data_tools/make_lmdb.py")
    words = shlex.split(done.stderr.partition("python data_tools/make_lmdb.py")[2])
    command("data_tools/make_lmdb.py", *words, check=0)
    command(*run, *settings, "--data", tmp_path / "out", "--runs", tmp_path / "runs", check=0)


def changed(position, **fields):
    def change(values):
        for key, value in fields.items():
            setattr(values[position], key, value)
        return values

    return change


def replaced(position, value):
    return lambda values: [*values[:position], value, *values[position + 1 :]]


BAD = {
    "a negative label": (changed(3, label=-1), "record 3", "label -1"),
    "a label without bound": (changed(3, label=2**31 - 1), "record 3", "0 to 4095"),
    "labels from 1": (lambda values: [v for v in values if v.label], "no record has label 0"),
    "a short record": (changed(5, data=b"abc"), "record 5", "3 bytes, and 3 x 32 x 32"),
    "another shape": (changed(5, height=16, width=64), "record 5", "64 x 16 pixels"),
    "four channels": (changed(5, channels=4, data=bytes(4096)), "record 5", "4 channels"),
    "grey": (replaced(5, datum(np.zeros((32, 32), np.uint8), 1)), "record 5", "--colour"),
    "no Datum": (replaced(2, b"\xff\xff\xff"), "record 2", "no Datum"),
    "nothing": (replaced(2, b""), "record 2", "no label"),
    "numbers with a fraction": (changed(5, data=b"", channels=3), "record 5"),
    "an encoded one that is none": (changed(5, encoded=True), "record 5", "no PNG, JPEG or WebP"),
    "no record": (lambda values: [], "no record in it"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named(name, pictures, tmp_path):
    change, *said = BAD[name]
    images, labels = pictures
    values = change([datum(*one) for one in zip(images[:20], labels[:20], strict=True)])
    if name == "numbers with a fraction":
        values[5].float_data.extend([0.5] * 3072)
    one_line(build("mine", write(tmp_path / "s", values), tmp_path / "out"), tmp_path / "s", *said)
    assert nothing_left(tmp_path / "out")


def damaged(folder):
    content = bytearray((folder / "data.mdb").read_bytes())
    content[8192:] = b"\xee" * (len(content) - 8192)
    (folder / "data.mdb").write_bytes(content)


def cut_short(folder):
    (folder / "data.mdb").write_bytes((folder / "data.mdb").read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damaged, cut_short])
def test_a_damaged_file_is_one_line(damage, pictures, tmp_path):
    images, labels = pictures
    source = write(tmp_path / "s", [datum(*one) for one in zip(images, labels, strict=True)])
    damage(source)
    one_line(build("mine", source, tmp_path / "out"), source, "copy it again")
    assert nothing_left(tmp_path / "out")


def test_folders_that_are_something_else(built_here, tmp_path):
    whole, out = built_here
    for name in ("a_train_lmdb", "b_train_lmdb", "c_test_lmdb"):
        (tmp_path / "three" / name).mkdir(parents=True)
        (tmp_path / "three" / name / "data.mdb").write_bytes((whole / "data.mdb").read_bytes())
    one_line(build("mine", tmp_path / "three", tmp_path / "o"), "a_train_lmdb, b_train_lmdb, c_test_lmdb: expected one")
    (tmp_path / "level").mkdir()
    (tmp_path / "level/000003.ldb").write_text("")
    one_line(build("mine", tmp_path / "level", tmp_path / "o"), "a LevelDB", "convert_imageset -backend lmdb")
    one_line(build("mine", out, tmp_path / "o"), "a data set that make_lmdb.py built")
    one_line(build("mine", whole / "data.mdb", tmp_path / "o"), "name the folder")
    one_line(build("mine", whole, tmp_path / "o", "--grey"), "record 0", "order of colours is not known")


@pytest.fixture(scope="module")
def built_here(pictures, tmp_path_factory):
    """(an LMDB of another program, what was built from it)."""
    folder = tmp_path_factory.mktemp("built")
    whole = write(folder / "whole", [datum(*one) for one in zip(*pictures, strict=True)])
    build("mine", whole, folder / "out", check=0)
    return whole, folder / "out"


def test_a_mean_of_another_shape_or_of_no_pixels(built_here, tmp_path):
    whole, _ = built_here
    for shape, value, said in (
        ((3, 16, 64), 5, "3 x 16 x 64 numbers"),
        ((3, 32, 32), -7, "-7.0 in it"),
        ((3, 32, 32), np.nan, "nan"),
    ):
        blob = caffe_pb2.BlobProto(num=1, channels=shape[0], height=shape[1], width=shape[2], data=np.full(3072, value))
        (tmp_path / "m.binaryproto").write_bytes(blob.SerializeToString())
        one_line(build("mine", whole, tmp_path / "o", "--mean", tmp_path / "m.binaryproto"), "m.binaryproto: ", said)
