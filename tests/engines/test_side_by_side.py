"""One stage in both engines side by side: what compare_torch.py --losses writes, and what is made of it."""

import importlib.util
import json

import pytest

from conftest import ROOT, command, one_line
from hkd.base.cli import UserError
from hkd.results.engines_apart import engines_apart, picture
from hkd.results.kept import Kept
from hkd.stages import loss_curves

COMPARE = "python/compare_torch.py"
HINT = ("--experiment", "fashion-mnist-r14w4-r8w4", "--method", "layerwise", "--stage", "hint", "--step", 1)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: make torch")


@pytest.fixture(scope="module")
def curves(fashion, chain, tmp_path_factory):
    """12 iterations of a hint step from the weights that the chain's began with: (curves, folder of that stage)."""
    stage = chain[0] / "r14w4-r8w4-layerwise-hint1"
    path = tmp_path_factory.mktemp("curves") / "losses.json"
    words = (*HINT, "--data", fashion, "--weights", stage / "init.caffemodel", "--iterations", 12, "--losses", path)
    said = command(COMPARE, *words, check=0).stdout
    assert "iteration 12 of 12: loss caffe " in said and f"written to {path}" in said
    return loss_curves.read(path), stage


@needs_torch
def test_both_begin_alike_and_part_slowly(curves):
    found, stage = curves
    for caffe, torch in zip(*(found["losses"][engine] for engine in loss_curves.ENGINES), strict=True):
        assert torch == pytest.approx(caffe, rel=1e-3)
    assert found["losses"]["caffe"][0] == pytest.approx(found["losses"]["torch"][0], rel=1e-5)
    iterations, apart = zip(*found["apart"], strict=True)
    assert iterations == (1, 2, 5, 10, 12) and 0 < apart[0] < apart[-1] < 1e-2
    assert found["stage"] == stage.name and found["iterations"] == 3000


@needs_torch
def test_the_same_command_makes_the_same_bytes(curves, fashion, tmp_path):
    found, stage = curves
    weights = ("--weights", stage / "init.caffemodel")
    command(COMPARE, *HINT, "--data", fashion, *weights, "--iterations", 2, "--losses", tmp_path / "x.json", check=0)
    again = loss_curves.read(tmp_path / "x.json")
    assert all(again["losses"][engine] == found["losses"][engine][:2] for engine in loss_curves.ENGINES)
    assert again["start"] == found["start"] and again["apart"] == found["apart"][:2]


def made_up():
    losses = {"caffe": [4.0, 2.0] * 60, "torch": [4.0, 2.02] * 60}
    apart = [[1, 1e-6], [2, 2e-6], [10, 1e-5], [100, 1e-3], [120, 2e-3]]
    words = {
        "experiment": "mnist-r32-r8",
        "stage": "r32-r8-layerwise-kd-net1",
        "hardware": "a processor",
        "versions": {},
    }
    return {**words, "iterations": 36_000, "losses": losses, "apart": apart, "start": "0" * 64, "pixels": "0" * 64}


def kept_with(folder, curves):
    """A Kept with one record, and the losses of a stage beside it."""
    path = folder / "side-by-side/one.json"
    path.parent.mkdir(parents=True)
    loss_curves.write(path, curves)
    one = next((ROOT / "results/measured/records").glob("torch/mnist/*/r32-teacher/record.json"))
    there = folder / "torch/mnist" / one.parts[-3] / one.parts[-2]
    there.mkdir(parents=True)
    (there / "record.json").write_bytes(one.read_bytes())
    return Kept(folder)


def test_the_table_has_a_row_for_each_tenfold(tmp_path):
    kept = kept_with(tmp_path, made_up())
    rows = engines_apart(kept).rows
    assert [row[2] for row in rows] == [
        "1 of 36,000",
        "2 to 10 of 36,000",
        "11 to 100 of 36,000",
        "101 to 120 of 36,000",
    ]
    assert rows[0][3:] == ("4", "4", "+0.00%", "0", "1e-06")
    assert rows[3][3:] == ("3", "3.01", "+0.33%", "0.01", "0.002")
    assert picture(kept) == picture(kept) and b"r32-r8-layerwise-kd-net1: weights" in picture(kept)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"losses": {"caffe": [1.0], "torch": [1.0, 2.0]}}, "end at different iterations"),
        ({"apart": [[1, 0.5]]}, "end at different iterations"),
        ({"losses": {"caffe": [1.0]}}, "torch"),
        ({"start": "x"}, "start"),
    ],
)
def test_what_are_no_losses_is_one_line_that_names_the_file(tmp_path, change, said):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(made_up() | change))
    with pytest.raises(UserError, match=f"^{path}: .*{said}.*make it again"):
        loss_curves.read(path)


@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json", "x.json"), ("neither --json nor --export",)),
        (("--iterations", 3001), ("--iterations 3001", "has 3,000")),
        (("--method", "hint-dynamic", "--stage", "dynamic"), ("trains beside its solver",)),
        (("--losses", "/nonexistent/x.json"), ("/nonexistent",)),
    ],
)
def test_what_cannot_be_is_one_line(fashion, tmp_path, words, said):
    hint = HINT if "--method" not in words else HINT[:2]
    where = ("--losses", tmp_path / "x.json") if "--losses" not in words else ()
    one_line(command(COMPARE, *hint, "--data", fashion, *where, *words), *said)
    assert not (tmp_path / "x.json").exists()
