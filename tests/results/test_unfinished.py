"""A stage of the paper's own length that is not at its end, kept with the project and gone on with elsewhere: a real run, stopped."""

import json
import shutil
import signal
import time

import pytest

from conftest import EXPERIMENT, MAKE, RUN, command, one_line
from drivers import begin, record, wait_for_a_snapshot
from hkd.base.files import sha256
from hkd.stages import records

SHORT = ("teacher.max_iter=3", "teacher.stepvalue=1,2", "kd.max_iter=300", "kd.stepvalue=100,200")
LENGTH = "fashion-mnist/full-seed1"


def train(data, runs):
    settings = [f"--set={words}" for words in SHORT]
    where = ("--data", data, "--runs", runs, "--snapshot-seconds", "0.2")
    return (RUN, "--experiment", EXPERIMENT, "--method", "kd", "--stage", "kd", *settings, *where)


def stage_in(folder):
    (stage,) = (folder / LENGTH).glob("*-kd-net1*")
    return stage


@pytest.fixture(scope="module")
def stopped(fashion, tmp_path_factory):
    """A runs folder whose last stage was stopped on its way, and the folders where its records and weights are kept."""
    folder = tmp_path_factory.mktemp("unfinished")
    command(*train(fashion, folder / "runs")[:-2], "--prepare", check=0)
    process = begin(*train(fashion, folder / "runs"))
    wait_for_a_snapshot(process, stage_in(folder / "runs"))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM and "stopped at iteration" in said
    collect(folder / "runs", folder)
    return folder


def collect(runs, folder):
    words = ("--measured", folder / "measured", "--collect", runs, "--weights", folder / "weights")
    return command(MAKE, *words, check=0)


def lay(folder, runs, **options):
    return command(MAKE, "--measured", folder / "measured", "--weights", folder / "weights", "--lay", runs, **options)


def first_snapshot(process, runs, name):
    """Waits for a stage's first snapshot; returns its folder."""
    while not (found := list((runs / LENGTH).glob(f"{name}/snapshots/iter_*"))):
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)
    return found[0].parents[1]


def test_it_ends_elsewhere_in_the_bytes_of_a_run_that_was_never_stopped(stopped, fashion, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    kept = stage_in(folder / "weights/unfinished")
    at = json.loads((kept / "snapshot.json").read_text())["iteration"]
    assert f"| {LENGTH}/{kept.name} | {EXPERIMENT} | {at:,} | 300 |" in (folder / "weights/README.md").read_text()
    assert lay(folder, tmp_path / "second", check=0).stdout.startswith("2 stages in")
    lay(folder, tmp_path / "second", check=0)  # over itself
    assert f"resumed at iteration {at} of 300" in command(*train(fashion, tmp_path / "second"), check=0).stdout
    command(*train(fashion, tmp_path / "whole"), check=0)
    second, whole = (stage_in(tmp_path / name) for name in ("second", "whole"))
    for name in (records.FINAL, records.FINAL_STATE, records.LOG):
        assert sha256(second / name) == sha256(whole / name)
    assert record(second)["sessions"] == 2 and record(second)["hardware"] == record(whole)["hardware"]
    collect(tmp_path / "second", folder)
    assert not kept.exists() and "Unfinished" not in (folder / "weights/README.md").read_text()


def test_no_folder_of_this_machine_is_kept(stopped, fashion):
    for path in stage_in(stopped / "weights/unfinished").iterdir():
        content = path.read_bytes()
        assert str(stopped).encode() not in content and str(fashion).encode() not in content, path.name


def test_the_record_names_every_machine(stopped, fashion, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    note = stage_in(folder / "weights/unfinished") / "snapshot.json"
    state = json.loads(note.read_text())
    here = state["hardware"]
    note.write_text(json.dumps({**state, "hardware": ["Another processor"]}))
    lay(folder, tmp_path / "runs", check=0)
    command(*train(fashion, tmp_path / "runs"), check=0)
    assert record(stage_in(tmp_path / "runs"))["hardware"] == ", then ".join(["Another processor", *here])


def test_one_that_is_being_trained_is_left_with_a_word(stopped, fashion, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    kept = sha256(stage_in(folder / "weights/unfinished") / "snapshot.json")
    process = begin(*train(fashion, folder / "runs"))
    wait_for_a_snapshot(process, stage_in(folder / "runs"))
    assert "is being trained: stop it first" in collect(folder / "runs", folder).stdout
    assert sha256(stage_in(folder / "weights/unfinished") / "snapshot.json") == kept
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_nothing_is_replaced_that_is_of_another_run_or_further_on(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    kept = stage_in(folder / "weights/unfinished")
    state = json.loads((kept / "snapshot.json").read_text())
    for other in ({"digest": "0" * 64}, {"iteration": 299}):
        (kept / "snapshot.json").write_text(json.dumps(state | other))
        words = ("--measured", folder / "measured", "--collect", folder / "runs", "--weights", folder / "weights")
        one_line(command(MAKE, *words), kept.name, "is another run than", "delete")
        one_line(lay(folder, folder / "runs"), kept.name, "is another run than", "another folder")


def test_what_is_damaged_is_one_line(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    kept = stage_in(folder / "weights/unfinished")
    weights = (kept / "weights.caffemodel").read_bytes()
    (kept / "weights.caffemodel").write_bytes(weights[:-9])
    one_line(lay(folder, tmp_path / "a"), "weights.caffemodel is no caffemodel, or a torn one", "delete it")
    (kept / "weights.caffemodel").write_bytes(weights)
    momentum = (kept / "solver.solverstate").read_bytes()
    (kept / "solver.solverstate").write_bytes(momentum[:-9])
    one_line(lay(folder, tmp_path / "a"), "solver.solverstate is not what the snapshot had", "delete it")
    (kept / "solver.solverstate").write_bytes(momentum)
    (tmp_path / "a" / LENGTH / kept.name).mkdir()
    one_line(lay(folder, tmp_path / "a"), kept.name, "is no stage's folder", "another folder")
    (kept / "snapshot.json").write_text("{")
    one_line(lay(folder, tmp_path / "b"), "snapshot.json is damaged", "delete")
    (kept / "snapshot.json").unlink()
    one_line(lay(folder, tmp_path / "c"), "snapshot.json is damaged", "delete")


def test_a_first_stage_on_its_way_is_kept_too(stopped, fashion, tmp_path):
    """Of a runs folder in which nothing is finished."""
    shutil.copytree(stopped / "measured", tmp_path / "measured")
    words = (
        "--experiment",
        EXPERIMENT,
        "--stage",
        "teacher",
        "--set",
        "max_iter=5000",
        "--set",
        "stepvalue=9,99",
        "--data",
        fashion,
    )
    process = begin(RUN, *words, "--runs", tmp_path / "runs", "--snapshot-seconds", "0.2")
    teacher = first_snapshot(process, tmp_path / "runs", "*-teacher*")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    name = f"{LENGTH}/{teacher.name}"
    assert (
        f"0 records from {tmp_path / 'runs'}, and 1 unfinished: {name}" in collect(tmp_path / "runs", tmp_path).stdout
    )
    assert lay(tmp_path, tmp_path / "laid", check=0).stdout.splitlines()[1:] == [f"  {name}"]


def test_of_other_people_s_teacher_nothing_is_kept(stopped, fashion, tmp_path):
    """Their weights are under their license: without these a snapshot cannot be made whole."""
    teacher = next((stopped / "runs" / LENGTH).glob("*-teacher*")) / records.FINAL
    process = begin(*train(fashion, tmp_path / "runs"), "--teacher-weights", teacher)
    first_snapshot(process, tmp_path / "runs", "*-kd-net1*")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert "teacher of" in collect(tmp_path / "runs", tmp_path).stdout
    assert not list((tmp_path / "weights").rglob("*.caffemodel"))
    assert "Unfinished" not in (tmp_path / "weights/README.md").read_text()


def test_without_its_teacher_it_is_not_laid(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "kept")
    for teacher in (folder / "weights").glob("*/*-teacher*.caffemodel"):
        teacher.unlink()
    one_line(lay(folder, tmp_path / "runs"), "weights.caffemodel: with no teacher's weights", "it is what the snapshot")
