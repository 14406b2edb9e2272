"""A run seen while it runs: the table of --status --watch, curves for TensorBoard, and a report of a folder that is being written."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ROOT, RUN, SCALE, command, one_line, run_stage
from drivers import (
    begin,
    begin_stage,
    children_of,
    finish,
    log,
    snapshots_in,
    stage_to_stop,
    wait_for,
    wait_for_a_snapshot,
)
from hkd.base.files import sha256

LOG_TO = ("--log-to", "tensorboard")


def points(stage):
    """{curve: [(iteration, value)]} as TensorBoard reads the event files of a stage."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(stage), size_guidance={"scalars": 0})
    read.Reload()
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]}


def expected(stage):
    """The same from log.jsonl."""
    found = {}
    for line in log(stage):
        for name, value in line.items():
            if name != "iteration":
                test = name == "Pc" or name.startswith("test_")
                curve = f"test/{name.removeprefix('test_')}" if test else f"train/{name}"
                found.setdefault(curve, []).append((line["iteration"], pytest.approx(value, rel=1e-6)))
    return found


def logged(stage):
    """How many lines the log has that is being written."""
    path = stage / "log.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


class TestCurves:
    def test_they_are_those_of_the_log_and_change_no_byte(self, fashion, tmp_path):
        for runs, more in ((tmp_path / "with", LOG_TO), (tmp_path / "without", ())):
            finish(begin_stage(fashion, runs, more=more))
        stage, plain = stage_to_stop(tmp_path / "with"), stage_to_stop(tmp_path / "without")
        assert points(stage) == expected(stage) and {"train/loss", "test/Pc", "test/loss", "train/lr"} <= set(
            points(stage)
        )
        for name in ("final.caffemodel", "log.jsonl"):
            assert sha256(stage / name) == sha256(plain / name)
        assert not list(plain.glob("events.*"))

    def test_a_killed_run_goes_on_without_a_point_twice(self, fashion, tmp_path):
        stage = stage_to_stop(tmp_path)
        for _ in range(2):
            process = begin_stage(fashion, tmp_path, more=LOG_TO)
            wait_for_a_snapshot(process, stage)
            # Some more iterations, whose points are written and will be again.
            before = logged(stage)
            wait_for(lambda before=before, process=process: logged(stage) > before or process.poll() is not None)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.3)  # the training process dies just after its driver
        finish(begin_stage(fashion, tmp_path, more=LOG_TO))
        assert points(stage) == expected(stage)
        assert len(list(stage.glob("events.*"))) == 1

    def test_without_the_package_it_is_one_line(self, fashion, tmp_path):
        (tmp_path / "nothing").mkdir()
        script = (
            "import runpy, sys; sys.modules['tensorboardX'] = None; sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        words = ("--stage", "baseline", "--data", fashion, "--runs", tmp_path, *LOG_TO)
        done = subprocess.run(
            [sys.executable, "-c", script, str(ROOT / RUN), *map(str, words)], capture_output=True, text=True
        )
        one_line(done, "--log-to tensorboard needs tensorboardX", "pip install '.[tensorboard]'")

    def test_another_kind_is_one_line(self):
        one_line(command(RUN, "--log-to", "wandb", "--dry-run"), "--log-to", "wandb")


class TestWatch:
    def test_a_terminal_shows_a_run_as_it_goes_on_until_ctrl_c(self, fashion, tmp_path):
        training = begin_stage(fashion, tmp_path)
        ours, theirs = pty.openpty()
        watching = begin(RUN, "--status", "--watch", "--runs", tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = ""

        def reads(words):
            nonlocal shown
            if select.select([ours], [], [], 0)[0]:
                shown += os.read(ours, 1 << 16).decode(errors="replace")
            return words in shown

        # The table is drawn every two seconds, and a fast machine may need less for the whole run: it waits until it was seen.
        wait_for_a_snapshot(training, stage_to_stop(tmp_path))
        trained_by = [int(pid) for pid in children_of(training)]
        for pid in trained_by:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: reads("training"))
        for pid in trained_by:
            os.kill(pid, signal.SIGCONT)
        finish(training)
        wait_for(lambda: reads("finished"))
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0 and "Traceback" not in shown
        os.close(ours)

    def test_where_there_is_no_terminal_it_prints_what_has_changed(self, fashion, tmp_path):
        run_stage(fashion, tmp_path, "--stage", "baseline", "--prepare", check=0)
        watching = begin(RUN, "--status", "--watch", "--runs", tmp_path)
        assert "prepared" in watching.stdout.readline() + watching.stdout.readline()
        run_stage(fashion, tmp_path, "--stage", "baseline", check=0)
        said = ""
        while "finished" not in said:
            said += watching.stdout.readline()
        watching.send_signal(signal.SIGTERM)
        _, errors = watching.communicate()
        assert watching.returncode == 0 and not errors

    def test_an_empty_folder_is_watched_too(self, tmp_path):
        watching = begin(RUN, "--status", "--watch", "--runs", tmp_path / "none")
        assert watching.stdout.readline() == f"no stage in {tmp_path / 'none'} yet\n"
        watching.send_signal(signal.SIGINT)
        assert watching.communicate()[1] == "" and watching.returncode == 0

    def test_it_says_what_is_wrong_with_a_stage(self, tmp_path):
        stage = tmp_path / "cifar10/full-seed1/r14-teacher"
        stage.mkdir(parents=True)
        (stage / "stage.json").write_text("{")
        watching = begin(RUN, "--status", "--watch", "--runs", tmp_path)
        said = [watching.stdout.readline() for _ in range(3)]
        assert "damaged" in said[1] and said[2].startswith(f"note: {stage / 'stage.json'}")
        watching.send_signal(signal.SIGINT)
        assert watching.communicate()[1] == "" and watching.returncode == 0

    def test_it_is_of_status(self):
        one_line(command(RUN, "--watch"), "--watch is of --status")


def test_a_report_of_a_folder_that_is_being_written(chain, fashion, tmp_path):
    """The report is made again and again while a stage begins, trains, is tested and finishes."""
    runs = shutil.copytree(chain[0].parents[1], tmp_path / "runs")
    process = begin_stage(fashion, runs, scale=SCALE, more=("--snapshot-seconds", "0"))
    ended = False
    while not ended:
        ended = process.poll() is not None
        done = command("python/make_tables.py", "report", "--runs", runs, "--out", tmp_path / "out", check=0)
        assert "Traceback" not in done.stderr
    finish(process)
    page = (tmp_path / "out/report.html").read_text()
    assert "r8-baseline-net1" in page and not snapshots_in(stage_to_stop(runs, SCALE))
