"""From a stage that was asked for to a stage that is trained: the plan, the data set, then each stage that is not finished."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hkd.base.cli import UserError, default_folder
from hkd.base.files import shown
from hkd.base.locks import is_locked, only_one, rename_locked
from hkd.engines import choice, memory, parallel
from hkd.paper import datasets
from hkd.stages import committed, records
from hkd.stages.given.teacher import Given
from hkd.stages.stage import lineage
from hkd.training import beside, elsewhere, lmdbs, plan, process


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
    plan.print_plan(stage, options, folders, manifests)
    check_machine(stage, options, manifests)
    if dry_run:
        return 0
    lmdbs.provide(stage, options.runs, folders, manifests)
    for needed in lineage(stage):
        made_from = make_ready(needed, options, manifests)
        if made_from is None:
            if needed == stage:
                refuse_other_engine(needed.folder(options.runs), options.label)
            continue
        what = "given, to be tested" if needed.given else f"{needed.iterations:,} iterations"
        print(f"{needed.name}: {what}", flush=True)
        data = folders[needed.experiment.dataset]
        code = process.spawn(needed, options, data, made_from, prepare_only and needed == stage)
        if code:
            return code
        if needed.given:
            elsewhere.warn_of_chance(needed, records.read_record(needed.folder(options.runs)))
    folder = stage.folder(options.runs)
    if prepare_only:
        print(f"ready: {plan.command_without_driver(shown(folder), stage.network('DATA', 1))}")
    else:
        plan.print_result(stage, records.read_record(folder), folder)
    return 0


def check_machine(stage, options, manifests):
    """Raises UserError where the engine or the GPUs that were asked for cannot train `stage` or what it needs."""
    beside.check(stage, options.engine, options.device.gpus)
    if options.engine != "caffe" or not options.device.gpus:
        return
    parallel.check_batch(stage.experiment.batch, len(options.device.gpus))
    if len(options.device.gpus) > 1:
        parallel.check_crops(stage.experiment)
    manifest = manifests[stage.experiment.dataset]
    images = manifest.test_images if manifest else stage.experiment.facts.test_images
    memory.check(lineage(stage), images, options.device)


def make_ready(needed, options, manifests):
    """Makes the folder of `needed` ready to be trained in; returns the digest to train it under, None where it is finished already."""
    folder = needed.folder(options.runs)
    made_from = plan.digest(needed, options, manifests)
    if made_from is None:
        raise UserError(
            f"{shown(folder)}: another run_stage.py has changed what it starts from: run the same command again when the other has "
            f"ended"
        )
    status = records.state(folder, made_from).status
    if status == "finished":
        tidy(folder)
        return None
    if status == "changed":
        set_aside(folder, made_from, options.wait)
    return made_from


def require_given(stage, options, manifests):
    """Raises UserError where the weights of a teacher from elsewhere are neither given nor there from an earlier time."""
    for needed in lineage(stage):
        if not needed.given or options.given:
            continue
        folder = needed.folder(options.runs)
        if records.state(folder, plan.digest(needed, options, manifests)).status != "finished":
            raise elsewhere.absent(needed, folder)


def refuse_other_engine(folder, asked):
    """Raises UserError where the stage that was asked for was finished by another engine: its result is not what was
    asked for. A stage that it starts from may be of any engine."""
    engine = records.engine(records.read_record(folder))
    if engine != asked:
        raise UserError(
            f"{shown(folder)} was finished by engine {engine}, not {asked}: name another --runs folder, or use "
            f"{choice.asked_for(engine)}"
        )


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
