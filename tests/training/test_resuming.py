"""A stage that is killed or stopped at any moment, and started again: it ends in the same bytes."""

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from conftest import EXPERIMENT, ROOT, RUN, SCALE, command, group
from drivers import as_from_a_terminal, begin_stage, children_of, finish, log, record, stage_to_stop, wait_for
from hkd.base import signals
from hkd.base.files import sha256
from hkd.stages import snapshots


@pytest.fixture(scope="session")
def uninterrupted(fashion, tmp_path_factory):
    """With two threads, all others with one: the bytes are the same with any number."""
    runs = tmp_path_factory.mktemp("whole")
    finish(begin_stage(fashion, runs, env={**os.environ, "OMP_NUM_THREADS": "2"}))
    return stage_to_stop(runs)


def same_result(stage, uninterrupted):
    assert sha256(stage / "final.caffemodel") == sha256(uninterrupted / "final.caffemodel")
    assert blobs_of_state(stage) == blobs_of_state(uninterrupted)
    assert log(stage) == log(uninterrupted)
    assert record(stage)["Pc"] == record(uninterrupted)["Pc"]


def blobs_of_state(stage):
    from caffe.proto import caffe_pb2

    state = caffe_pb2.SolverState.FromString((stage / "final.solverstate").read_bytes())
    return [list(blob.data) for blob in state.history]


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_in_the_same_bytes(fashion, tmp_path):
    scale = 0.02  # 720 iterations, and more on a fast machine: it has to train long enough for 20 kills
    finish(begin_stage(fashion, tmp_path / "whole", scale))
    while record(stage_to_stop(tmp_path / "whole", scale))["seconds"] < 25:
        scale *= 2
        finish(begin_stage(fashion, tmp_path / "whole", scale))
    stage = stage_to_stop(tmp_path / "killed", scale)
    rng = random.Random(20)
    for kill in range(20):
        process = begin_stage(fashion, tmp_path / "killed", scale)
        if kill % 2:
            # At any instant from its first on: while it prepares, restores, replays, trains, writes.
            time.sleep(rng.uniform(0, 2))
        else:
            # Shortly after a snapshot that it has just made, so that it gets on.
            before = snapshots.iteration(stage / "snapshots")
            wait_for(lambda before=before: snapshots.iteration(stage / "snapshots") > before)
            time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None, "it finished before it could be killed 20 times"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < snapshots.iteration(stage / "snapshots") < 36_000 * scale
    finish(begin_stage(fashion, tmp_path / "killed", scale))
    assert record(stage)["sessions"] > 1
    same_result(stage, stage_to_stop(tmp_path / "whole", scale))


@pytest.mark.parametrize("number", signals.STOP)
def test_a_signal_ends_it_within_seconds_and_nothing_is_lost(fashion, uninterrupted, tmp_path, number):
    stage = stage_to_stop(tmp_path)
    process = begin_stage(fashion, tmp_path)
    wait_for(lambda: (stage / "snapshots").exists() and snapshots.iteration(stage / "snapshots") > 10)
    process.send_signal(number)
    started = time.monotonic()
    said, _ = process.communicate()
    assert time.monotonic() - started < 20
    assert process.returncode == 128 + number
    stopped = int(said.split("stopped at iteration ")[1].split(":")[0].replace(",", ""))
    assert snapshots.iteration(stage / "snapshots") == stopped > 10  # not an iteration is done twice
    assert f"resumed at iteration {stopped} of" in finish(begin_stage(fashion, tmp_path))
    same_result(stage, uninterrupted)


def test_a_closed_terminal_loses_nothing(fashion, uninterrupted, tmp_path):
    """A terminal of its own, whose other end is closed as by a lost ssh: it cannot be written to any more."""
    stage = stage_to_stop(tmp_path)
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)

    def in_the_terminal():
        as_from_a_terminal()
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY)

    process = begin_stage(fashion, tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=in_the_terminal)
    os.close(theirs)

    def trained():
        with contextlib.suppress(BlockingIOError):
            os.read(ours, 1 << 16)  # a full terminal would hold it up
        return snapshots.iteration(stage / "snapshots") > 10

    wait_for(trained)
    os.close(ours)
    assert process.wait() == 128 + signal.SIGHUP
    stopped = snapshots.iteration(stage / "snapshots")
    assert f"resumed at iteration {stopped} of" in finish(begin_stage(fashion, tmp_path))
    same_result(stage, uninterrupted)


def test_under_nohup_a_closed_terminal_changes_nothing(fashion, uninterrupted, tmp_path):
    stage = stage_to_stop(tmp_path)
    process = begin_stage(fashion, tmp_path, before=["nohup"])
    wait_for(lambda: snapshots.iteration(stage / "snapshots") > 10)
    for pid in (process.pid, *map(int, children_of(process))):
        os.kill(pid, signal.SIGHUP)
    finish(process)
    assert record(stage)["sessions"] == 1
    same_result(stage, uninterrupted)


def test_a_signal_between_two_stages_ends_the_command_too(fashion, tmp_path):
    """The first stage ends as the signal comes: the second must not begin."""
    where = ["--data", fashion, "--runs", tmp_path, "--scale", SCALE]
    process = subprocess.Popen(
        [sys.executable, ROOT / RUN, "--experiment", EXPERIMENT, *map(str, where), "--stage", "kd", "--set", "batch=8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = group(tmp_path) / "r14w4-teacher+batch=8"
    wait_for(lambda: (first / "final.caffemodel").exists())  # its record is still to be written
    process.send_signal(signal.SIGTERM)
    process.communicate()
    # Just between two processes it has no child to pass the signal on to, and ends at once: as good.
    assert process.returncode == 128 + signal.SIGTERM
    assert not (group(tmp_path) / "r14w4-r8w4-layerwise-hint2+batch=8").exists()


def test_two_drivers_on_one_folder(fashion, tmp_path):
    stage = stage_to_stop(tmp_path)
    first = begin_stage(fashion, tmp_path)
    wait_for(lambda: snapshots.iteration(stage / "snapshots") > 0)
    first.send_signal(signal.SIGSTOP)  # it holds the lock for as long as we look
    children = children_of(first)
    for child in children:
        os.kill(int(child), signal.SIGSTOP)
    try:
        second = begin_stage(fashion, tmp_path)
        _, said = second.communicate()
        status = command(RUN, "--status", "--runs", tmp_path, check=0).stdout
    finally:
        for pid in (first.pid, *map(int, children)):
            os.kill(pid, signal.SIGCONT)
    assert second.returncode == 2 and said.startswith("error: ") and len(said.splitlines()) == 1
    assert "is being trained by process" in said and "training, " in status and "snapshot at" in status
    assert first.wait() == 0


def test_a_second_driver_can_wait_for_the_first(fashion, uninterrupted, tmp_path):
    stage = stage_to_stop(tmp_path)
    first = begin_stage(fashion, tmp_path)
    wait_for(lambda: snapshots.iteration(stage / "snapshots") > 0)
    children = children_of(first)
    for pid in (first.pid, *map(int, children)):
        os.kill(pid, signal.SIGSTOP)  # it holds the lock for as long as we look
    second = subprocess.Popen([*first.args, "--wait"], stdout=subprocess.PIPE, text=True)
    said = next(line for line in second.stdout if "is being trained by process" in line)
    assert said.rstrip().endswith("waiting") and second.poll() is None
    for pid in (first.pid, *map(int, children)):
        os.kill(pid, signal.SIGCONT)
    assert first.wait() == 0
    second.communicate()
    assert second.returncode == 0
    assert record(stage)["sessions"] == 1  # the second had nothing left to train
    same_result(stage, uninterrupted)


def test_a_signal_to_the_whole_group_loses_nothing(fashion, tmp_path):
    """Slurm's scancel signals the driver and the training process at once, and the driver passes its own on."""
    stage = stage_to_stop(tmp_path)
    process = begin_stage(fashion, tmp_path)
    wait_for(lambda: snapshots.iteration(stage / "snapshots") > 10)
    (child,) = children_of(process)
    os.kill(int(child), signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    stopped = int(said.split("stopped at iteration ")[1].split(":")[0].replace(",", ""))
    assert snapshots.iteration(stage / "snapshots") == stopped


def test_a_dead_driver_takes_its_training_process_along(fashion, tmp_path):
    stage = stage_to_stop(tmp_path)
    process = begin_stage(fashion, tmp_path)
    wait_for(lambda: snapshots.iteration(stage / "snapshots") > 0)
    (child,) = children_of(process)
    process.kill()
    process.wait()
    wait_for(
        lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2], 5
    )


def stopped_run(fashion, runs):
    """A run with two snapshots, then SIGKILL."""
    stage = stage_to_stop(runs)
    process = begin_stage(fashion, runs)
    wait_for(lambda: len(list(stage.glob("snapshots/iter_*"))) == 2)
    process.kill()
    process.wait()
    time.sleep(0.3)  # the training process dies just after its driver
    return stage, sorted(stage.glob("snapshots/iter_*"))


@pytest.mark.parametrize("damage", ["weights", "state", "note", "foreign"])
def test_a_torn_or_foreign_snapshot_is_skipped_for_the_one_before(fashion, uninterrupted, tmp_path, damage):
    stage, (older, newest) = stopped_run(fashion, tmp_path)
    if damage in ("weights", "state"):
        path = newest / (snapshots.WEIGHTS if damage == "weights" else snapshots.STATE)
        path.write_bytes(path.read_bytes()[:-100])
    else:
        note = json.loads((newest / snapshots.NOTE).read_text())
        note["digest"] = "0" * 64
        (newest / snapshots.NOTE).write_text("{torn" if damage == "note" else json.dumps(note))
    said = finish(begin_stage(fashion, tmp_path))
    assert f"{newest.name} is {'of other settings' if damage == 'foreign' else 'torn'}" in said
    assert f"resumed at iteration {int(older.name[5:])} of" in said
    same_result(stage, uninterrupted)


def test_with_no_good_snapshot_it_starts_again(fashion, uninterrupted, tmp_path):
    stage, found = stopped_run(fashion, tmp_path)
    for folder in found:
        (folder / snapshots.NOTE).unlink()
    said = finish(begin_stage(fashion, tmp_path))
    assert "resumed" not in said
    same_result(stage, uninterrupted)


@pytest.mark.parametrize("moved", [False, True], ids=["new", "moved with snapshots"])
@pytest.mark.parametrize("name", ["net.prototxt", "init.caffemodel"])
def test_what_is_left_where_preparing_was_cut_short_is_ours(fashion, uninterrupted, tmp_path, moved, name):
    """A folder in the way of a file's partial name ends it between two of them, as a kill would."""
    runs = tmp_path / "runs"
    if moved:  # other paths in its prototxt: it is prepared anew
        stopped_run(fashion, tmp_path / "before")
        (tmp_path / "before").rename(runs)
    stage = stage_to_stop(runs)
    in_the_way = stage / f".{name}.partial"
    in_the_way.mkdir(parents=True)
    _, errors = begin_stage(fashion, runs).communicate()
    assert f"{in_the_way.name}: Is a directory" in errors and len(errors.splitlines()) == 1, errors
    assert json.loads((stage / "stage.json").read_text())["files"] == {}
    in_the_way.rmdir()
    assert ("resumed at" in finish(begin_stage(fashion, runs))) == moved
    same_result(stage, uninterrupted)
