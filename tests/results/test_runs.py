"""Runs that may not stand together, and folders that are not what their records say: refused with both named."""

import csv
import shutil

import pytest

from conftest import MAKE, RUN, command, one_line
from hkd.stages import records
from run_folders import rewrite, stage


def make(runs, tmp_path, *more):
    return command(MAKE, "--runs", runs, "--out", tmp_path / "out", *more)


def test_two_scales_in_one_cell(damaged, lmdbs, tmp_path):
    """A real second run at another scale: both are named, and one can be chosen."""
    words = ["--experiment", "mnist-r32-r8", "--stage", "baseline", "--net", "1", "--set", "batch=8"]
    where = ["--data", lmdbs / "mnist", "--runs", damaged]
    command(RUN, *words, *where, "--scale", "0.0001", check=0)
    done = make(damaged, tmp_path, "table4")
    one_line(done, "Table 4, student alone", "scale3e-05-seed1/r8-baseline-net1", "scale0.0001-seed1/r8-baseline-net1")
    one_line(done, "differ in scale", "--scale")
    assert not (tmp_path / "out").exists()
    assert make(damaged, tmp_path, "table4", "--scale", "0.00003").returncode == 0
    row = next(csv.DictReader((tmp_path / "out/table4.csv").open()))
    assert row["scale"] == "3e-05"


def test_two_settings_in_one_cell(damaged, lmdbs, tmp_path):
    words = ["--experiment", "mnist-r32-r8", "--stage", "kd", "--method", "kd", "--net", "1", "--scale", "0.00003"]
    where = ["--data", lmdbs / "mnist", "--runs", damaged]
    command(RUN, *words, "--set", "batch=8", "--set", "lambda_kd=3", *where, check=0)
    done = make(damaged, tmp_path, "table4")
    one_line(done, "differ in settings", "lambda_kd=3", "--set", "r32-r8-kd-net1+batch=8 ", "+lambda_kd=3")
    chosen = ["--set", "batch=8", "--set", "lambda_kd=3"]
    assert make(damaged, tmp_path, "table4", *chosen).returncode == 0
    text = (tmp_path / "out/table4.md").read_text()
    # What lambda_kd does not reach is the same run; what it reaches and was not run with it is a dash.
    assert "| KD without hints (scale 3e-05, batch=8, lambda_kd=3, not the official images) |" in text
    assert "| student alone, 8 layers (scale 3e-05, batch=8, not the official images) |" in text
    assert "| Hint-KD | 0.52, 0.54, 0.62 | 0.560 | - | - |" in text


def test_a_setting_that_does_not_reach_a_stage_is_no_difference(damaged, tmp_path):
    """The student alone is shared by experiments; hint layers that one of them was asked with are not its own."""
    folder = stage(damaged, "r8-baseline-net1*", "cifar10")
    settings = records.read_record(folder)["settings"]
    rewrite(folder, settings={**settings, "hint_layers": ["1.3", "2.3", "3.3"]})
    assert make(damaged, tmp_path, "figure7").returncode == 0


def test_two_engines_in_one_cell(damaged, tmp_path):
    rewrite(stage(damaged, "r32-r8-kd-net2*"), engine="another")
    one_line(make(damaged, tmp_path, "table4"), "differ in engine (caffe; another)", "net1", "net2", "--engine")


def test_two_data_sets_in_one_cell(damaged, tmp_path):
    folder = stage(damaged, "r32-r8-kd-net2*")
    digests = records.read_record(folder)["digests"]
    rewrite(folder, digests={**digests, "pixels": "0" * 64})
    one_line(make(damaged, tmp_path, "table4"), "differ in images", "net1", "net2")


def test_a_record_edited_by_hand(damaged, tmp_path):
    path = stage(damaged, "r32-r8-kd-net2*") / "record.json"
    path.write_text(path.read_text().replace('"best": ', '"best": 9'))
    one_line(make(damaged, tmp_path), path, "edited or damaged")


@pytest.mark.parametrize("cut", ["missing", "short"])
def test_a_folder_copied_by_half(damaged, tmp_path, cut):
    log = stage(damaged, "r32-r8-kd-net2*") / "log.jsonl"
    if cut == "missing":
        log.unlink()
    else:
        log.write_bytes(log.read_bytes()[:-20])
    one_line(make(damaged, tmp_path, "table4"), log, "copied by half" if cut == "short" else "is missing")


def test_a_record_cut_short(damaged, tmp_path):
    path = stage(damaged, "r32-r8-kd-net2*") / "record.json"
    path.write_bytes(path.read_bytes()[:-30])
    one_line(make(damaged, tmp_path, "table4"), path, "damaged")


def test_a_folder_in_the_place_of_another(damaged, tmp_path):
    one, two = (stage(damaged, f"r32-r8-kd-net{n}*") for n in (1, 2))
    shutil.rmtree(two)
    shutil.copytree(one, two)
    one_line(make(damaged, tmp_path, "table4"), two, "renamed or copied", "r32-r8-kd-net1")


def test_a_student_of_another_teacher_than_the_one_beside_it(damaged, tmp_path):
    folder = stage(damaged, "r32-teacher*")
    digests = records.read_record(folder)["digests"]
    rewrite(folder, digests={**digests, records.FINAL: "0" * 64})
    one_line(make(damaged, tmp_path, "table4"), "started from another r32-teacher")


def test_what_was_set_aside_or_not_finished_is_no_run(damaged, tmp_path):
    folder = stage(damaged, "r32-r8-kd-net2*")
    shutil.copytree(folder, folder.with_name(folder.name + ".before-1"))
    (stage(damaged, "r32-r8-kd-net3*") / "record.json").unlink()
    assert make(damaged, tmp_path, "table4").returncode == 0
    row = next(x for x in csv.DictReader((tmp_path / "out/table4.csv").open()) if x["method"] == "kd")
    assert row["n"] == "2" and row["net2_last"] and not row["net3_last"]


def test_a_damaged_record_elsewhere_is_no_matter_of_this_table(damaged, tmp_path):
    (stage(damaged, "r26-r14-kd-net2*") / "record.json").write_text("{")
    assert make(damaged, tmp_path, "table4").returncode == 0
    one_line(make(damaged, tmp_path), "damaged")
