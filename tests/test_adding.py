"""The changes that python/hkd/README.md shows, made to a copy of the code as they stand there, and trained."""

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import EXPERIMENT, FASHION, ROOT, RUN
from pages import PAGES, marked

STAGE = ("--stage", "kd", "--scale", "0.0001", "--set", "batch=16", "--cpu", "--threads", "1")


@pytest.fixture
def copy(tmp_path):
    """Applies the change that a marker names, and returns what runs a script of the copy."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("python", "data_tools"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=ignored)

    def changed(marker):
        apply(tmp_path / "checkout", marked(PAGES["python/hkd/README.md"], marker))

        def run(script, *words):
            environment = {**os.environ, "PYTHONPATH": str(tmp_path / "checkout/python"), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, tmp_path / "checkout" / script, *map(str, words)],
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        return run

    return changed


def apply(folder, diff):
    """A diff whose parts say no line numbers: what it shows without `+` stands once in the file, and becomes what it shows
    without `-`."""
    for part in re.split(r"^--- .*\n", diff, flags=re.MULTILINE)[1:]:
        name, *hunks = part.split("@@\n")
        path = folder / name.strip().removeprefix("+++ b/")
        for hunk in hunks:
            lines = hunk.rstrip("\n").split("\n")
            old, new = ("\n".join(line[1:] for line in lines if line[:1] in kept) for kept in (" -", " +"))
            if not path.exists():
                path.write_text(new + "\n")
                continue
            text = path.read_text()
            assert text.count(old) == 1, f"{path.name}: {old!r} stands there {text.count(old)} times"
            path.write_text(text.replace(old, new))


def record(runs, name):
    (path,) = runs.glob(f"*/*/{name}/record.json")
    return json.loads(path.read_text())


def test_a_method(copy, fashion, tmp_path):
    run = copy("a method")
    words = ("--experiment", "fashion-mnist-r14-r8", "--data", fashion, "--runs", tmp_path / "runs", *STAGE)
    said = run("python/run_stage.py", "--method", "layerwise-falling", *words)
    assert "r14-r8-layerwise-hint3+batch=16" in said
    made = record(tmp_path / "runs", "r14-r8-layerwise-falling-kd-net1+batch=16")
    assert made["method"] == "layerwise-falling" and made["parents"]["student"]["stage"].startswith(
        "r14-r8-layerwise-hint3"
    )


def test_a_kind_of_stage_with_a_loss(copy, fashion, tmp_path):
    run = copy("a kind of stage")
    words = ("--experiment", "fashion-mnist-r14-r8", "--data", fashion, "--runs", tmp_path / "runs", *STAGE[2:])
    run("python/run_stage.py", "--method", "scores", "--stage", "scores", "--set", "lambda_scores=0.2", *words)
    made = record(tmp_path / "runs", "r14-r8-scores-net1+batch=16+lambda_scores=0.2")
    (line,) = [x for x in log(tmp_path / "runs", made["stage"]) if "lr" in x][-1:]
    assert line["loss"] == pytest.approx(line["hard"] + 0.2 * line["scores"], rel=1e-6)
    # The setting is of this kind of stage alone.
    assert record(tmp_path / "runs", "r14-teacher+batch=16")
    said = run("python/run_stage.py", "--method", "kd", "--set", "lambda_scores=0.3", "--dry-run", *words)
    assert "r14-r8-kd-net1+batch=16 " in said


def log(runs, stage):
    (path,) = runs.glob(f"*/*/{stage}/log.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_data_set(copy, tmp_path):
    if not FASHION.exists():
        pytest.skip("no Fashion-MNIST here: the Debian package dataset-fashion-mnist")
    run = copy("a data set")
    said = run("data_tools/make_lmdb.py", "--dataset", "clothes", "--source", FASHION, "--out", tmp_path / "clothes")
    assert "60,000 training and 10,000 test images" in said
    words = (
        "--experiment",
        "clothes-r14-r8",
        "--data",
        tmp_path / "clothes",
        "--runs",
        tmp_path / "runs",
        "--stage",
        "baseline",
    )
    run("python/run_stage.py", *words, "--prepare")
    (net,) = (tmp_path / "runs").glob("clothes/*/r8-baseline-net1/net.prototxt")
    assert "Clothes, r8-baseline" in net.read_text()


def way_of_a_command():
    """[(module, function or class)] of the page's table, in its order."""
    rows = marked(PAGES["python/hkd/README.md"], "the way of a command").splitlines()[2:]
    names = [re.match(r"\| `([\w.]+)` \|", row)[1] for row in rows]
    return [(importlib.import_module(module), name) for module, _, name in (name.rpartition(".") for name in names)]


def test_each_function_on_the_way_of_a_command_is_called_by_one_before_it():
    way = way_of_a_command()
    assert len(way) - 1 <= 10
    before = ""
    for number, (module, name) in enumerate(way):
        called = f'module("{module.__name__}")' if name == "main" else f"{name}("
        assert number == 0 or called in before, (module.__name__, name)
        before += inspect.getsource(getattr(module, name))


COUNTING = """
import collections, runpy, sys
counts = collections.Counter()
def count(frame, event, _):
    if event == "call":
        counts[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"] += 1
main = runpy.run_path(sys.argv[1], run_name="run_stage")["main"]
del sys.argv[1]
sys.setprofile(count)
code = main()
sys.setprofile(None)
print(code, counts["hkd.paper.settings.read"], counts["hkd.training.process.spawn"])
"""


def test_the_text_of_a_setting_is_read_once(fashion, tmp_path):
    """On the real way, which trains a teacher and its student: the processes of the two are told a number."""
    words = ("--method", "kd", "--stage", "kd", "--set", "lambda_kd=3", "--net", "2", "--scale", "0.0001", "--cpu")
    where = ("--experiment", EXPERIMENT, "--data", str(fashion), "--runs", str(tmp_path / "runs"))
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, str(ROOT / RUN), *words, *where], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["0 1 2"], done.stdout + done.stderr
    made = record(tmp_path / "runs", "r14w4-r8w4-kd-net2+lambda_kd=3")
    assert made["settings"]["lambda_kd"] == 3.0 and made["net"] == 2
