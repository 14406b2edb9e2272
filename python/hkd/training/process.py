"""The process of a stage: started, told to stop, and what is said when it ended of itself."""

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from hkd.base import signals
from hkd.base.cli import PACKAGE_FOLDER, fail
from hkd.base.files import shown
from hkd.base.python import GROUP_OF_ITS_OWN, module
from hkd.engines import choice, parallel
from hkd.stages import snapshots
from hkd.training.job import How, Job

FATAL = re.compile(r"^F\S* \S+ +\d+ (\S+:\d+)\] (.*)$")


def spawn(stage, options, data_folder, made_from, prepare_only=False):
    """Trains one stage, whose digest is `made_from`, in a process of its own, on several GPUs in one for each, and returns its exit code,
    having said in one line what went wrong."""
    jobs = _jobs(stage, options, data_folder, made_from, prepare_only)
    children = [_started(module("hkd.training.job"), options) for _ in jobs]
    rank, code, asked = _waited_for(children, jobs)
    if asked and code in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
        if code == 0:
            print(f"stopped after {stage.name}: the same command goes on from there", flush=True)
        elif code < 0:  # it had not yet begun
            fail("interrupted")
        return 128 + asked
    if code < 0:
        log = stage.folder(options.runs) / parallel.log_name(rank)
        return fail(last_words(log, children[rank].pid, -code), code=128 - code)
    return code


def _jobs(stage, options, data_folder, made_from, prepare_only):
    """The Job of each process: one, or one a GPU."""
    how = How(
        runs=str(Path(options.runs).absolute()),
        data=str(Path(data_folder).absolute()),
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        snapshot_seconds=options.snapshot_seconds,
        verbose=options.verbose,
        memo=options.memo,
        wait=options.wait,
        prepare_only=prepare_only,
        log_to=options.log_to,
    )
    job = Job(stage, how, os.getpid(), made_from, given=options.given if stage.given else None)
    gpus = options.device.gpus
    if len(gpus) < 2 or stage.given:  # a test is the first one's
        return [job]
    place = parallel.meeting_place(stage.folder(options.runs))
    return [replace(job, rank=rank, meeting=place) for rank in range(1 if prepare_only else len(gpus))]


def _started(words, options):
    """The process of these words, which is still to be told its job."""
    # -P and PYTHONSAFEPATH: this process and what it starts import nothing from the folder that a user happens to be in.
    path = {"PYTHONPATH": str(PACKAGE_FOLDER), "PYTHONSAFEPATH": "1"}
    # A process group of its own: a terminal's Ctrl-C and its end then come to this process alone, as `kill` and `docker
    # stop` do, and are passed on once; the child takes a second signal as an order to leave at once.
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        text=True,
        env=choice.environment(options.engine, options.device.threads) | path,
        **GROUP_OF_ITS_OWN,
    )


def _waited_for(children, jobs):
    """(rank of the process that decides, its exit code, the first signal that was passed on or 0). Tells each process its job."""
    asked = []

    def pass_on(number):
        asked.append(number)
        # Always this one: a Python that is only starting answers SIGINT with a traceback.
        children[0].send_signal(signal.SIGTERM)

    previous = signals.handle(pass_on)
    try:
        for job, child in zip(jobs, children, strict=True):
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and its exit code says why
                child.stdin.write(job.as_json())
                child.stdin.close()
        rank, code = parallel.supervise(children)
    finally:
        signals.restore(previous)
        if jobs[0].meeting:
            Path(jobs[0].meeting).unlink(missing_ok=True)
    return rank, code, asked[0] if asked else 0


def last_words(log, process, number):
    """One line for a process (its id) that a signal ended: Caffe's last fatal line where there is one."""
    fatal = None
    if log.exists():
        _, began, this_session = log.read_text(errors="replace").rpartition(f" process {process}\n")
        for line in this_session.splitlines() if began else ():
            fatal = FATAL.match(line) or fatal
    at = snapshots.iteration(log.parent / "snapshots")
    kept = f"the snapshot at iteration {at:,} is kept" if at else "no snapshot was made before"
    if fatal is not None:
        return f"Caffe stopped: {fatal.group(2).strip()} ({fatal.group(1)}): {kept}; log: {shown(log)}"
    said = f"training was ended by {signal.Signals(number).name}"
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        kept = f"the same command goes on from iteration {at:,}" if at else "the same command begins anew"
        said += " (out of memory?)" if number == signal.SIGKILL else ""
    return f"{said}: {kept}; log: {shown(log)}"
