"""The committed prototxt and solver files, and the list of assumptions in README."""

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
from hkd.training import driver

FILES = committed.all_files()


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_committed_file_is_byte_for_byte_what_the_generator_makes(path):
    assert (ROOT / path).read_bytes() == FILES[path].encode()


def test_there_is_no_file_that_the_generator_does_not_make():
    there = {
        str(p.relative_to(ROOT))
        for folder in ("prototxt", "solvers")
        for p in (ROOT / folder).rglob("*")
        if p.is_file()
    }
    assert there == set(FILES)


def test_network_and_solver_have_the_same_stem():
    for path in FILES:
        if path.startswith("solvers/"):
            net = path.replace("solvers/", "prototxt/")
            assert net in FILES and f'net: "{net}"' in FILES[path]


@pytest.mark.parametrize("path", sorted(p for p in FILES if p.startswith("solvers/")))
def test_a_stock_caffe_trains_the_committed_files(path, colour_indexed, fashion, tiny_imagenet, tmp_path):
    """`caffe train`, or pycaffe where a layer is Python, on each committed pair, cut to two iterations of small batches, on small data sets of its format."""
    dataset = path.split("/")[1]
    by_shape = {(3, 32): colour_indexed, (1, 28): fashion, (3, 64): tiny_imagenet}
    facts = DATASETS[dataset]
    data = by_shape[facts.channels, facts.size]
    net, solver = tmp_path / "net.prototxt", solvers.parse(FILES[path])
    net.write_text(re.sub(r"batch_size: \d+", "batch_size: 4", FILES[solver.net]).replace(f"data/{dataset}", str(data)))
    solver.net, solver.snapshot_prefix, solver.max_iter, solver.test_iter[0] = str(net), str(tmp_path / "x"), 2, 2
    (tmp_path / "solver.prototxt").write_text(solvers.text(solver, []))
    (tmp_path / "init.caffemodel").write_bytes(caffe_pb2.NetParameter(name="nothing to copy").SerializeToString())
    done = subprocess.run(
        ["sh", "-c", driver.without_us(tmp_path, prototxt.parse(net.read_text()))],
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


def test_readme_shows_every_assumption():
    assert markdown() in (ROOT / "README.md").read_text()


def test_every_setting_that_an_assumption_names_can_be_set():
    for assumption in ASSUMPTIONS:
        change = assumption.change.removeprefix("--set ").split(" ")[0]
        if assumption.change.startswith("--set ") and change != "...":
            experiments.experiment("cifar10-r26-r14", [change])
        elif assumption.change.endswith(".py"):
            assert (ROOT / assumption.change).exists()
