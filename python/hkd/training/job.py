"""One stage, in a process of its own: `python -m hkd.training.job`, with the job as JSON on standard input.

A process of its own, because a failed CHECK of Caffe aborts the process: the parent (driver.py) then still lives, and
turns Caffe's last words into one line. A stage is three files (net.prototxt, solver.prototxt, init.caffemodel) that a
stock `caffe train -solver ... -weights ...` trains too, to the same bytes on the same CPU.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from hkd.base import signals

if __name__ == "__main__":
    signals.end_at_once()  # while what follows is imported

from hkd.base.cli import ROOT, UserError, run
from hkd.base.files import naming, sha256, shown, write_whole
from hkd.base.locks import only_one
from hkd.engines import choice, devices, parallel
from hkd.paper import contents, datasets
from hkd.paper.changes import changed, restored
from hkd.stages import records, surgery
from hkd.stages.given.teacher import Given, take
from hkd.stages.snapshots import Snapshots
from hkd.stages.stage import Stage
from hkd.training.loop import Stopped, StopSignal, Training
from hkd.training.solver import build_solver, skip_data


@dataclass(frozen=True)
class How:
    """Where and how to train: folders whole, the device, and what the command line says of the display."""

    runs: str
    data: str
    device: devices.Device
    engine: str
    precision: str
    snapshot_seconds: float
    verbose: bool = False
    memo: bool = True  # whether a teacher's answers are kept, where they may be
    wait: bool = False
    prepare_only: bool = False
    log_to: str | None = None  # of curves.KINDS


@dataclass(frozen=True)
class Job:
    """What the parent asks for: a stage, and how to train it.

    parent: its process; digest: Stage.digest by its reckoning, where it has one; rank: of the processes of several GPUs, which
    find each other by the file `meeting`; given: the weights of a teacher from elsewhere.
    """

    stage: Stage
    how: How
    parent: int
    digest: str | None = None
    rank: int = 0
    meeting: str | None = None
    given: Given | None = None

    def as_json(self):
        experiment = self.stage.experiment
        stage = {**_fields(self.stage), "experiment": experiment.name, "settings": changed(experiment)}
        given = self.given and self.given.as_json()
        own = datasets.said(experiment.dataset, experiment.teacher_dataset)
        whole = {**_fields(self), "stage": stage, "how": asdict(self.how), "given": given, "data_sets": own}
        return json.dumps(whole)

    @classmethod
    def read(cls, text):
        given = json.loads(text)
        for facts in given.pop("data_sets"):  # the experiment is made of them
            datasets.declare(facts)
        stage, how = given.pop("stage"), given.pop("how")
        stage["experiment"] = restored(stage["experiment"], stage.pop("settings"))
        given["given"] = given["given"] and Given.from_json(given["given"])
        gpus, threads, why = how.pop("device").values()
        return cls(Stage(**stage), How(**how, device=devices.Device(tuple(gpus), threads, why)), **given)


def _fields(record):
    """{field: value} of a dataclass, its records left as they are."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def main():
    stop = StopSignal()
    asked = sys.stdin.read()
    if not asked:
        return 1  # the driver died before it said what to train
    job = Job.read(asked)
    _die_with(job.parent)
    os.chdir(ROOT)  # the paths in the stage's files are from here
    stage = job.stage
    folder = stage.folder(job.how.runs)
    if job.rank:
        return follow(stage, folder, job)
    folder.mkdir(parents=True, exist_ok=True)

    def wait():
        if stop.number:
            raise Stopped(stop.number)
        return job.how.wait

    try:
        with only_one(folder, wait):
            manifest = datasets.read_manifest(job.how.data, stage.experiment.facts)
            contents.verify(manifest, stage.experiment.facts)  # the record is to name what was read
            with _caffe_log(folder / "caffe.log", job.how.verbose):
                taken = _given(stage, job)
                digest, parents, finished = prepare(stage, folder, job, manifest, taken)
                if not (finished or job.how.prepare_only):
                    Training(stage, folder, job, manifest, digest, parents, stop, taken and taken.origin).run()
    except Stopped as error:
        return 128 + error.args[0]
    return 0


def follow(stage, folder, job):
    """The process of another GPU than the first: iterates with that one's, which tells it when to begin."""
    for number in signals.STOP:
        signal.signal(number, signal.SIG_IGN)  # the first process writes the snapshot; then the driver ends this one
    begin = parallel.wait_for(job.meeting)
    with _caffe_log(folder / parallel.log_name(job.rank), job.how.verbose):
        solver = build_solver(folder, job)
        if begin["snapshot"]:
            Snapshots(folder / "snapshots", None).restore(begin["snapshot"], solver)
        skip_data(solver)
        parallel.follow(solver, begin["uid"], stage.iterations)
    return 0


def _given(stage, job):
    """given.teacher.Taken of a teacher from elsewhere; None of a stage that is trained."""
    if not stage.given:
        return None
    taken = take(job.given, stage.experiment)
    if taken.settings["teacher_weights"] != stage.given:
        raise UserError(f"{shown(taken.path)} was changed while it was read: run the same command again")
    return taken


def prepare(stage, folder, job, manifest, taken=None):
    """Writes the stage's three files unless they are there and up to date. taken: given.teacher.Taken, of weights that are given.

    Returns its digest, the sha256 of its parents' weights by role, and whether it is finished already: another driver
    may have been quicker.
    """
    parents = {role: sha256(parent.folder(job.how.runs) / records.FINAL) for role, parent in stage.parents.items()}
    digest = stage.digest(manifest, parents)
    found = records.state(folder, digest)
    if found.status == "changed" or job.digest not in (None, digest):
        raise UserError(
            f"{shown(folder)}: another run_stage.py, with other settings or images, has changed it or what it starts from: use "
            f"another --runs folder, or run the same command again when the other has ended"
        )
    if found.status == "finished":
        return digest, parents, True
    files = stage.files(shown(folder), shown(job.how.data), manifest.test_images)
    if found.status == "begun" and all((folder / name).read_text() == text for name, text in files.items()):
        return digest, parents, False
    if taken:
        report = taken
        init = taken.init(stage.network(f"data/{stage.experiment.dataset}", manifest.test_images))
    else:
        sources, fresh = surgery.declared(stage, lambda parent: parent.folder(job.how.runs))
        network = stage.network("DATA", manifest.test_images)
        wanted = choice.parameter_shapes(job.how.engine, network, stage.experiment.facts)
        init, report = surgery.transplant(network, wanted, sources, fresh)
    records.prepare_note(folder, stage, digest, files=())
    for name, text in files.items():
        write_whole(folder / name, text)
    write_whole(folder / "init.caffemodel", init.SerializeToString(deterministic=True))
    write_whole(folder / "init.txt", "\n".join(report.lines()) + "\n")
    records.prepare_note(folder, stage, digest)
    print(f"  {report.summary()} (init.txt)", flush=True)
    return digest, parents, False


@contextmanager
def _caffe_log(path, verbose):
    """Sends what Caffe writes to stderr to `path` (and to the terminal too if `verbose`), and keeps Python's own."""
    sys.stderr.flush()
    terminal = os.dup(2)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, errors="backslashreplace", closefd=False)
    with path.open("a") as log:
        with naming(path):
            log.write(f"\n=== {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}\n")
            log.flush()
        if verbose:
            # -i: Ctrl-C reaches the whole group, and Caffe would die of the broken pipe.
            tee = subprocess.Popen(["tee", "-i", "-a", str(path)], stdin=subprocess.PIPE, stdout=terminal)
            os.dup2(tee.stdin.fileno(), 2)
        else:
            os.dup2(log.fileno(), 2)
    yield


def _die_with(parent):
    """The kernel kills this process when the driver dies, however it dies: no orphan goes on holding the lock."""
    import ctypes

    if sys.platform == "linux":  # other systems have no such order
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask for that
        os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    run(main)
