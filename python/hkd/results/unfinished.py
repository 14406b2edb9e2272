"""Stages of the paper's own length that are not at their end: the newest snapshot of each, kept with the project, so that a run of
days goes on where the machine that it was begun on is lost."""

import hashlib
import json
import shutil
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import sha256, shown, write_whole
from hkd.base.locks import is_locked
from hkd.results import slim
from hkd.results.runs import SET_ASIDE
from hkd.stages import finals, records, snapshots

FOLDER = "unfinished"
HEADS = ("stage", "trained in", "at iteration", "of", "engine", "machines")
ABOUT = (
    "Begun and not at their end: log, weights without the teacher's, momentum. `--lay RUNS` lays them too, and the command that trains the stage "
    "goes on from there; the record then names each machine.",
)


def keep(runs, folder):
    """Copies the newest snapshot of every stage of the paper's own length under `runs` that was begun to FOLDER/DATASET/LENGTH/STAGE
    in `folder`, and takes away that of one which is finished by now; returns their names. Raises UserError rather than replace another
    run's, or one that is further on."""
    names = []
    for note_path in sorted(Path(runs).glob("*/full-seed*/*/stage.json")):
        stage = note_path.parent
        kept = Path(folder) / FOLDER / stage.relative_to(runs)
        if SET_ASIDE.search(stage.name):
            continue
        if records.read_record(stage):
            shutil.rmtree(kept, ignore_errors=True)
        elif is_locked(stage):
            print(f"note: {shown(stage)} is being trained: stop it first, and its snapshot is kept")
        elif _keep(stage, kept):
            names.append(str(stage.relative_to(runs)))
    return names


def _keep(stage, kept):
    """Whether the stage had a snapshot that could be kept."""
    note, found = records.read_note(stage), None
    if snapshots.iteration(stage / "snapshots"):
        found = snapshots.Snapshots(stage / "snapshots", note["digest"]).newest(print)
    if not found:
        return False
    snapshot, state = found
    _require_no_other(kept, stage, state)
    partial = kept.with_name(f".{kept.name}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(snapshot, partial)
    _strip(partial, state, dataset=kept.parts[-3])
    _copy_log(stage, partial)
    records.note_begun(partial, note)
    if _whole(partial, kept, state) is None:
        shutil.rmtree(partial)
        print(f"note: the weights of the teacher of {shown(stage)} are not kept, so its snapshot is not either")
        return False
    shutil.rmtree(kept, ignore_errors=True)
    partial.rename(kept)
    return True


def _require_no_other(kept, stage, state):
    """Raises UserError where `kept` is of another run than the snapshot of `stage`, or further on."""
    if not (kept / snapshots.NOTE).exists():
        return
    before = snapshots.read_note(kept)
    if before["digest"] != state["digest"] or before["iteration"] > state["iteration"]:
        raise UserError(
            f"{shown(kept)} is another run than {shown(stage)}, or further on: delete the one that is wrong"
        )


def _strip(snapshot, state, dataset):
    """Makes a snapshot's files what is kept of them: without the folders of this machine, as a stage's final files are, and without its
    teacher's weights; its note has the checksums of the whole ones."""
    weights = finals.weights((snapshot / snapshots.WEIGHTS).read_bytes(), dataset)
    momentum = finals.state((snapshot / snapshots.STATE).read_bytes())
    for name, content in ((snapshots.WEIGHTS, weights), (snapshots.STATE, momentum)):
        state["sha256"][name] = hashlib.sha256(content).hexdigest()
    write_whole(snapshot / snapshots.WEIGHTS, slim.own_weights(weights))
    write_whole(snapshot / snapshots.STATE, momentum)
    write_whole(snapshot / snapshots.NOTE, json.dumps(state))


def lay(folder, runs, engine=None):
    """Lays every stage that `keep` has kept in `folder` into a runs folder, for the command that trains it to go on; returns their names,
    DATASET/LENGTH/STAGE. engine: of one alone. Raises UserError where another run of such a stage lies in `runs`, and for
    weights that are not those of the snapshot."""
    laid = []
    for kept in _stages(folder):
        own, state = Path(runs) / Path(*kept.parts[-3:]), snapshots.read_note(kept)
        if engine and engine != _engine(state):
            continue
        if (own / "stage.json").exists():
            _require_same(own, kept, state)
        else:
            _lay(kept, own, state)
        laid.append(str(own.relative_to(runs)))
    return laid


def _require_same(own, kept, state):
    """Raises UserError unless `own` is the stage of `kept`, and as far."""
    done = records.read_record(own) or snapshots.iteration(own / "snapshots") >= state["iteration"]
    if records.read_note(own)["digest"] != state["digest"] or not done:
        raise UserError(f"{shown(own)} is another run than {shown(kept)}, or behind it: lay into another folder")


def _whole(folder, kept, state):
    """The weights of the snapshot whose files are in `folder`, with those of a teacher that is kept beside `kept`; or None."""
    teachers = sorted(kept.parents[3].glob(f"{kept.parts[-3]}/*-teacher*.caffemodel"))
    return slim.whole(folder / snapshots.WEIGHTS, teachers, state["sha256"][snapshots.WEIGHTS])


def _lay(kept, own, state):
    weights = _whole(kept, kept, state)
    if weights is None:
        raise UserError(
            f"{shown(kept / snapshots.WEIGHTS)}: with no teacher's weights in {shown(kept.parents[3])} it is what the snapshot had: {slim.REMEDY}"
        )
    for name, digest in state["sha256"].items():
        if name != snapshots.WEIGHTS and not ((kept / name).exists() and sha256(kept / name) == digest):
            raise UserError(f"{shown(kept / name)} is not what the snapshot had: {slim.REMEDY}")
    if own.exists():
        raise UserError(f"{shown(own)} is no stage's folder: move it elsewhere, or lay into another folder")
    partial = own.with_name(f".{own.name}")
    shutil.rmtree(partial, ignore_errors=True)
    snapshot = partial / "snapshots" / snapshots.name_at(state["iteration"])
    snapshot.mkdir(parents=True)
    for name in (*state["sha256"], snapshots.NOTE):
        shutil.copyfile(kept / name, snapshot / name)
    write_whole(snapshot / snapshots.WEIGHTS, weights)
    _copy_log(kept, partial)
    shutil.copyfile(kept / "stage.json", partial / "stage.json")
    partial.rename(own)


def _copy_log(one, other):
    if (one / records.LOG).exists():  # not where it was stopped before the first line
        shutil.copyfile(one / records.LOG, other / records.LOG)


def rows(folder):
    """A row of HEADS for each that is kept."""
    for kept in _stages(folder):
        note, state = records.read_note(kept), snapshots.read_note(kept)
        yield (
            "/".join(kept.parts[-3:]),
            note["experiment"],
            f"{state['iteration']:,}",
            f"{note['iterations']:,}",
            _engine(state),
            ", then ".join(state.get("hardware", [])),
        )


def _engine(state):
    return "+".join(state.get("engines", ["caffe"]))


def _stages(folder):
    return sorted(path.parent for path in (Path(folder) / FOLDER).glob("*/*/*/stage.json"))
