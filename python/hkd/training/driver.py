"""From a stage that was asked for to a stage that is trained: the data set, the plan, each stage in its own process."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from hkd.base import signals
from hkd.base.cli import IMAGE, PACKAGE_FOLDER, ROOT, UserError, default_folder, fail, require_writable
from hkd.base.files import shown
from hkd.base.locks import is_locked, only_one, rename_locked
from hkd.base.python import GROUP_OF_ITS_OWN, SAFE_PATH, module
from hkd.engines import choice, memory, parallel
from hkd.networks import prototxt
from hkd.paper import contents, datasets, experiments
from hkd.paper.settings import setting_text
from hkd.stages import committed, records, snapshots
from hkd.stages.given.teacher import Given
from hkd.stages.stage import lineage
from hkd.training import beside, elsewhere
from hkd.training.job import How, Job

FATAL = re.compile(r"^F\S* \S+ +\d+ (\S+:\d+)\] (.*)$")


@dataclass(frozen=True)
class Options:
    """How to run: folders, device, and what the command line says of the display."""

    runs: Path
    data: Path | None  # the LMDBs of the stage that is asked for; None: the data set's folder in cli.default_folder
    device: object
    verbose: bool = False
    snapshot_seconds: float = 60.0
    engine: str = "caffe"
    precision: str = "fp32"
    wait: bool = False  # for a stage that another process is training
    teacher_data: Path | None = None  # like data, where the teacher was trained on another data set
    memo: bool = True  # whether a teacher's answers are kept, where they may be
    log_to: str | None = None  # of curves.KINDS
    given: Given | None = None  # the weights of a teacher from elsewhere

    @property
    def label(self):
        return choice.label(self.engine, self.precision, len(self.device.gpus))

    def data_folders(self, stage):
        """{data set: folder of its LMDBs} for `stage` and all that it needs."""
        names = dict.fromkeys(needed.experiment.dataset for needed in lineage(stage))
        given = {name: self.data if name == stage.experiment.dataset else self.teacher_data for name in names}
        return {name: folder or default_folder("data") / name for name, folder in given.items()}


def run_stage(stage, options, dry_run=False, prepare_only=False):
    """Trains `stage` and before it every stage that it needs and that is not finished. Returns an exit code."""
    committed.refuse_edited(stage)
    folders = options.data_folders(stage)
    manifests = {name: datasets.read_manifest(folder, datasets.dataset(name)) for name, folder in folders.items()}
    for needed in lineage(stage):  # what cannot be is said before any is trained
        needed.files("STAGE", "DATA", needed.experiment.facts.test_images)
    require_given(stage, options, manifests)
    print_plan(stage, options, folders, manifests)
    beside.check(stage, options.engine, options.device.gpus)
    if options.engine == "caffe" and options.device.gpus:
        parallel.check_batch(stage.experiment.batch, len(options.device.gpus))
        if len(options.device.gpus) > 1:
            parallel.check_crops(stage.experiment)
        manifest = manifests[stage.experiment.dataset]
        images = manifest.test_images if manifest else stage.experiment.facts.test_images
        memory.check(lineage(stage), images, options.device)
    if dry_run:
        return 0
    last_of_each = {needed.experiment.dataset: needed for needed in lineage(stage)}
    for name, needed in last_of_each.items():
        if manifests[name] is None:
            require_writable(options.runs)  # before the time that a data set takes
            manifests[name] = build_data(needed, folders[name])
        check_data(needed, manifests[name])
        contents.verify(manifests[name], needed.experiment.facts, say=lambda line: print(line, flush=True))
    for needed in lineage(stage):
        made_from = digest(needed, options, manifests)
        if made_from is None:
            raise UserError(
                f"{shown(needed.folder(options.runs))}: another run_stage.py has changed what it starts from: run the same command "
                f"again when the other has ended"
            )
        state = records.state(needed.folder(options.runs), made_from)
        if state.status == "finished":
            tidy(needed.folder(options.runs))
            if needed == stage:
                refuse_other_engine(folder=stage.folder(options.runs), asked=options.label)
            continue
        if state.status == "changed":
            set_aside(needed.folder(options.runs), made_from, options.wait)
        last = needed == stage
        what = "given, to be tested" if needed.given else f"{needed.iterations:,} iterations"
        print(f"{needed.name}: {what}", flush=True)
        code = spawn(needed, options, folders[needed.experiment.dataset], made_from, prepare_only and last)
        if code:
            return code
        if needed.given:
            elsewhere.warn_of_chance(needed, records.read_record(needed.folder(options.runs)))
    where = stage.folder(options.runs)
    if prepare_only:
        print(f"ready: {without_us(shown(where), stage.network('DATA', 1))}")
    else:
        print_result(stage, records.read_record(where), where)
    return 0


def require_given(stage, options, manifests):
    """Raises UserError where the weights of a teacher from elsewhere are neither given nor there from an earlier time."""
    for needed in lineage(stage):
        if not needed.given or options.given:
            continue
        folder = needed.folder(options.runs)
        if records.state(folder, digest(needed, options, manifests)).status != "finished":
            raise elsewhere.absent(needed, folder)


def without_us(folder, network):
    """The command that trains a prepared stage without the driver, from whatever folder: in pycaffe where it has Python layers,
    since our `caffe` binary and the Python module that such a layer needs have Caffe in them each."""
    there = f"cd {shlex.quote(str(ROOT))} && "  # the paths in its files are from here
    solver, weights = f"{folder}/solver.prototxt", f"{folder}/init.caffemodel"
    if not prototxt.without_cuda(network):
        caffe = Path(sys.executable).with_name("caffe")
        words = [shown(caffe) if caffe.exists() else "caffe", "train", "-solver", solver, "-weights", weights]
        return there + shlex.join(words)
    script = f"import caffe; s = caffe.get_solver({solver!r}); s.net.copy_from({weights!r}); s.solve()"
    python = shlex.join([shown(sys.executable), *SAFE_PATH, "-c", script])
    return f"{there}PYTHONPATH={shlex.quote(shown(PACKAGE_FOLDER))} {python}"


def refuse_other_engine(folder, asked):
    """Raises UserError where the stage that was asked for was finished by another engine: its result is not what was
    asked for. A stage that it starts from may be of any engine."""
    engine = records.engine(records.read_record(folder))
    if engine != asked:
        raise UserError(
            f"{shown(folder)} was finished by engine {engine}, not {asked}: name another --runs folder, or use "
            f"{choice.asked_for(engine)}"
        )


def check_data(stage, manifest):
    facts = stage.experiment.facts
    if manifest.pad != facts.pad:
        raise UserError(
            f"{shown(manifest.folder)} was built with --pad {manifest.pad}, {facts.title}'s networks need {facts.pad}: "
            f"build it again, or name another folder with --data"
        )
    if stage.experiment.batch > manifest.train_images:
        raise UserError(
            f"{shown(manifest.folder)} has {manifest.train_images} training images, fewer than a batch of {stage.experiment.batch}: use a smaller one, "
            f"--set batch=N"
        )
    beside.check_data(stage, manifest)


def digest(stage, options, manifests):
    """The stage's digest as of now; None while a parent is not finished, or the data set is not there."""
    manifest = manifests[stage.experiment.dataset]
    if manifest is None:
        return None
    parents = {}
    for role, parent in stage.parents.items():
        state = records.state(parent.folder(options.runs), digest(parent, options, manifests))
        if state.status != "finished":
            return None
        parents[role] = state.final_sha256
    return stage.digest(manifest, parents)


def set_aside(folder, made_from, wait=False):
    """Keeps what a stage was before it changed, under a name that no stage has. made_from: its digest as of now; a stage that has
    this digest already, because another driver was quicker, is left where it is."""
    with only_one(folder, lambda: wait):
        if records.state(folder, made_from).status != "changed":
            return
        number = 1
        while (aside := folder.with_name(f"{folder.name}.before-{number}")).exists():
            number += 1
        rename_locked(folder, aside)
    print(f"{shown(folder)} was made from other settings, images or weights: kept as {aside.name}", flush=True)


def tidy(folder):
    """Removes the snapshots of a finished stage, where a kill came between its record and that."""
    left = folder / "snapshots"
    if left.exists() and not is_locked(folder):
        shutil.rmtree(left, ignore_errors=True)


def build_data(stage, folder):
    """Builds the data set that is not there; one line says how to provide it where that cannot be done."""
    require_writable(folder)
    name = stage.experiment.dataset
    if name not in datasets.DATASETS:
        raise UserError(
            f"no {name} in {shown(folder)}: name its folder with --data, or build it: python data_tools/make_lmdb.py "
            f"--dataset {name} --source FOLDER --out {shown(folder)}"
        )
    tool = [str(ROOT / "data_tools/make_lmdb.py"), "--dataset", name, "--out", str(folder)]
    tool += ["--index"] if stage.declared.indexed else []
    print(f"{shown(folder)} is not there: building it", flush=True)
    done = subprocess.run([sys.executable, *SAFE_PATH, *tool], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["make_lmdb.py failed"])[-1].removeprefix("error: ")
        remedy = (
            f"mount the folder that has its official archive, or its LMDBs: -v FOLDER:{default_folder('data')}:z"
            if IMAGE
            else f"get its official archive and build it with python data_tools/make_lmdb.py --dataset {name} "
            f"--source ARCHIVE --out {shown(folder)}"
        )
        raise UserError(f"no {stage.experiment.facts.title} in {shown(folder)}: {remedy} ({reason})")
    return datasets.read_manifest(folder, stage.experiment.facts)


# --- the process of a stage ---------------------------------------------------------------------------------------------


def spawn(stage, options, data_folder, made_from, prepare_only=False):
    """Trains one stage, whose digest is `made_from`, in a process of its own and returns its exit code, having said in one line what
    went wrong."""
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
    # -P and PYTHONSAFEPATH: this process and what it starts import nothing from the folder that a user happens to be in.
    path = {"PYTHONPATH": str(PACKAGE_FOLDER), "PYTHONSAFEPATH": "1"}
    environment = choice.environment(options.engine, options.device.threads) | path
    jobs = [job]
    gpus = options.device.gpus
    if len(gpus) > 1 and not stage.given:  # a test is the first one's
        place = parallel.meeting_place(stage.folder(options.runs))
        jobs = [replace(job, rank=rank, meeting=place) for rank in range(1 if prepare_only else len(gpus))]
    # A process group of its own: a terminal's Ctrl-C and its end then come to this process alone, as `kill` and `docker
    # stop` do, and are passed on once; the child takes a second signal as an order to leave at once.
    children = [
        subprocess.Popen(
            module("hkd.training.job"),
            stdin=subprocess.PIPE,
            text=True,
            env=environment,
            **GROUP_OF_ITS_OWN,
        )
        for _ in jobs
    ]
    asked = []

    def pass_on(number):
        asked.append(number)
        # Always this one: a Python that is only starting answers SIGINT with a traceback.
        children[0].send_signal(signal.SIGTERM)

    previous = signals.handle(pass_on)
    try:
        for each, child in zip(jobs, children, strict=True):
            with contextlib.suppress(BrokenPipeError):  # it has ended already, and its exit code says why
                child.stdin.write(each.as_json())
                child.stdin.close()
        rank, code = parallel.supervise(children)
    finally:
        signals.restore(previous)
        if jobs[0].meeting:
            Path(jobs[0].meeting).unlink(missing_ok=True)
    if asked and code in (0, 128 + signal.SIGTERM, -signal.SIGTERM):
        if code == 0:
            print(f"stopped after {stage.name}: the same command goes on from there", flush=True)
        elif code < 0:  # it had not yet begun
            fail("interrupted")
        return 128 + asked[0]
    if code < 0:
        log = stage.folder(options.runs) / parallel.log_name(rank)
        return fail(last_words(log, children[rank].pid, -code), code=128 - code)
    return code


def idle_changes(stages):
    """The changed settings, as --set takes them, that reach none of `stages` and none that these need."""
    reached = {key for stage in stages for needed in lineage(stage) for key in needed.changes}
    changed = {key: value for stage in stages for key, value in experiments.changed(stage.experiment).items()}
    return [setting_text(key, value) for key, value in changed.items() if key not in reached]


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


# --- what is printed ------------------------------------------------------------------------------------------------------


def print_plan(stage, options, folders, manifests):
    e = stage.experiment
    scale = "" if stage.scale == 1 else f"   scale {stage.scale:g}: not the paper's iterations"
    learned_on = f" on {e.of_teacher.facts.title}" if e.teacher_dataset else ""
    print(
        f"{e.name} ({e.reported_in}): teacher {e.teacher.depth} layers{learned_on}, student {e.student.depth} layers, "
        f"{e.facts.title}{scale}"
    )
    where = [shown(path) + ("" if manifests[name] else " (not there: will be built)") for name, path in folders.items()]
    engine = "" if options.label == "caffe" else f"   engine: {options.label}"
    print(f"data: {', '.join(where)}   device: {options.device}" + engine)
    for needed in lineage(stage):
        rate = needed.schedule.base_lr
        name = needed.name if needed.experiment.dataset == e.dataset else f"{needed.experiment.dataset}: {needed.name}"
        state = records.state(needed.folder(options.runs), digest(needed, options, manifests))
        words = {
            "new": "to train",
            "begun": f"to go on at {state.iteration:,}",
            **({"new": "given, to be tested", "begun": "given, to be tested"} if needed.given else {}),
            "finished": "finished, used again",
            "changed": "changed since: to train again",
        }[state.status]
        print(f"  {name:<34} {needed.iterations:>7,} iterations   lr {rate:<7g} {words}")
        on_the_cpu = prototxt.without_cuda(needed.network("DATA", 1)) if options.device.gpus else []
        if on_the_cpu and options.engine == "caffe":
            print(f"    Python layers, which compute on the CPU: {', '.join(on_the_cpu)}")
    sys.stdout.flush()  # the processes that follow write to the same place


def print_result(stage, record, folder):
    Pc = record["Pc"]
    reached = (
        f"Pc {Pc['last']:.2f} % (best {Pc['best']:.2f} at {Pc['best_iteration']:,})"
        if Pc
        else f"test loss {record['test_loss']:.4g}"
    )
    print(f"{stage.name}: {reached}, {record['seconds']:.0f} s; {shown(folder)}/record.json")
