"""Commands that tests start, watch and stop: real processes and real signals; and what a stage's folder then holds."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from conftest import ROOT, RUN, group
from hkd.base import signals
from hkd.stages import surgery

CHAIN = ["r14w4-teacher", *(f"r14w4-r8w4-layerwise-hint{i}" for i in (1, 2, 3)), "r14w4-r8w4-layerwise-kd-net1"]
"""The stages of conftest.chain."""

LONG = "fashion-mnist-r14-r8"  # at the papers' width, whose iterations take some time
KILL_SCALE = 0.004  # 144 iterations: long enough to be stopped in
KILL = ("--stage", "baseline", "--set", "batch=8", "--snapshot-seconds", "0.2")


def as_from_a_terminal():
    """These tests may have been started by nohup, or with & in a script."""
    for number in signals.STOP:
        signal.signal(number, signal.SIG_DFL)


def begin(script, *arguments, before=(), **options):
    """The process of a command, started as from a terminal; by the command `before` where there is one."""
    return subprocess.Popen(
        [*before, sys.executable, str(ROOT / script), *map(str, arguments)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": as_from_a_terminal} | options,
        text=True,
    )


def begin_stage(data, runs, scale=KILL_SCALE, more=(), **options):
    """The process of a stage that is long enough to be stopped in; see stage_to_stop."""
    where = ("--data", data, "--runs", runs, "--scale", scale)
    return begin(RUN, "--experiment", LONG, *where, *KILL, *more, **options)


def stage_to_stop(runs, scale=KILL_SCALE):
    """The folder of the stage that begin_stage trains."""
    return group(runs, scale) / "r8-baseline-net1+batch=8"


def finish(process):
    """Waits for a command that must end well; returns what it printed."""
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    return said


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def snapshots_in(stage):
    """The names of a stage's snapshots, in order. Its training process makes and deletes them while a test looks: a folder that
    is named may be gone, and what is in it is not looked at."""
    try:
        return sorted(path.name for path in (stage / "snapshots").iterdir() if path.name.startswith("iter_"))
    except FileNotFoundError:
        return []


def wait_for_a_snapshot(process, stage, seconds=120):
    """Returns when the stage has a snapshot that it did not have before, or its command has ended."""
    before = set(snapshots_in(stage))
    wait_for(lambda: set(snapshots_in(stage)) - before or process.poll() is not None, seconds)


def children_of(process):
    """The processes that a driver's only thread started, as /proc has them: pgrep is not on every machine."""
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def record(stage):
    return json.loads((stage / "record.json").read_text())


def log(stage):
    return [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()]


def blobs(path):
    """{layer: [array of each blob]} of a caffemodel."""
    return {x.name: [np.array(b.data, np.float32) for b in x.blobs] for x in surgery.read(path).layer if x.blobs}
