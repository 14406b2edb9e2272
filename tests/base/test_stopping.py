"""Signals at moments at which there is nothing to save: one line and the exit code, never a traceback."""

import os
import signal
import time
from pathlib import Path

import pytest

from conftest import RUN
from drivers import LONG, begin, begin_stage, children_of
from hkd.base import signals

COMMANDS = {
    RUN: ["--dry-run"],
    "python/make_tables.py": ["--cost"],
    "python/make_prototxt.py": ["--check"],
    "python/compare_torch.py": ["--data", "/nonexistent"],
    "data_tools/make_lmdb.py": ["--dataset", "cifar10", "--source", "/nonexistent"],
}


def begun(script, *arguments, **options):
    """The process of a command, once it answers signals: before, Python itself is starting. On a busy machine a short command may have
    ended before it was looked at: it is begun again."""
    for _ in range(10):
        process = begin(script, *arguments, **options)
        while process.poll() is None:
            if answers(process, signal.SIGTERM):
                return process
            time.sleep(0.001)
        process.communicate()
    raise AssertionError(f"{script} always ends at once")


def answers(process, number):
    caught = next(
        line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("SigCgt:")
    )
    return int(caught.split()[1], 16) >> (number - 1) & 1


@pytest.mark.parametrize("script", COMMANDS)
@pytest.mark.parametrize("number", signals.STOP)
def test_while_its_modules_are_imported(script, number):
    """At once, and a little later: whichever module is being imported then, and whatever follows."""
    for delay in (0, 0.2, 0.6):
        process = begun(script, *COMMANDS[script])
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate()
        assert "Traceback" not in errors
        assert delay or (process.returncode == 128 + number and errors == "error: interrupted\n"), errors


def test_nohup_is_heeded_then_too():
    process = begun(RUN, "--list", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    said, errors = process.communicate()
    assert process.returncode == 0 and LONG in said and not errors


@pytest.mark.parametrize("number", signals.STOP)
def test_while_the_training_process_is_starting(fashion, tmp_path, number):
    for delay in (0, 0.05, 0.3, 1):
        process = begin_stage(fashion, tmp_path / str(delay))
        while not children_of(process):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == 128 + number
        assert errors in ("", "error: interrupted\n")


def test_the_processes_of_a_stage_agree_on_what_ended_them(fashion, tmp_path):
    """Killed for memory before it has a snapshot: the line does not promise one."""
    process = begin_stage(fashion, tmp_path)
    while not (children := children_of(process)):
        time.sleep(0.01)
    os.kill(int(children[0]), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGKILL
    assert errors.startswith("error: training was ended by SIGKILL (out of memory?): the same command begins anew")
