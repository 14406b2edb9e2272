"""Transfer to another task: the teacher of one data set teaches a student of another, real images of both."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from conftest import ROOT, command, official, one_line, read_idx, snakemake, write_idx
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.paper import experiments, methods
from hkd.results import experiment_table, workflow
from hkd.results.runs import Runs
from hkd.stages import committed, records
from hkd.stages.stage import lineage, planned
from lmdbs import read_mean
from nets import weights

RUN = "python/run_stage.py"
NAME = "mnist-to-fashion-mnist-r14-r8"


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """640 + 200 real images of MNIST as LMDBs."""
    whole, folder = official("mnist"), tmp_path_factory.mktemp("mnist")
    (folder / "source").mkdir()
    for name, dimensions, count in (("train-images", 3, 640), ("train-labels", 1, 640), ("t10k-images", 3, 200), ("t10k-labels", 1, 200)):  # fmt: skip
        file = f"{name}-idx{dimensions}-ubyte.gz"
        write_idx(folder / "source" / file, read_idx(whole / file, dimensions)[:count])
    words = ("--dataset", "mnist", "--source", folder / "source", "--out", folder / "lmdb")
    command("data_tools/make_lmdb.py", *words, check=0)
    return folder / "lmdb"


def words_of(fashion, mnist, runs, *more):
    """Of stages of a few iterations, at rates that pixels of 0 to 255 do not drive to infinity."""
    words = (
        "--experiment",
        NAME,
        "--scale",
        0.0005,
        "--set",
        "batch=16",
        "--set",
        "fsp_lr=1e-9",
        "--set",
        "hint_lr=1e-9",
    )
    return (*words, "--data", fashion, "--teacher-data", mnist, "--runs", runs, *more)


@pytest.fixture(scope="module")
def trained(fashion, mnist, tmp_path_factory):
    """Three methods with one teacher of MNIST, and the folder of their runs."""
    runs = tmp_path_factory.mktemp("runs")
    for method in ("fsp", "dense-flow", "layerwise-ce"):
        command(RUN, *words_of(fashion, mnist, runs, "--method", method, "--stage", "finetune"), check=0)
    return runs


def found(runs):
    """{data set/stage: its folder}"""
    return {f"{p.parts[-4]}/{p.parts[-2].partition('+')[0]}": p.parent for p in runs.glob("*/*/*/record.json")}


class TestTrained:
    def test_each_stage_lies_with_the_data_set_that_it_learned_from(self, trained):
        steps = [f"fashion-mnist/mnist.r14-r8-dense-flow-fsp{i}" for i in (1, 2, 3)]
        hints = [f"fashion-mnist/mnist.r14-r8-layerwise-hint{i}" for i in (1, 2, 3)]
        ends = [f"fashion-mnist/mnist.r14-r8-{m}-finetune-net1" for m in ("fsp", "dense-flow", "layerwise-ce")]
        assert set(found(trained)) == {"mnist/r14-teacher", "fashion-mnist/mnist.r14-r8-fsp", *steps, *hints, *ends}

    def test_the_teacher_in_a_students_network_is_the_one_of_the_other_data_set(self, trained):
        folders = found(trained)
        teacher = weights(folders["mnist/r14-teacher"] / "final.caffemodel")
        for name in ("fsp", "dense-flow-fsp3", "layerwise-hint3"):
            inside = weights(folders[f"fashion-mnist/mnist.r14-r8-{name}"] / "final.caffemodel")
            copied = [layer for layer in teacher if f"teacher/{layer}" in inside]
            assert set(teacher) - set(copied) == {"fc"}
            for layer in copied:
                np.testing.assert_array_equal(inside[f"teacher/{layer}"], teacher[layer])

    def test_both_read_the_students_images(self, trained, fashion, mnist):
        net = (found(trained)["fashion-mnist/mnist.r14-r8-fsp"] / "net.prototxt").read_text()
        assert f"{fashion}/train_lmdb" in net and str(mnist) not in net
        assert f"{mnist}/train_lmdb" in (found(trained)["mnist/r14-teacher"] / "net.prototxt").read_text()

    def test_the_record_says_so(self, trained):
        record = json.loads((found(trained)["fashion-mnist/mnist.r14-r8-fsp"] / "record.json").read_text())
        teacher = found(trained)["mnist/r14-teacher"]
        assert record["settings"]["teacher_dataset"] == "mnist" and record["dataset"] == "fashion-mnist"
        assert record["parents"]["teacher"] == {
            "dataset": "mnist",
            "stage": teacher.name,
            "final.caffemodel": sha256(teacher / "final.caffemodel"),
        }

    def test_a_second_command_trains_nothing(self, trained, fashion, mnist):
        before = {folder: (folder / "record.json").stat().st_mtime_ns for folder in found(trained).values()}
        done = command(RUN, *words_of(fashion, mnist, trained, "--method", "fsp", "--stage", "finetune"), check=0)
        assert done.stdout.count("finished, used again") == 3
        assert {folder: (folder / "record.json").stat().st_mtime_ns for folder in before} == before

    def test_the_teacher_alone_is_named_by_its_students(self, trained, mnist):
        words = ("--experiment", NAME, "--scale", 0.0005, "--set", "batch=16", "--stage", "teacher", "--dry-run")
        done = command(RUN, *words, "--teacher-data", mnist, "--runs", trained, check=0)
        assert f"data: {mnist} " in done.stdout and "finished, used again" in done.stdout

    def test_the_teacher_is_that_of_the_other_data_sets_own_experiments(self, trained, fashion, mnist):
        words = (
            "--experiment",
            "mnist-r32-r8",
            "--scale",
            0.0005,
            "--set",
            "batch=16",
            "--stage",
            "teacher",
            "--dry-run",
        )
        done = command(RUN, *words, "--data", mnist, "--runs", trained, check=0)
        assert "to train" in done.stdout  # of 32 layers; this one of 14 is none of its
        chosen = experiments.experiment(NAME, ["batch=16"])
        own = planned(experiments.experiment("mnist-r14", ["batch=16"]), "", "teacher", scale=0.0005)
        assert planned(chosen, "fsp", "fsp", scale=0.0005).parents["teacher"] == own
        assert own.folder(trained) == found(trained)["mnist/r14-teacher"]

    def test_a_teacher_that_was_trained_again_is_noticed(self, trained, fashion, mnist, tmp_path):
        folder = found(trained)["mnist/r14-teacher"]
        record = (folder / "record.json").read_text()
        try:
            changed = records.read_record(folder)
            changed["digests"]["final.caffemodel"] = "0" * 64
            records.write_record(folder, changed)
            done = command("python/make_tables.py", "--experiment", NAME, "--runs", trained, "--out", tmp_path)
            one_line(done, "started from another r14-teacher")
        finally:
            (folder / "record.json").write_text(record)

    def test_its_table(self, trained, tmp_path):
        done = command("python/make_tables.py", "--experiment", NAME, "--runs", trained, "--out", tmp_path, check=0)
        assert "### Fashion-MNIST, 14 -> 8 layers, teacher of MNIST" in done.stdout
        assert not [line for line in done.stdout.splitlines() if line.startswith("| KD")]  # it cannot be
        lines = experiment_table.lines(NAME, Runs(trained))
        run = {line.row.method for line in lines if line.done}
        assert run == {"", "fsp", "dense-flow", "layerwise-ce"}

    def test_prepared_it_is_trained_by_pycaffe_as_the_line_says(self, trained, fashion, mnist, tmp_path):
        """In a copy of the runs, which the prepared stage would otherwise be part of. Not by `caffe train`: Python layers."""
        runs = shutil.copytree(trained, tmp_path / "runs")
        words = words_of(fashion, mnist, runs, "--method", "dense-concurrent", "--stage", "fsp", "--prepare")
        ready = command(RUN, *words, check=0).stdout.splitlines()[-1]
        assert ready.startswith(f"ready: cd {ROOT} && PYTHONPATH=python ")
        line = ["sh", "-c", ready.removeprefix("ready: ")]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert list(runs.glob("*/*/mnist.r14-r8-dense-concurrent-fsp*/caffe_iter_10.caffemodel"))

    def test_the_report_tells_the_data_sets_apart(self, trained, tmp_path):
        command("python/make_tables.py", "report", "--runs", trained, "--out", tmp_path, check=0)
        text = (tmp_path / "report.html").read_text()
        for words in (
            "MNIST, r14-teacher",
            "Fashion-MNIST, mnist.r14-r8-fsp",
            "teacher: mnist/r14-teacher",
            "from 11 records",
        ):
            assert words in text, words


def test_the_teacher_sees_the_students_pixels_less_the_students_mean(colour, tmp_path):
    """CIFAR-100 to CIFAR-10: one Data layer serves both networks."""
    stage = planned(experiments.experiment("cifar100-to-cifar10-r14-r8"), "fsp", "fsp")
    layers = stage.network(colour, 200).layer
    means = [x.transform_param.mean_file for x in layers if x.type == "Data"]
    assert means == [f"{colour}/mean_train.binaryproto", f"{colour}/mean_test.binaryproto"]
    assert read_mean(colour / "mean_test.binaryproto").any()
    assert [list(x.bottom) for x in layers if x.name in ("conv1", "teacher/conv1")] == [["data"], ["data"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mnist-to-cifar10-r14-r8", ("images of MNIST are 1x28x28", "CIFAR-10 3x32x32")),
        ("cifar10-to-tiny-imagenet-r14-r8", ("images of CIFAR-10 are 3x32x32", "Tiny-ImageNet 3x64x64")),
        ("cifar10-to-cifar10-r14-r8", ("CIFAR-10 both",)),
        ("cifar1-to-cifar10-r14-r8", ("unknown data set 'cifar1'", "did you mean")),
        ("cifar100-to-cifar10-r14-r9", ("depth 9: a CIFAR ResNet has 6n+2 layers",)),
        ("cifar100-to-cifar10-r14-s8", ("unknown experiment 'cifar10-r14-s8'", "did you mean")),
        ("svhn-to-cifar100-to-cifar10-r14-r8", ("unknown data set 'svhn-to-cifar100'",)),
        ("cifar10-r15", ("depth 15: a CIFAR ResNet has 6n+2 layers",)),
        ("cifar10-to-cifar100-r26-r8 --method kd", ("class by class", "CIFAR-10 are not those of CIFAR-100", "layerwise-ce")),
        (f"{NAME} --method layerwise", ("the classes of MNIST are not those of Fashion-MNIST",)),
        (f"{NAME} --method dense-flow-kd", ("the classes of MNIST",)),
        ("cifar100-to-cifar10-r26w32-r14 --method fsp --stage fsp", ("teacher/conv1", "32x32", "16x16")),
        ("cifar10-r14-r8 --teacher-data x", ("--teacher-data x", "use --data")),
    ],
)  # fmt: skip
def test_what_cannot_be_transferred_is_one_line(words, said):
    one_line(command(RUN, "--experiment", *words.split(), "--dry-run"), *said)


def test_any_pair_of_data_sets_of_one_shape_can_be_named():
    shapes = {}
    for e in experiments.EXPERIMENTS.values():
        for source in ("cifar10", "cifar100", "mnist", "fashion-mnist", "svhn", "tiny-imagenet"):
            if e.teacher_dataset or source == e.dataset:
                continue
            try:
                named = experiments.experiment(f"{source}-to-{e.name}")
            except UserError:
                continue
            shapes.setdefault(e.dataset, set()).add(source)
            assert (named.teacher, named.student, named.dataset) == (e.teacher, e.student, e.dataset)
            assert named.teacher_facts.name == source
    assert shapes == {
        "cifar10": {"cifar100", "svhn"},
        "cifar100": {"cifar10", "svhn"},
        "svhn": {"cifar10", "cifar100"},
        "mnist": {"fashion-mnist"},
        "fashion-mnist": {"mnist"},
    }


def test_a_change_for_all_stages_reaches_the_teacher_and_one_for_some_does_not():
    changed = experiments.experiment(NAME, ["batch=16", "fsp_lr=0.1"])
    names = [s.name for s in lineage(planned(changed, "fsp", "finetune"))]
    assert names == [
        "r14-teacher+batch=16",
        "mnist.r14-r8-fsp+batch=16+fsp_lr=0.1",
        "mnist.r14-r8-fsp-finetune-net1+batch=16+fsp_lr=0.1",
    ]


def test_the_student_alone_is_that_of_the_data_sets_own_experiment():
    own, transferred = (planned(experiments.named(n), "baseline", "baseline") for n in ("fashion-mnist-r14-r8", NAME))
    assert (own.group, own.name, own.random_seed) == (transferred.group, transferred.name, transferred.random_seed)


def test_stages_of_one_folder_have_one_content():
    """Over every experiment and method: a folder that two of them share would be trained once for both."""
    contents = {}
    for e in experiments.EXPERIMENTS.values():
        wanted = [planned(e, "", "teacher")]
        for method, parts in methods.METHODS.items():
            wanted += [planned(e, method, part.kind, part.step or None) for part in parts]
        for stage in wanted:
            try:
                stage.check()
            except UserError:
                continue
            key = (stage.group, stage.name)
            parents = {role: (p.group, p.name) for role, p in stage.parents.items()}
            content = (tuple(stage.files("STAGE", "DATA", 10_000).values()), tuple(parents.items()))
            assert contents.setdefault(key, content) == content, key
    assert len(contents) > 200


def test_a_teacher_of_a_transfer_is_committed_with_its_own_data_set():
    files = committed.experiment_files(experiments.named("cifar100-to-cifar10-r14-r8"))
    assert {path.split("/")[1] for path in files if "teacher" in path} == {"cifar100"}
    assert "prototxt/cifar10/cifar100.r14-r8-fsp-21k.prototxt" in files
    assert all((ROOT / path).exists() for path in files)


def test_the_workflow_makes_both_data_sets_and_the_teacher():
    done = snakemake("-n", "cifar100-to-cifar10-r14-r8", config=("nets=1",), check=0)
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", done.stdout + done.stderr, re.M)}
    assert [counts[kind] for kind in ("teacher", "fsp", "finetune", "baseline")] == [1, 1, 1, 1]
    jobs = workflow.Workflow(workflow.settings({"experiments": "svhn-to-cifar10-r14-r8", "nets": 1, "data": "D"}))
    assert set(jobs.targets) == {"svhn-to-cifar10-r14-r8"}
    teacher, student = "svhn/full-seed1/r14-teacher", "cifar10/full-seed1/svhn.r14-r8-fsp"
    assert {teacher, student} < set(jobs.stages)
    assert "--experiment svhn-r14 --stage teacher" in jobs.words(teacher) and "--data D/svhn --wait" in jobs.words(
        teacher
    )
    assert jobs.words(student).endswith("--data D/cifar10 --teacher-data D/svhn --wait")
    assert jobs.inputs(student)[:2] == ["D/svhn/manifest.json", "D/cifar10/manifest.json"]
    assert jobs.datasets() == ["cifar10", "svhn"]
