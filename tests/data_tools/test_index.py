"""train_index_lmdb: what is in it, what it leaves alone, and that Caffe reads it in step with the images."""

import json
import shutil
import signal
import subprocess
import sys
import time

import caffe
import lmdb
import numpy as np
import pytest

from conftest import ROOT, command, one_line, write_fashion
from hkd.base.cli import UserError
from hkd.paper import datasets
from lmdbs import TOOL, build, manifest, read_lmdb

KEPT = ("train_lmdb/data.mdb", "test_lmdb/data.mdb", "mean_train.binaryproto", "mean_test.binaryproto")
INDEX = "train_index_lmdb/data.mdb"


def add_index(dataset, out, *more):
    return command(TOOL, "--dataset", dataset, "--index", "--out", out, *more)


def keys(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return list(transaction.cursor().iternext(values=False))


@pytest.fixture
def copy(colour, tmp_path):
    return shutil.copytree(colour, tmp_path / "copy")


def untouched(folder, original):
    """Whether `folder` is byte for byte `original`, a data set without the index (the stamps of what was read apart)."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("[!.]*") if path.is_file())
    return files == sorted(path.relative_to(original) for path in original.rglob("[!.]*") if path.is_file()) and all(
        (folder / path).read_bytes() == (original / path).read_bytes() for path in files
    )


# --- what is in it ------------------------------------------------------------------------------------------------------


def test_a_record_is_the_place_of_its_image_in_the_official_order(colour_indexed, colour_source):
    raw = [np.frombuffer((colour_source / f"data_batch_{i}.bin").read_bytes(), np.uint8) for i in range(1, 6)]
    official = np.concatenate(raw).reshape(-1, 3073)
    zero, index = read_lmdb(colour_indexed / "train_index_lmdb")
    assert zero.shape == (1000, 1, 1, 1) and not zero.any() and sorted(index) == list(range(1000))
    images, labels = read_lmdb(colour_indexed / "train_lmdb")
    np.testing.assert_array_equal(images[:, :, 4:-4, 4:-4].reshape(1000, -1), official[index, 1:])
    np.testing.assert_array_equal(labels, official[index, 0])
    assert keys(colour_indexed / "train_index_lmdb") == keys(colour_indexed / "train_lmdb")


def test_nothing_else_differs_with_it(colour, colour_indexed):
    for file in KEPT:
        assert (colour / file).read_bytes() == (colour_indexed / file).read_bytes(), file
    plain, indexed = manifest(colour), manifest(colour_indexed)
    assert indexed["bytes"].pop(INDEX) == (colour_indexed / INDEX).stat().st_size
    assert plain == indexed


def test_added_later_it_is_the_same_and_nothing_else_changes(colour, colour_indexed, copy):
    before = {file: (copy / file).stat() for file in (*KEPT, "manifest.json")}
    done = add_index("cifar10", copy)
    assert done.returncode == 0 and "indexed" in done.stdout
    assert manifest(copy) == manifest(colour_indexed)
    assert (copy / INDEX).read_bytes() == (colour_indexed / INDEX).read_bytes()
    for file in KEPT:
        assert (copy / file).read_bytes() == (colour / file).read_bytes(), file
        assert (copy / file).stat().st_ino == before[file].st_ino
    # To Snakemake, the data set is no newer than the stages that were trained on it.
    assert (copy / "manifest.json").stat().st_mtime_ns == before["manifest.json"].st_mtime_ns
    assert not [path for path in copy.parent.iterdir() if path != copy]
    said = add_index("cifar10", copy).stdout
    assert "built already" in said and "indexed" in said


def test_a_data_set_that_is_not_there_is_built_with_it(colour_source, colour_indexed, tmp_path):
    build("cifar10", colour_source, tmp_path / "out", "--index", check=0)
    assert manifest(tmp_path / "out") == manifest(colour_indexed)


def test_another_seed_and_another_form(fashion_source, tmp_path):
    build("fashion-mnist", fashion_source, tmp_path / "out", "--seed", 5, check=0)
    one_line(add_index("fashion-mnist", tmp_path / "out"), "--seed 5, not 1")
    assert add_index("fashion-mnist", tmp_path / "out", "--seed", 5).returncode == 0
    order = np.random.default_rng(5).permutation(640)
    np.testing.assert_array_equal(read_lmdb(tmp_path / "out/train_index_lmdb")[1], order)


def test_folders_can_be_entered_by_their_owner(colour_indexed):
    for name in ("train_lmdb", "test_lmdb", "train_index_lmdb"):
        assert (colour_indexed / name).stat().st_mode & 0o700 == 0o700


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_a_network_that_asks_for_it_is_told_how_to_get_it(colour, colour_indexed, fashion_source, tmp_path):
    facts = datasets.dataset("cifar10")
    datasets.require_index(datasets.read_manifest(colour_indexed, facts), facts)
    found = datasets.read_manifest(colour, facts)
    assert not found.indexed
    with pytest.raises(UserError) as refused:
        datasets.require_index(found, facts)
    assert str(refused.value) == (
        f"{colour} has no index of its training images: python data_tools/make_lmdb.py --dataset cifar10 --index --out {colour}"
    )
    out, facts = tmp_path / "out", datasets.dataset("fashion-mnist")
    build("fashion-mnist", fashion_source, out, "--seed", 5, check=0)
    with pytest.raises(UserError) as refused:
        datasets.require_index(datasets.read_manifest(out, facts), facts)
    said = str(refused.value).partition("python ")[2].split()
    command(*said, check=0)
    datasets.require_index(datasets.read_manifest(out, facts), facts)


def test_other_images_than_those_it_was_built_from(colour, colour_source, copy, tmp_path):
    source = shutil.copytree(colour_source, tmp_path / "other")
    content = bytearray((source / "data_batch_3.bin").read_bytes())
    content[3073 * 77 + 1500] ^= 1  # one bit of one pixel
    (source / "data_batch_3.bin").write_bytes(content)
    one_line(add_index("cifar10", copy, "--source", source), "train_lmdb: record ", f"is not image 477 of {source}")
    content[3073 * 77 + 1500] ^= 1
    content[3073 * 77] = (content[3073 * 77] + 1) % 10  # one label
    (source / "data_batch_3.bin").write_bytes(content)
    one_line(add_index("cifar10", copy, "--source", source), "is not image 477")
    (source / "data_batch_3.bin").write_bytes(content[:3073])
    one_line(add_index("cifar10", copy, "--source", source), "1,000 training images", "has 801")
    assert untouched(copy, colour)


def test_another_shuffle_than_the_one_it_was_built_with(copy):
    """As a NumPy whose generator permutes otherwise."""
    written = manifest(copy) | {"seed": 2}
    (copy / "manifest.json").write_text(json.dumps(written))
    one_line(add_index("cifar10", copy, "--seed", 2), "record 0 is not image", "another NumPy", "--index")
    assert not (copy / "train_index_lmdb").exists() and manifest(copy) == written


def test_a_source_that_has_gone(fashion_source, tmp_path):
    """The official images are got again; others are to be named, and may lie elsewhere."""
    source = shutil.copytree(fashion_source, tmp_path / "source")
    build("mnist", source, tmp_path / "out", check=0)
    source.rename(tmp_path / "moved")
    assert add_index("mnist", tmp_path / "out", "--source", tmp_path / "moved").returncode == 0
    one_line(add_index("mnist", tmp_path / "out", "--source", tmp_path / "moved"), "was built from", "moved")


def test_an_index_that_is_missing_or_not_whole(colour_indexed, tmp_path):
    copy = shutil.copytree(colour_indexed, tmp_path / "copy")
    facts = datasets.dataset("cifar10")
    with (copy / INDEX).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(UserError, match=r"train_index_lmdb/data.mdb is missing or not as make_lmdb.py wrote it"):
        datasets.read_manifest(copy, facts)
    shutil.rmtree(copy / "train_index_lmdb")
    one_line(add_index("cifar10", copy), "train_index_lmdb/data.mdb is missing")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_leaves_the_data_set_without_it_or_with_it(tmp_path, number):
    source = write_fashion(tmp_path / "s", 8_000, 100)
    plain = tmp_path / "plain"
    build("fashion-mnist", source, plain, check=0)
    out, facts = tmp_path / "out", datasets.dataset("fashion-mnist")
    words = [sys.executable, str(ROOT / TOOL), "--dataset", "fashion-mnist", "--index", "--out", str(out)]
    shutil.copytree(plain, out)
    begin = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - begin
    without = 0
    for share in np.linspace(0.3, 1.0, 10):
        shutil.rmtree(out)
        shutil.copytree(plain, out)
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * share)
        process.send_signal(number)
        process.wait()
        found = datasets.read_manifest(out, facts)
        without += not found.indexed
        for file in datasets.FILES:
            assert (out / file).read_bytes() == (plain / file).read_bytes()
        if found.indexed:
            assert sorted(read_lmdb(out / "train_index_lmdb")[1]) == list(range(8_000))
        else:
            assert manifest(out) == manifest(plain)
    assert without
    assert subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0
    assert datasets.read_manifest(out, facts).indexed and not list(tmp_path.glob(".out*"))


def test_what_a_kill_before_the_manifest_left_is_replaced(colour_indexed, copy):
    (copy / "train_index_lmdb").mkdir()
    (copy / INDEX).write_bytes(b"half of it")
    assert not datasets.read_manifest(copy, datasets.dataset("cifar10")).indexed
    assert add_index("cifar10", copy).returncode == 0
    assert (copy / INDEX).read_bytes() == (colour_indexed / INDEX).read_bytes()


# --- in Caffe -------------------------------------------------------------------------------------------------------------


def feed(folder, tmp_path, batch, indexed=True):
    """A TRAIN network of the images' data layer, as every stage has it, and the index's behind it."""
    n = caffe.NetSpec()

    def layer(lmdb_name, **transform):
        source = {"source": str(folder / lmdb_name), "batch_size": batch, "backend": caffe.params.Data.LMDB}
        return caffe.layers.Data(ntop=2, data_param=source, **transform)

    mean = str(folder / "mean_train.binaryproto")
    n.data, n.label = layer("train_lmdb", transform_param={"crop_size": 32, "mirror": True, "mean_file": mean})
    tops = [n.data, n.label]
    if indexed:
        n.index_pixel, n.index = layer("train_index_lmdb")
        tops += [n.index_pixel, n.index]
    n.silent = caffe.layers.Silence(*tops, ntop=0)
    path = tmp_path / "feed.prototxt"
    path.write_text(str(n.to_proto()))
    caffe.set_random_seed(7)
    return caffe.Net(str(path), caffe.TRAIN)


def batches(net, count):
    for _ in range(count):
        net.forward()
        yield {name: blob.data.copy() for name, blob in net.blobs.items()}


@pytest.mark.parametrize("batch", [64, 100, 333])
def test_both_data_layers_stay_in_step(colour_indexed, tmp_path, batch):
    """Over more than three epochs, in batches that divide the 1,000 images and in batches that do not."""
    order, labels = (read_lmdb(colour_indexed / name)[1] for name in ("train_index_lmdb", "train_lmdb"))
    for k, found in enumerate(batches(feed(colour_indexed, tmp_path, batch), 3300 // batch + 2)):
        records = np.arange(k * batch, (k + 1) * batch) % 1000
        np.testing.assert_array_equal(found["index"], order[records])
        np.testing.assert_array_equal(found["label"], labels[records])
        assert found["index"].shape == (batch,)


def test_images_crops_and_mirrors_are_the_same_without_it(colour_indexed, tmp_path):
    with_index = batches(feed(colour_indexed, tmp_path, 64), 20)
    without = batches(feed(colour_indexed, tmp_path, 64, indexed=False), 20)
    for one, other in zip(with_index, without, strict=True):
        np.testing.assert_array_equal(one["data"], other["data"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_they_are_in_step_after_a_resume(colour_indexed, tmp_path):
    """A resumed run runs its data layers forward: both of them, that is layers 0 to 1."""
    whole = list(batches(feed(colour_indexed, tmp_path, 64), 60))
    resumed = feed(colour_indexed, tmp_path, 64)
    assert [layer.type for layer in resumed.layers][:4].count("Data") == 2
    for _ in range(37):
        resumed._forward(0, list(resumed._layer_names).index("index_pixel"))
    for one, other in zip(whole[37:], batches(resumed, 23), strict=True):
        for name in ("data", "label", "index"):
            np.testing.assert_array_equal(one[name], other[name])
