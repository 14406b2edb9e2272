"""The whole demo, by `make`, at a tiny scale on all of Fashion-MNIST; and its tables."""

import json
import re
import subprocess

import pytest

from conftest import ROOT, command
from hkd.results import experiment_table, sheet
from hkd.results.runs import Runs
from hkd.stages import records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    arguments = ["SCALE=0.0003", f"RUNS={folder / 'runs'}", f"OUT={folder / 'out'}"]
    done = subprocess.run(["make", "demo", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_it_prints_what_each_reached(demo):
    folder, done = demo
    rows = re.findall(
        r"^\| (teacher|student alone|KD without hints|layer-wise.*?) \| (\d+) \| (\d+) \| ([\d.]+) ",
        done.stdout,
        re.MULTILINE,
    )
    assert [(name, layers) for name, layers, _, _ in rows] == [
        ("teacher", "14"),
        ("student alone", "8"),
        ("KD without hints", "8"),
        ("layer-wise hints, then KD", "8"),
    ]
    assert "every number of iterations x 0.0003: not comparable with the paper's" in done.stdout
    for name, _, _, Pc in rows:
        stage = {"teacher": "r14-teacher", "student alone": "r8-baseline-net1", "KD without hints": "r14-r8-kd-net1"}
        record = (
            folder
            / "runs/fashion-mnist/scale0.0003-seed1"
            / stage.get(name, "r14-r8-layerwise-kd-net1")
            / "record.json"
        )
        assert f"{json.loads(record.read_text())['Pc']['last']:.2f}" == Pc


def test_the_figure_is_a_picture(demo):
    folder, _ = demo
    picture = (folder / "out/accuracy.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_the_same_records_make_the_same_bytes(demo, tmp_path):
    folder, _ = demo
    arguments = [
        "--experiment",
        "fashion-mnist-r14-r8",
        "--scale",
        "0.0003",
        "--runs",
        folder / "runs",
        "--out",
        tmp_path,
    ]
    command("python/make_tables.py", *arguments, check=0)
    for name in ("comparison.md", "accuracy.png"):
        assert (tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_what_was_not_run_is_a_dash(demo, tmp_path):
    """Only the teacher's record: every other row has none, and nothing is made up."""
    found = experiment_table.lines("cifar10-r26-r14", Runs(tmp_path))
    text = sheet.markdown(experiment_table.sheet("cifar10-r26-r14", found))
    assert text.count("| - | - | - | - |") == 4
    assert "| layer-wise hints, then KD | 14 | - | - | - | - | 91.70 |" in text


def test_mean_and_standard_deviation():
    assert sheet.mean_sd((90.0, 91.0, 92.0)) == "91.00 ± 1.00"
    assert sheet.mean_sd((90.0,)) == "90.00" and sheet.mean_sd(()) == "-"


def test_an_edited_record_gets_into_no_table(demo, tmp_path):
    import shutil

    runs = shutil.copytree(demo[0] / "runs", tmp_path / "runs")
    path = runs / "fashion-mnist/scale0.0003-seed1/r14-teacher/record.json"
    content = json.loads(path.read_text())
    content["Pc"]["last"] = 99.0
    path.write_text(json.dumps(content))
    done = command("python/make_tables.py", "--experiment", "fashion-mnist-r14-r8", "--scale", "0.0003", "--runs", runs)
    assert done.returncode == 2 and "record.json was edited" in done.stderr
    assert records.read_json(path)["Pc"]["last"] == 99.0
