"""The weights that are kept with the project: listed, whole, and as accurate in BVLC Caffe as their records say."""

import re
import shutil

import caffe
import pytest

from conftest import MAKE, ROOT, command, official, one_line
from hkd.base.files import sha256
from hkd.networks import deploy, prototxt
from hkd.paper import experiments
from hkd.stages import records
from lmdbs import read_lmdb

WEIGHTS = ROOT / "results/weights"
KEPT = sorted(WEIGHTS.glob("*/*.caffemodel"))
MOST = 20 << 20  # bytes of all of them
SOURCES = {"mnist": "mnist", "cifar10": "cifar-10-binary.tar.xz"}


def row(path):
    """The cells of a file's row in the index."""
    (line,) = [
        x for x in (WEIGHTS / "README.md").read_text().splitlines() if x.startswith(f"| {path.relative_to(WEIGHTS)} |")
    ]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_together_they_are_small():
    assert sum(path.stat().st_size for path in KEPT) <= MOST


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_index_has_its_record_and_its_digest(path):
    _, _, stage, Pc, iterations, engine, seed, place, digest = row(path)
    record = records.read_record(ROOT / place)
    assert digest == sha256(path) and record["scale"] == 1
    shown = (
        record["stage"],
        f"{record['Pc']['last']:.2f}",
        f"{record['iterations']:,}",
        record["engine"],
        str(record["seed"]),
    )
    assert (stage, Pc, iterations, engine, seed) == shown


@pytest.fixture(scope="module")
def test_images(tmp_path_factory):
    """data set -> (images, labels) of its whole official test set."""
    read = {}

    def images(dataset):
        if dataset not in read:
            out = tmp_path_factory.mktemp("lmdb") / dataset
            words = ("--dataset", dataset, "--source", official(SOURCES[dataset]), "--out", out)
            command("data_tools/make_lmdb.py", *words, check=0)
            read[dataset] = (out, *read_lmdb(out / "test_lmdb"))
        return read[dataset]

    return images


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path == KEPT[0] else pytest.mark.slow) for path in KEPT],
)
def test_it_is_as_accurate_as_its_record_says_to_the_image(path, test_images, tmp_path):
    record = records.read_record(ROOT / row(path)[7])
    experiment = experiments.named(record["experiment"])
    folder, images, labels = test_images(record["dataset"])
    if experiment.facts.mean:
        mean = caffe.io.blobproto_to_array(
            caffe.proto.caffe_pb2.BlobProto.FromString((folder / "mean_test.binaryproto").read_bytes())
        )
        images = images - mean
    architecture = experiment.teacher if record["kind"] == "teacher" else experiment.student
    network = tmp_path / "deploy.prototxt"
    network.write_text(prototxt.text(deploy.network(experiment, architecture), []))
    caffe.set_mode_cpu()
    net = caffe.Net(str(network), str(path), caffe.TEST)
    right = 0
    for first in range(0, len(images), 500):
        net.blobs["data"].reshape(500, *images.shape[1:])
        net.blobs["data"].data[...] = images[first : first + 500]
        right += (net.forward()["prob"].argmax(axis=1) == labels[first : first + 500]).sum()
    assert len(labels) == 10_000 and right == round(record["Pc"]["last"] * 100)


@pytest.fixture
def a_run(tmp_path):
    """A runs folder and a measured folder with one of the weights that are kept, and its record."""
    path = KEPT[0]
    place = ROOT / row(path)[7]
    stage = tmp_path / "runs" / place.relative_to(place.parents[2])
    shutil.copytree(place, stage)
    shutil.copyfile(path, stage / records.FINAL)
    return path, tmp_path / "runs", tmp_path / "measured"


def test_those_of_a_runs_folder_are_added_with_their_index(a_run, tmp_path):
    path, runs, measured = a_run
    words = ("--measured", measured, "--collect", runs, "--weights", tmp_path / "kept")
    command(MAKE, *words, check=0)
    copied = tmp_path / "kept" / path.relative_to(WEIGHTS)
    assert copied.read_bytes() == path.read_bytes()
    assert re.search(
        rf"^\| {re.escape(str(path.relative_to(WEIGHTS)))} \|.*{sha256(path)} \|$",
        (tmp_path / "kept/README.md").read_text(),
        re.M,
    )
    before = (tmp_path / "kept/README.md").read_bytes()
    command(MAKE, *words, check=0)
    assert (tmp_path / "kept/README.md").read_bytes() == before


def test_other_weights_are_not_replaced(a_run, tmp_path):
    path, runs, measured = a_run
    (tmp_path / "kept" / path.parent.name).mkdir(parents=True)
    (tmp_path / "kept" / path.relative_to(WEIGHTS)).write_bytes(b"other")
    done = command(MAKE, "--measured", measured, "--collect", runs, "--weights", tmp_path / "kept")
    one_line(done, path.name, "has other weights than", "delete")


def test_weights_without_a_record_are_not_listed(a_run, tmp_path):
    path, runs, measured = a_run
    command(MAKE, "--measured", measured, "--collect", runs, check=0)
    (tmp_path / "kept/mnist").mkdir(parents=True)
    shutil.copyfile(path, tmp_path / "kept/mnist/r8-strange.caffemodel")
    one_line(
        command(MAKE, "--measured", measured, "--weights", tmp_path / "kept"), "r8-strange.caffemodel", "no record"
    )
