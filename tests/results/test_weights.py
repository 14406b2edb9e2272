"""The weights that are kept with the project: listed, whole, and as accurate in BVLC Caffe as their records say."""

import re
import shutil

import caffe
import pytest

from conftest import EXPERIMENT, MAKE, ROOT, RUN, command, official, one_line
from hkd.base.files import sha256
from hkd.networks import deploy, prototxt
from hkd.paper import experiments
from hkd.stages import records
from lmdbs import read_lmdb

WEIGHTS = ROOT / "results/weights"
KEPT = sorted(WEIGHTS.glob("*/*.caffemodel"))
MOST = 20 << 20  # bytes of all of them, with the stages on their way
SOURCES = {"mnist": "mnist", "cifar10": "cifar-10-binary.tar.xz"}


def row(path):
    """The cells of a file's row in the index."""
    (line,) = [
        x for x in (WEIGHTS / "README.md").read_text().splitlines() if x.startswith(f"| {path.relative_to(WEIGHTS)} |")
    ]
    return [cell.strip() for cell in line.strip("|").split("|")]


SCORED = [path for path in KEPT if row(path)[3] != "-"]


def test_together_they_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= MOST


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """A runs folder of all that is kept with the project."""
    runs = tmp_path_factory.mktemp("laid")
    command(MAKE, "--measured", ROOT / "results/measured", "--weights", WEIGHTS, "--lay", runs, check=0)
    return runs


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_index_has_its_record_and_its_digest(path, laid):
    _, _, stage, Pc, iterations, engine, seed, place, digest = row(path)
    record = records.read_record(ROOT / place)
    assert digest == sha256(path) and (record["scale"] == 1 or record["kind"] == "teacher")
    shown = (
        record["stage"],
        f"{record['Pc']['last']:.2f}" if record["kind"] == "teacher" or record["net"] else "-",
        f"{record['iterations']:,}",
        record["engine"],
        str(record["seed"]),
    )
    assert (stage, Pc, iterations, engine, seed) == shown
    if Pc == "-":  # a stage 1, which is there to go on from
        stage = laid / (ROOT / place).relative_to((ROOT / place).parents[2])
        assert sha256(stage / records.FINAL) == record["digests"][records.FINAL]


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
    [pytest.param(path, id=path.stem, marks=() if path == SCORED[0] else pytest.mark.slow) for path in SCORED],
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
    path = next(path for path in SCORED if path.parent.name == "mnist")
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


def test_a_runs_folder_is_laid_of_what_is_kept_and_goes_on(fashion, tmp_path):
    """Where a machine is lost with its runs folder: another net starts from the same teacher and stage 1, to the same bytes."""
    first, second, measured, kept = (tmp_path / name for name in ("first", "second", "measured", "kept"))
    short = [f"--set={kind}.{words}" for kind in ("teacher", "hint", "kd") for words in ("max_iter=3", "stepvalue=1,2")]
    train = (RUN, "--experiment", EXPERIMENT, "--data", fashion, "--method", "layerwise", "--stage", "kd", *short)
    command(*train, "--runs", first, check=0)
    command(MAKE, "--measured", measured, "--collect", first, "--weights", kept, check=0)
    (weights,) = kept.glob("*/*-teacher*")
    hints = sorted(kept.glob("*/*-hint*"))
    whole = [next(first.glob(f"*/*/{path.stem}")) / records.FINAL for path in hints]
    assert all(path.stat().st_size < own.stat().st_size for path, own in zip(hints, whole, strict=True))
    lay = (MAKE, "--measured", measured, "--weights", kept, "--lay", second)
    assert command(*lay, check=0).stdout.startswith("4 stages in")
    assert all(sha256(second / own.relative_to(first)) == sha256(own) for own in whole)
    assert command(*train, "--runs", second, "--dry-run", check=0).stdout.count("finished, used again") == 4
    command(*train, "--runs", second, check=0)
    ends = [next(runs.glob("*/*/*-kd-net1*")) / records.FINAL for runs in (first, second)]
    assert sha256(ends[0]) == sha256(ends[1])
    command(*lay, check=0)  # over itself
    shutil.copytree(ends[0].parents[1], second.with_name("third") / ends[0].parents[1].relative_to(first))
    teacher = next((tmp_path / "third").glob("*/*/r14w4-teacher*"))
    records.write_record(teacher, {**records.read_record(teacher), "seconds": 1.0})
    one_line(command(*lay[:-1], tmp_path / "third"), "is another run than", "r14w4-teacher")
    hints[0].write_bytes(hints[0].read_bytes()[:-9])
    one_line(command(*lay[:-1], tmp_path / "fourth"), hints[0].name, "torn", "delete it")
    hints[0].unlink()
    weights.unlink()
    one_line(command(*lay[:-1], tmp_path / "fifth"), "none is laid")  # a stage 1 is whole with its teacher alone


def test_of_a_scaled_run_the_teacher_is_kept_and_laid(fashion, tmp_path):
    """So that a table whose machine was lost is finished with one teacher."""
    first, second, measured, kept = (tmp_path / name for name in ("first", "second", "measured", "kept"))
    train = (RUN, "--experiment", EXPERIMENT, "--data", fashion, "--method", "hint-kd", "--stage", "kd")
    train = (*train, "--scale", "0.0002", "--seed", 3)
    command(*train, "--runs", first, check=0)
    command(MAKE, "--measured", measured, "--collect", first, "--weights", kept, check=0)
    (teacher,) = kept.glob("*/*.caffemodel")
    assert teacher.name == "r14w4-teacher-scale0.0002-seed3.caffemodel"
    command(MAKE, "--measured", measured, "--weights", kept, "--lay", second, check=0)
    command(*train, "--runs", second, check=0)
    ends = [next(runs.glob("*/*/*-kd-net1*")) / records.FINAL for runs in (first, second)]
    assert sha256(ends[0]) == sha256(ends[1])


def test_nothing_is_laid_without_a_word(a_run, tmp_path):
    _, runs, measured = a_run
    lay = ("--measured", measured, "--lay", tmp_path / "laid")
    command(MAKE, "--measured", measured, "--collect", runs, check=0)
    one_line(command(MAKE, *lay), "--weights", "add")
    one_line(command(MAKE, *lay, "--weights", WEIGHTS, "--collect", runs), "--lay", "leave")
    (tmp_path / "empty").mkdir()
    one_line(command(MAKE, *lay, "--weights", tmp_path / "empty"), "none is laid")
    one_line(command(MAKE, *lay, "--weights", tmp_path / "absent"), "absent is no folder", "none is laid")
    one_line(command(MAKE, *lay, "--weights", WEIGHTS, "--engine", "jax"), "records/jax is no folder")
