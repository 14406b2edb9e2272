"""How long an iteration of a stage takes on this machine: a few seconds for each kind of network, on images of chance, so that
no data set is needed. Measured in as many processes at once as jobs are to run side by side."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hkd.base.cli import ROOT, UserError
from hkd.base.python import module
from hkd.engines import choice
from hkd.engines.devices import Device
from hkd.networks import prototxt, solvers
from hkd.paper import experiments
from hkd.results import cost
from hkd.stages.stage import Stage, planned

WARM, SECONDS = 2, 2.0  # iterations before the clock runs; then at least this long, and three iterations


def of(stages, engine, precision, jobs, say):
    """{stage: seconds an iteration} of one of `jobs` jobs of one thread. say: is told of each kind before it is measured.

    hint-dynamic KD is taken as KD of the same pair, in the proportion of the multiply-adds.
    """
    found, kinds = {}, {}
    for stage in stages:
        like = planned(stage.experiment, "kd", "kd") if stage.declared.beside else stage
        kinds.setdefault(_kind(like), []).append((stage, like))
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(engine, precision)) for _ in range(jobs)]
        for number, same in enumerate(kinds.values(), 1):
            like = same[0][1]
            say(f"measuring {number} of {len(kinds)}: {like.experiment.name} {like.stem}")
            for worker in workers:
                worker.ask(like)
            seconds = statistics.mean([worker.answer() for worker in workers])
            for stage, _ in same:
                found[stage] = seconds * cost.of_iteration(stage) / cost.of_iteration(like)
    return found


def _kind(stage):
    """Stages of one kind compute the same: only numbers differ."""
    e, part = stage.experiment, stage.part
    teacher = (e.teacher, stage.teacher_end) if stage.declared.taught else None
    images = (e.facts.channels, e.facts.size, e.facts.classes, e.batch)
    return (images, stage.kind, stage.learner, stage.learner_end, teacher, part.pairs, part.flows)


class Worker:
    """A process of one thread that measures one stage after another. A context manager."""

    def __init__(self, engine, precision):
        environment = choice.environment(engine, 1) | {"PYTHONPATH": str(ROOT / "python"), "GLOG_minloglevel": "2"}
        self.process = subprocess.Popen(
            [*module("hkd.results.speed"), engine, precision], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, stage):
        self.stage = stage
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `answer` says
            self.process.stdin.write(json.dumps([stage.experiment.name, stage.method, stage.part_index]) + "\n")
            self.process.stdin.flush()

    def answer(self):
        """Seconds an iteration of the stage that was asked for. Raises UserError where it cannot be trained."""
        said = self.process.stdout.readline()
        if not said:
            _, errors = self.process.communicate()
            last = (errors.strip().splitlines() or ["no word"])[-1]
            raise UserError(f"{self.stage.stem} cannot be measured: {last}")
        return float(said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def main():
    """The side of a process that measures: a stage a line in, seconds an iteration out."""
    engine, precision = sys.argv[1:]
    for line in sys.stdin:
        name, method, part_index = json.loads(line)
        stage = Stage(experiments.experiment(name), method, part_index, 0, 1.0, 1)
        print(_seconds(stage, engine, precision), flush=True)


def _seconds(stage, engine, precision):
    with tempfile.TemporaryDirectory() as folder:
        solver = _solver(stage, Path(folder), engine, precision)
        images = np.random.default_rng(1).normal(scale=50, size=solver.net.blobs["data"].data.shape)
        solver.net.blobs["data"].data[...] = images
        for _ in range(WARM):
            solver.step(1)
        times, begin = [], time.perf_counter()
        while len(times) < 3 or time.perf_counter() - begin < SECONDS:
            once = time.perf_counter()
            solver.step(1)
            times.append(time.perf_counter() - once)
    return statistics.median(times)


def _solver(stage, folder, engine, precision):
    """The stage's solver with a batch of its own in place of the LMDBs."""
    facts = stage.experiment.facts
    net, path = folder / "net.prototxt", folder / "solver.prototxt"
    net.write_text(prototxt.text(prototxt.with_inputs(stage.network("DATA", facts.test_images), facts), []))
    parameter = stage.solver(str(net), str(folder / "none"), facts.test_images)
    parameter.display = parameter.snapshot = 0
    parameter.test_interval = 2**31 - 1
    path.write_text(solvers.text(parameter, []))
    return choice.get_solver(engine, path, Device((), 1, ""), precision)


if __name__ == "__main__":
    main()
