"""The committed prototxt and solver files, and the list of assumptions beside their code."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from caffe.proto import caffe_pb2

from conftest import ROOT, command
from hkd.networks import prototxt, solvers
from hkd.paper import experiments
from hkd.paper.assumptions import ASSUMPTIONS, markdown
from hkd.paper.datasets import DATASETS
from hkd.stages import committed
from hkd.training import plan

COMMITTED = sorted(
    str(path.relative_to(ROOT))
    for folder in ("prototxt", "solvers")
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
)


@pytest.fixture(scope="module")
def generated():
    """{path: text} of all that the generator makes."""
    return committed.all_files()


@pytest.mark.parametrize("path", COMMITTED)
def test_a_committed_file_is_byte_for_byte_what_the_generator_makes(path, generated):
    assert (ROOT / path).read_bytes() == generated[path].encode()


def test_every_file_that_the_generator_makes_is_there(generated):
    assert sorted(generated) == COMMITTED


def test_network_and_solver_have_the_same_stem():
    for path in COMMITTED:
        if path.startswith("solvers/"):
            net = path.replace("solvers/", "prototxt/")
            assert net in COMMITTED and f'net: "{net}"' in (ROOT / path).read_text()


@pytest.mark.parametrize("path", [path for path in COMMITTED if path.startswith("solvers/")])
def test_a_stock_caffe_trains_the_committed_files(path, colour_indexed, fashion, tiny_imagenet, tmp_path):
    """`caffe train`, or pycaffe where a layer is Python, on each committed pair, cut to two iterations of small batches, on small data sets of its format."""
    dataset = path.split("/")[1]
    by_shape = {(3, 32): colour_indexed, (1, 28): fashion, (3, 64): tiny_imagenet}
    facts = DATASETS[dataset]
    data = by_shape[facts.channels, facts.size]
    net, solver = tmp_path / "net.prototxt", solvers.parse((ROOT / path).read_text())
    written = (ROOT / solver.net).read_text()
    net.write_text(re.sub(r"batch_size: \d+", "batch_size: 2", written).replace(f"data/{dataset}", str(data)))
    solver.net, solver.snapshot_prefix, solver.max_iter, solver.test_iter[0] = str(net), str(tmp_path / "x"), 2, 2
    (tmp_path / "solver.prototxt").write_text(solvers.text(solver, []))
    (tmp_path / "init.caffemodel").write_bytes(caffe_pb2.NetParameter(name="nothing to copy").SerializeToString())
    done = subprocess.run(
        ["sh", "-c", plan.command_without_driver(tmp_path, prototxt.parse(net.read_text()))],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "GLOG_minloglevel": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "x_iter_2.caffemodel").exists()


def test_check_and_regeneration(tmp_path):
    here = tmp_path / "checkout"
    for name in ("python", "prototxt", "solvers"):
        shutil.copytree(ROOT / name, here / name)

    def make(*arguments):
        return subprocess.run(
            [sys.executable, here / "python/make_prototxt.py", *arguments], capture_output=True, text=True
        )

    assert make("--check").returncode == 0
    edited = here / "solvers/cifar10/r26-teacher-64k.prototxt"
    edited.write_text(edited.read_text().replace("max_iter: 64000", "max_iter: 64"))
    (here / "prototxt/cifar10/stale.prototxt").write_text("")
    done = make("--check")
    assert done.returncode == 1 and "solvers/cifar10/r26-teacher-64k.prototxt" in done.stderr and "stale" in done.stderr
    assert "1 written, 1 removed" in make().stdout and make("--check").returncode == 0


def test_the_plan_of_the_readme_has_the_papers_iterations():
    done = command("python/run_stage.py", "--stage", "hint", "--step", "2", "--dry-run", check=0)
    rows = [line.split()[:2] for line in done.stdout.splitlines() if " iterations " in line]
    assert rows == [
        ["r26-teacher", "64,000"],
        ["r26-r14-layerwise-hint1", "3,000"],
        ["r26-r14-layerwise-hint2", "7,000"],
    ]


def test_the_list_of_experiments():
    done = command("python/run_stage.py", "--list", check=0)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(experiments.EXPERIMENTS)


def test_the_page_shows_every_assumption():
    assert markdown() in (ROOT / "python/hkd/paper/README.md").read_text()


def test_every_setting_that_an_assumption_names_can_be_set():
    for assumption in ASSUMPTIONS:
        change = assumption.change.removeprefix("--set ").split(" ")[0]
        if assumption.change.startswith("--set ") and change != "...":
            experiments.experiment("cifar10-r26-r14", [change])
        elif assumption.change.endswith(".py"):
            assert (ROOT / assumption.change).exists()
