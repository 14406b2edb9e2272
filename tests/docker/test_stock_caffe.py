"""Our build of Caffe beside plain BVLC (CAFFE_STOCK=1): the same training, whatever the threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench_engines
from conftest import ROOT, command, needs_compiler
from hkd.networks import solvers
from hkd.stages import surgery

OURS = Path(sys.executable).with_name("caffe")
pytestmark = pytest.mark.slow
ITERATIONS = 20
TOLERANCE = 1e-5  # of the length of a layer's blobs
# Times the stage's learning rate: from random weights the whole of it makes more than that of the last bits' difference within
# 20 iterations, and what is compared is the arithmetic.
GENTLE = 0.003
STAGES = {
    "student": ("--method", "baseline", "--stage", "baseline"),
    "hint": ("--method", "concurrent", "--stage", "hint"),
    "kd": ("--method", "kd", "--stage", "kd"),
    "projection": ("--method", "baseline", "--stage", "baseline", "--set", "shortcut=projection"),
}


@pytest.fixture(scope="module")
def stock():
    """The `caffe` binary of plain BVLC, built once under build/: three minutes."""
    needs_compiler()
    return Path(bench_engines.stock()).with_name("caffe")


@pytest.fixture(scope="module")
def stages(colour, tmp_path_factory):
    """{name: folder of the stage's three files}, on 32x32 colour images; teachers trained for a few iterations."""
    runs, found = tmp_path_factory.mktemp("runs"), {}
    for name, words in STAGES.items():
        where = ("--experiment", "cifar10-r14-r8", "--data", colour, "--runs", runs, "--scale", 0.0003)
        command("python/run_stage.py", *where, "--set", "batch=32", *words, "--prepare", check=0)
        folders = [path.parent for path in runs.rglob("init.caffemodel")]
        (prepared,) = (folder for folder in folders if not (folder / "final.caffemodel").exists())
        found[name] = prepared.rename(tmp_path_factory.mktemp(name) / "stage")
    return found


def train(caffe, stage, out, threads=2):
    """{layer: its blobs as one vector} after ITERATIONS of `caffe train`."""
    out.mkdir()
    solver = solvers.parse((stage / "solver.prototxt").read_text())
    solver.net, solver.snapshot_prefix, solver.max_iter = f"{stage}/net.prototxt", f"{out}/caffe", ITERATIONS
    solver.base_lr *= GENTLE
    (out / "solver.prototxt").write_text(solvers.text(solver, []))
    subprocess.run(
        [caffe, "train", "-solver", out / "solver.prototxt", "-weights", stage / "init.caffemodel"],
        cwd=ROOT, check=True, capture_output=True, env={"OMP_NUM_THREADS": str(threads)},
    )  # fmt: skip
    layers = surgery.read(out / f"caffe_iter_{ITERATIONS}.caffemodel").layer
    return {x.name: np.concatenate([np.array(b.data, np.float32) for b in x.blobs]) for x in layers if x.blobs}


@pytest.mark.parametrize("name", STAGES)
def test_20_iterations_end_where_plain_bvlc_ends(name, stages, stock, tmp_path):
    theirs, own = train(stock, stages[name], tmp_path / "stock"), train(OURS, stages[name], tmp_path / "ours")
    assert own.keys() == theirs.keys() and len(own) > 20
    apart = {x: np.linalg.norm(own[x] - theirs[x]) / np.linalg.norm(theirs[x]) for x in own}
    assert max(apart.values()) <= TOLERANCE, sorted(apart.items(), key=lambda item: -item[1])[:3]
    assert max(apart.values()) > 0  # two builds, not one


@pytest.mark.parametrize("name", STAGES)
def test_the_same_bytes_from_run_to_run_and_with_any_number_of_threads(name, stages, tmp_path):
    runs = [train(OURS, stages[name], tmp_path / f"{i}", threads) for i, threads in enumerate((1, 2, 2, 3, 8))]
    for other in runs[1:]:
        assert all(other[layer].tobytes() == runs[0][layer].tobytes() for layer in runs[0])
