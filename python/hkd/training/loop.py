"""The loop of one stage: iterations, log, tests, snapshots, and the record at the end.

Resuming is exact. Given its random_seed Caffe draws the same fillers and seeds the same crops; weights, momentum and
iteration come from the snapshot; and the data layer alone is run forward over the iterations that were done, which
brings its cursor and its random numbers to where they were. So a run may stop after any iteration, and where it stopped
does not show in the result.
"""

import json
import math
import os
import shutil
import time

from hkd.base import signals
from hkd.base.cli import UserError
from hkd.base.files import naming, shown, write_whole
from hkd.base.progress import Progress
from hkd.engines import choice, devices, parallel
from hkd.networks import solvers
from hkd.paper import stated
from hkd.stages import answers, finals, records
from hkd.stages.snapshots import STATE, WEIGHTS, Snapshots
from hkd.training import curves
from hkd.training.beside import session
from hkd.training.record import record_of
from hkd.training.solver import build_solver, skip_data


class Stopped(Exception):
    """A signal of signals.STOP came; the snapshot is written. Carries its number."""


class StopSignal:
    """Remembers the first signal of signals.STOP until the loop asks; another one, later than TOGETHER, ends the process at once."""

    TOGETHER = 3  # seconds: Slurm signals the driver and this process both, and the driver passes its own on

    def __init__(self):
        self.number, self.since = None, 0.0
        signals.handle(self._note)

    def _note(self, number):
        if self.number is None:
            self.number, self.since = number, time.monotonic()
        elif time.monotonic() - self.since > self.TOGETHER:
            os._exit(128 + number)


class Training:
    """The loop over iterations: steps, log, tests, snapshots, and the record at the end."""

    def __init__(self, stage, folder, job, manifest, digest, parents, stop, origin=None):
        self.stage, self.folder, self.job, self.manifest, self.stop = stage, folder, job, manifest, stop
        self.digest, self.parents, self.origin = digest, parents, origin
        self.snapshots = Snapshots(folder / "snapshots", digest)
        self.parameter = solvers.parse((folder / "solver.prototxt").read_text())
        self.log_path = folder / records.LOG
        self.sums, self.count = {}, 0  # losses since the last line of the log
        self.seconds, self.sessions = 0.0, 1
        self.engine = choice.label(job.how.engine, job.how.precision, len(job.how.device.gpus))
        self.engines, self.hardware = [], []  # of earlier sessions
        self.answered_before = (0, 0)  # in earlier sessions, as Solver.answered
        self.answers = answers.Answers()  # of the last test
        self.curves = curves.of(job.how.log_to, folder)

    def run(self):
        started = time.monotonic()
        self.build()
        snapshot = self.resume()
        self.curves.begin(records.read_log(self.folder) if self.log_path.exists() else [])
        if self.job.meeting:
            parallel.lead(self.solver, self.job.meeting, snapshot)
        self.before = self.seconds - (time.monotonic() - started)  # what earlier sessions took
        self.clock = lambda: self.before + time.monotonic() - started
        last_snapshot = time.monotonic()
        with Progress(self.stage.name, self.stage.iterations, self.solver.iter) as self.progress:
            self.test_if_due()
            while self.solver.iter < self.stage.iterations:
                if self.stop.number:
                    self._leave()
                self.step()
                self.log_if_due()
                self.test_if_due()
                if time.monotonic() - last_snapshot >= self.job.how.snapshot_seconds:
                    self.snapshot()
                    last_snapshot = time.monotonic()
            if self.stop.number:
                self._leave()
            self._finish()

    # --- before the first iteration ---------------------------------------------------------------------------------

    def build(self):
        """Solver, losses, and what trains beside it, as in the first iteration."""
        self.solver = build_solver(self.folder, self.job)
        self.weights = dict(zip(self.solver.net._blob_names, self.solver.net._blob_loss_weights, strict=True))
        self.losses = [name for name, weight in self.weights.items() if weight]
        teacher = self.stage.parents.get("teacher")
        if self.job.how.engine == "torch" and self.job.how.memo and teacher:
            say = lambda line: print(f"  {line}", flush=True)  # noqa: E731
            self.solver.keep_answers(teacher.folder(self.job.how.runs), self.manifest.pixels, say)
        train, folder = self.solver.net, self.snapshots.folder
        self.beside = session(self.stage, train, folder, self.manifest, self.job.how.engine)

    def resume(self):
        """Goes on from the newest snapshot, and returns it: None at the beginning."""
        found = self.snapshots.newest(lambda line: print(f"  {line}", flush=True), self.beside.names)
        self.tested = None
        if found is None:
            self.log_path.unlink(missing_ok=True)
            self.beside.begin()
            return None
        snapshot, note = found
        self.snapshots.restore(snapshot, self.solver)
        done = note["iteration"]
        self.sums, self.count = note["sums"], note["count"]
        self.seconds, self.sessions = note["seconds"], note["sessions"] + 1
        self.engines, self.hardware = note.get("engines", ["caffe"]), note.get("hardware", [])
        self.answered_before = note.get("answered", (0, 0))
        kept = [line for line in records.read_log(self.folder) if line["iteration"] <= done]
        if done == self.stage.iterations:  # the last test is made again, for its answers
            kept = [line for line in kept if "test_loss" not in line or line["iteration"] < done]
        write_whole(self.log_path, "".join(json.dumps(line) + "\n" for line in kept))
        self.tested = max((line["iteration"] for line in kept if "test_loss" in line), default=None)
        print(f"  resumed at iteration {done:,} of {self.stage.iterations:,}", flush=True)
        self.beside.resume(snapshot, done)
        skip_data(self.solver, self._leave_untrained, self.beside.last_data_layer)
        return snapshot

    def _leave_untrained(self):
        if self.stop.number:
            print("  stopped: nothing was trained since that snapshot", flush=True)
            raise Stopped(self.stop.number)

    # --- each iteration -----------------------------------------------------------------------------------------------

    def step(self):
        """One iteration. Raises UserError where a loss is not finite."""
        self.solver.step(1)
        values = {name: float(self.solver.net.blobs[name].data) for name in self.losses}
        self._check_finite(values)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.beside.after_iteration(self.solver.iter, self._lr())
        self.progress.advance(self._total(values))

    def _check_finite(self, losses):
        for name, value in losses.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{shown(self.folder)}: loss {name} is {value} at iteration {self.solver.iter} (learning rate {self._lr():g}): "
                    f"{self.snapshots.advice()}; try a smaller learning rate with --set"
                )

    def log_if_due(self):
        done = self.solver.iter
        if done % self.parameter.display and done != self.stage.iterations:
            return
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        parts = means if len(means) > 1 else {}
        parts |= self.beside.log()
        self._log({"iteration": done, "lr": self._lr(), "loss": self._total(means), **parts})

    def test_if_due(self):
        done = self.solver.iter
        due = done == self.stage.iterations or (done and done % self.parameter.test_interval == 0)
        if not due or self.tested == done:
            return
        result = self.test()
        if result is None:
            self._leave()
        self._log({"iteration": done, **result})
        self.tested = done
        self.progress.tested(done, result)

    def test(self):
        """{test_loss, each loss, Pc} over the whole test set, each image once; None when a signal came meanwhile."""
        net = self.solver.test_nets[0]
        net.share_with(self.solver.net)
        names = [name for name in (*self.losses, "accuracy") if name in net.blobs]
        sums = dict.fromkeys(names, 0.0)
        self.answers = answers.Answers()
        for _ in range(self.parameter.test_iter[0]):
            if self.stop.number:
                return None
            net.forward()
            for name in names:
                sums[name] += float(net.blobs[name].data)
            if "accuracy" in names:
                self.answers.add(net)
        means = {name: total / self.parameter.test_iter[0] for name, total in sums.items()}
        result = {"test_loss": self._total(means)}
        if len(self.losses) > 1:
            result |= {f"test_{name}": means[name] for name in self.losses}
        self._check_finite({f"test_{name}": means[name] for name in self.losses})
        if "accuracy" in means:
            # Batches are of one size, so that their mean is a count over the whole set.
            images = self.manifest.test_images
            result["Pc"] = 100 * round(means["accuracy"] * images) / images
        return result

    def _total(self, values):
        return sum(self.weights[name] * values[name] for name in self.losses)

    def _lr(self):
        """The learning rate of the iteration just done (sgd_solver.cpp, GetLearningRate)."""
        steps = sum(step <= self.solver.iter - 1 for step in self.parameter.stepvalue)
        return round(self.stage.schedule.base_lr * stated.GAMMA**steps, 12)

    def _log(self, line):
        with naming(self.log_path), self.log_path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        self.curves.add(line)

    # --- leaving ------------------------------------------------------------------------------------------------------

    def snapshot(self):
        self.snapshots.save(
            self.solver,
            {
                "sums": self.sums,
                "count": self.count,
                "seconds": self.clock(),
                "sessions": self.sessions,
                "engines": self.all_engines(),
                "hardware": self.all_hardware(),
                "answered": self.answered(),
            },
            self.beside.files(),
        )

    def all_engines(self):
        """The engines that trained it, in the order of their first sessions."""
        return list(dict.fromkeys([*self.engines, self.engine]))

    def all_hardware(self):
        """The processors that trained it, in the same order."""
        return list(dict.fromkeys([*self.hardware, devices.hardware(self.job.how.device)]))

    def answered(self):
        """(images that a teacher whose answers may be kept was asked for, those of them whose answer was kept)."""
        now = self.solver.answered if self.job.how.engine == "torch" else (0, 0)
        return [sum(pair) for pair in zip(self.answered_before, now, strict=True)]

    def _leave(self):
        if self.solver.iter:
            self.snapshot()
            self.progress.say(f"stopped at iteration {self.solver.iter:,}: the same command goes on from there")
        else:
            self.progress.say("stopped before the first iteration: the same command begins anew")
        self.curves.end()
        raise Stopped(self.stop.number)

    def _finish(self):
        """final.caffemodel and final.solverstate, then the record, then the snapshots go."""
        if self.stage.given:
            write_whole(self.folder / records.FINAL, (self.folder / "init.caffemodel").read_bytes())
        else:
            self._keep_last()
        asked, kept = self.answered()
        if asked:
            self.progress.say(f"teacher: {kept / asked:.1%} of {asked:,} answers were kept ones")
        self.answers.write(self.folder)
        self.curves.end()
        records.write_record(self.folder, record_of(self))
        shutil.rmtree(self.snapshots.folder)

    def _keep_last(self):
        self.snapshot()
        snapshot, _ = self.snapshots.newest(lambda line: None)
        weights = finals.weights((snapshot / WEIGHTS).read_bytes(), self.stage.experiment.dataset)
        write_whole(self.folder / records.FINAL, weights)
        write_whole(self.folder / records.FINAL_STATE, finals.state((snapshot / STATE).read_bytes()))
        for name in self.beside.kept:
            write_whole(self.folder / name, (snapshot / name).read_bytes())
