"""Where no pycaffe is: what stands for it is Caffe's own, the files that are made are the same, and the torch engine trains from
images to a table. In environments of their own, made by pip as a user makes them."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import caffe
import pytest
from caffe.proto import caffe_pb2

from conftest import EXPERIMENT, ROOT, SCALE, command, group

STAND_IN = ROOT / "python/hkd/without_pycaffe/caffe"


def test_what_stands_for_pycaffe_is_of_the_caffe_that_is_built():
    assert filecmp.cmp(STAND_IN / "net_spec.py", Path(caffe.__file__).with_name("net_spec.py"), shallow=False)
    assert (STAND_IN / "proto/caffe.binpb").read_bytes() == caffe_pb2.DESCRIPTOR.serialized_pb


def test_pycaffe_comes_first_where_it_is():
    assert Path(caffe.__file__).parent != STAND_IN
    said = command("python/run_stage.py", "--dry-run", check=0)
    assert "engine: torch" not in said.stdout and "note" not in said.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout without an environment of its own; the kept records take long to copy and are left out."""
    folder = tmp_path_factory.mktemp("without") / "checkout"
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("python", "data_tools", "prototxt", "solvers"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def environment(version, folder, *extras):
    """The Python of a new environment of that version with this project in it, by `pip install`; skips where there is none."""
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = of_pyenv[-1] if of_pyenv else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no Python {version} here")
    place = folder.parent / f"env{version}"
    made = subprocess.run([python, "-m", "venv", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"Python {version} here makes no environment: {made.stderr[-200:]}")
    pip = [place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for words in (*extras, [folder]):
        subprocess.run([*pip, *words], check=True, capture_output=True)
    return place / "bin/python"


def run(python, folder, script, *words, code=0):
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "OMP_NUM_THREADS")
    done = subprocess.run(
        [python, folder / script, *map(str, words)],
        cwd=folder,
        env={name: os.environ[name] for name in kept if name in os.environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_all_that_needs_no_pytorch(version, checkout, fashion, fashion_source, tmp_path):
    python = environment(version, checkout)
    assert "files are what the generator makes" in run(python, checkout, "python/make_prototxt.py", "--check").stdout
    lmdb = tmp_path / "data/fashion-mnist"
    words = ("--dataset", "fashion-mnist", "--source", fashion_source, "--out", lmdb)
    run(python, checkout, "data_tools/make_lmdb.py", *words)
    same = [json.loads((folder / "manifest.json").read_text()) for folder in (lmdb, fashion)]
    assert same[0]["pixels_sha256"] == same[1]["pixels_sha256"]
    assert filecmp.cmp(lmdb / "train_lmdb/data.mdb", fashion / "train_lmdb/data.mdb", shallow=False)
    planned = run(python, checkout, "python/run_stage.py", "--stage", "hint", "--step", "2", "--dry-run")
    assert "r26-r14-layerwise-hint2" in planned.stdout and "neither pycaffe nor PyTorch is here" in planned.stderr
    assert "21 | 1,099,000" in run(python, checkout, "python/make_tables.py", "--cost", "table1").stdout
    made = {}
    for which in ("here", "there"):
        measured = made[which] = tmp_path / which
        kept = "records/torch/mnist/scale0.015625-seed1"
        shutil.copytree(ROOT / "results/measured" / kept, measured / kept)
    command("python/make_tables.py", "--measured", made["here"], check=0)
    run(python, checkout, "python/make_tables.py", "--measured", made["there"])
    # Another matplotlib draws other figures, another SciPy ends p in other digits.
    for name in ("table4.md", "claims.md", "runs.md"):
        assert (made["there"] / name).read_text() == (made["here"] / name).read_text()
    assert (made["there"] / "report.html").exists()
    for engine, words in (("caffe", "needs pycaffe"), ("torch", "needs PyTorch")):
        done = run(python, checkout, "python/run_stage.py", "--stage", "teacher", "--engine", engine, code=2)
        assert words in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_images_to_a_table_by_the_torch_engine(checkout, fashion, fashion_source, chain, tmp_path):
    """On Python 3.11 with NumPy 2, and PyTorch as it is installed beside these tests."""
    torch = pytest.importorskip("torch")
    wanted = f"torch=={torch.__version__.partition('+')[0]}"
    python = environment("3.11", checkout, [wanted], ["numpy>=2", "safetensors"])
    lmdb, runs = tmp_path / "data/fashion-mnist", tmp_path / "runs"
    words = ("--dataset", "fashion-mnist", "--source", fashion_source, "--out", lmdb)
    run(python, checkout, "data_tools/make_lmdb.py", *words)
    where = ("--experiment", EXPERIMENT, "--scale", SCALE)
    words = ("--data", lmdb, "--runs", runs, "--method", "layerwise", "--stage", "kd")
    said = run(python, checkout, "python/run_stage.py", *where, *words)
    assert "note: no pycaffe here: --engine torch" in said.stderr
    record = json.loads((group(runs) / "r14w4-r8w4-layerwise-kd-net1/record.json").read_text())
    assert record["engine"] == "torch" and record["versions"]["numpy"] >= "2"
    for name in ("net.prototxt", "solver.prototxt"):  # the same as pycaffe's, but for the folder of the images
        made = (group(runs) / "r14w4-r8w4-layerwise-kd-net1" / name).read_text().replace(str(lmdb), str(fashion))
        assert (
            made.replace(str(runs), str(chain[0].parents[1]))
            == (chain[0] / "r14w4-r8w4-layerwise-kd-net1" / name).read_text()
        )
    table = run(python, checkout, "python/make_tables.py", *where, "--runs", runs, "--out", tmp_path / "out").stdout
    assert "layer-wise hints, then KD" in table
    weights = group(runs) / "r14w4-r8w4-layerwise-kd-net1/final.caffemodel"
    words = ("--weights", weights, "--export", "safetensors", "--data", lmdb, "--out", tmp_path / "out")
    assert "as in the torch engine" in run(python, checkout, "python/compare_torch.py", *words).stdout
    done = run(python, checkout, "python/compare_torch.py", "--data", lmdb, "--experiment", EXPERIMENT, code=2)
    assert "comparing needs pycaffe" in done.stderr and "--engine" not in done.stderr

    # Killed, and gone on with by pycaffe's road: one snapshot is the other's.
    (kept,) = [group(runs) / "r14w4-teacher/final.solverstate"]
    assert caffe_pb2.SolverState.FromString(kept.read_bytes()).iter == 18


def test_a_python_without_anything_says_what_it_needs(tmp_path):
    """As Python finds nothing but itself, with no environment of the project in the checkout."""
    for name in ("python", "data_tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "python/run_stage.py", "--list"], capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "no pycaffe, and no numpy" in done.stderr and "pip install '.[torch]'" in done.stderr


@pytest.mark.slow
def test_the_notebook_from_top_to_end(colour_source, tmp_path):
    """As on a machine that has the project installed; the images and the folders are named by the environment."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "python/layerwise.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what is committed has no run of somebody's in it
    variables = {"HKD_SCALE": "0.00003", "HKD_SOURCE": colour_source, "OMP_NUM_THREADS": "1"}
    variables |= {f"HKD_{name}": tmp_path / name.lower() for name in ("DATA", "RUNS", "RESULTS")}
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT / "python")}})
    client.execute(env={**os.environ, **{name: str(value) for name, value in variables.items()}})
    *_, table, figure = notebook.cells[-1].outputs
    assert (
        "| layer-wise hints, then KD, engine torch, not the official images | 8 |" in table.data["text/markdown"]
        and "image/png" in figure.data
    )
