"""What a stage leaves behind, as JSON: stage.json when it is prepared, log.jsonl while it trains, record.json at its end.

Every other file of a stage is written after stage.json: what lies in a folder without one is not ours to overwrite.

A finished stage may be used again only if all that it depends on is unchanged; `state` decides that, and refuses files
that were edited by hand, because the edit would otherwise be lost or, worse, half used.
"""

import hashlib
import json
from dataclasses import dataclass

from hkd.base import shapes
from hkd.base.cli import UserError
from hkd.base.files import sha256, shown, write_whole
from hkd.paper.datasets import FACTS
from hkd.paper.methods import KINDS
from hkd.stages import answers, snapshots

FILES = ("net.prototxt", "solver.prototxt", "init.caffemodel")
FINAL, FINAL_STATE = "final.caffemodel", "final.solverstate"
LOG = "log.jsonl"
HISTORY = "history.npy"  # of hint-dynamic KD's learned weights
OURS = (*FILES, "init.txt", FINAL, FINAL_STATE, LOG, HISTORY, "record.json", answers.FILE, "snapshots")
"""What training writes into a stage's folder, beside stage.json."""

_FILES = {"type": "object", "propertyNames": {"enum": list(FILES)}, "additionalProperties": shapes.SHA256}
_NOTE = shapes.Shape(
    shapes.record({"stage": {"type": "string"}, "digest": shapes.SHA256, "iterations": shapes.COUNT, "files": _FILES})
)
"""The shape of stage.json. Of `files` there are none while they are being written."""

_WORD = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9.-]*\Z"}
_STAGE = {"type": "string", "pattern": r"^[a-z0-9][A-Za-z0-9.,=+_-]*\Z", "maxLength": 255}
_ENGINE = {"type": "string", "pattern": r"^[a-z0-9]+(-[a-z0-9]+)*(\+[a-z0-9]+(-[a-z0-9]+)*)*\Z"}
_INT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
_TEXT = {"type": "string", "maxLength": 1000}


def _or_none(shape):
    return {**shape, "type": [shape["type"], "null"]}


# A keyword says something of its own type of value only. One list of types is read in a tenth of the time of as many alternatives.
_PLAIN = {
    "minimum": -1e38,
    "maximum": 1e38,
    "type": ["number", "boolean", "string", "null"],
    "pattern": r"^[A-Za-z0-9.-]*\Z",
}
_SETTING = {**_PLAIN, "type": [*_PLAIN["type"], "array", "object"], "items": _PLAIN, "additionalProperties": _INT}
_PARENT = shapes.record({"stage": _STAGE, FINAL: shapes.SHA256}, {"dataset": _WORD})
_DIGESTS = {
    **shapes.record({"stage": shapes.SHA256, "pixels": shapes.SHA256, FINAL: shapes.SHA256}),
    "additionalProperties": shapes.SHA256,
}
_VERSIONS = shapes.record(
    {"hkd-caffe": _or_none(_TEXT), "caffe": shapes.record({}, {"source": _TEXT})}, {"torch": _or_none(_TEXT)}
)
_ORIGIN = shapes.record(
    {
        "file": {"type": "string", "pattern": r"^[\w.+-]{1,100}\Z"},
        "sha256": shapes.SHA256,
        "weights": shapes.SHA256,
        "mapping": _TEXT,
        "input": _TEXT,
    },
    closed=True,
)
"""Where the weights of a teacher come from that was not trained here (given.teacher.Taken)."""
_RECORD = shapes.record(
    {
        "stage": _STAGE,
        "experiment": _WORD,
        "dataset": _WORD,
        "kind": {"enum": list(KINDS)},
        "scale": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "seed": _INT,
        "random_seed": _INT,
        "iterations": _INT,
        "Pc": _or_none(shapes.record({"last": _PERCENT, "best": _PERCENT, "best_iteration": _INT})),
        "test_loss": _NUMBER,
        "seconds": {**_NUMBER, "minimum": 0},
        "sessions": {**_INT, "minimum": 1},
        "settings": {"type": "object", "additionalProperties": _SETTING},
        # In a record of version 0.1 before it named its parents' weights a parent is a text.
        "parents": {"type": "object", "additionalProperties": {"anyOf": [_PARENT, _STAGE]}},
        "digests": _DIGESTS,
        "versions": _VERSIONS,
    },
    {
        "method": _or_none(_WORD),
        "step": _or_none(_INT),
        "net": _or_none(_INT),
        "engine": _ENGINE,
        "device": _TEXT,
        "hardware": _TEXT,
        "official_data": {"type": "boolean"},
        "origin": _ORIGIN,
        "data_sets": {"type": "array", "items": FACTS.schema, "maxItems": 2},
    },
)
# A teacher from elsewhere is given, not trained; every other stage is trained.
_TRAINED = {
    "if": {"required": ["origin"]},
    "then": {"properties": {"iterations": {"const": 0}}},
    "else": {"properties": {"iterations": {"minimum": 1}}},
}
SHAPE = shapes.Shape(_RECORD | _TRAINED)
"""What a record is (training.record writes it): every name in it is a folder's at most, never a path."""
LINE = shapes.Shape(
    shapes.record({"iteration": _INT}, {"Pc": _PERCENT, "weights": {"type": "object"}})
    | {"additionalProperties": _NUMBER}
)
"""What a line of the log is."""


@dataclass(frozen=True)
class State:
    """status: 'new' (not prepared, or not to its end), 'begun', 'finished', or 'changed' (what it depends on is no longer what it was
    made from)."""

    status: str
    iteration: int = 0
    final_sha256: str | None = None


def state(folder, digest):
    """The State of the stage in `folder` against what it would be made from now (its digest; None: not known yet)."""
    while True:
        prepared = read_note(folder)
        try:
            return _state(folder, digest, prepared)
        except (UserError, FileNotFoundError):
            if read_note(folder) == prepared:
                raise
            # Another process has set the folder aside meanwhile, or begins there: what did not fit was half of each.


def _state(folder, digest, prepared):
    if prepared is None:
        _refuse_foreign(folder, OURS)
        return State("new")
    # In this order: they are written in the order snapshot, final, record, and then the snapshot goes.
    final_there = (folder / FINAL).exists()  # a solverstate without its weights is worth nothing to anyone
    at = snapshots.iteration(folder / "snapshots")
    for name, digest_of_file in prepared["files"].items():
        if not (folder / name).exists() or sha256(folder / name) != digest_of_file:
            raise UserError(
                f"{shown(folder / name)} was edited by hand or damaged after it was written: to train with other settings use "
                f"--set; to start again delete {shown(folder)}"
            )
    record = read_record(folder)
    if digest is not None and prepared["digest"] != digest:
        return State("changed", record["iterations"] if record else at)
    if record is None:
        if final_there and at < prepared["iterations"]:
            _refuse_foreign(folder, (FINAL,))
        return State("begun" if prepared["files"] else "new", at)
    final = folder / FINAL
    if not final.exists() or sha256(final) != record["digests"][FINAL]:
        raise UserError(
            f"{shown(final)} is not the file that its record names: delete {shown(folder)} to train it again"
        )
    return State("finished", record["iterations"], record["digests"][FINAL])


def _refuse_foreign(folder, names):
    """Raises UserError for a file in a stage's folder that would be overwritten and that no stage wrote there."""
    for name in names:
        if (folder / name).exists():
            raise UserError(
                f"{shown(folder / name)} was not written here by run_stage.py, which would overwrite it: move it elsewhere, "
                f"or copy the folder that it is from whole, with stage.json"
            )


def prepare_note(folder, stage, digest, files=FILES):
    """Writes stage.json: these files of the stage are written. With none it says that they are about to be: a kill while they are
    leaves what is known as ours."""
    digests = {name: sha256(folder / name) for name in files}
    _write_note(folder, stage.name, stage.experiment.name, digest, stage.iterations, digests)


def note_finished(folder, record):
    """Writes the stage.json of a finished stage that was brought here without the files that it was trained from."""
    _write_note(folder, record["stage"], record["experiment"], record["digests"]["stage"], record["iterations"], {})


def note_begun(folder, note):
    """Writes the stage.json of a stage that is brought elsewhere with a snapshot alone: its files are made again there. note: its own."""
    _write_note(folder, **{**note, "files": {}})


def _write_note(folder, stage, experiment, digest, iterations, files):
    note = {"stage": stage, "experiment": experiment, "digest": digest, "iterations": iterations, "files": files}
    write_whole(folder / "stage.json", json.dumps(note, indent=1) + "\n")


def read_note(folder):
    """The content of stage.json, None where there is none. Raises UserError for a damaged one."""
    path = folder / "stage.json"
    try:
        return _NOTE.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{shown(path)} is damaged ({error}): delete {shown(folder)} to train the stage again"
        ) from None


def write_record(folder, record):
    """record.json, with a checksum of itself: a number edited by hand must not get into a table."""
    write_whole(folder / "record.json", json.dumps({**record, "sha256": _self_digest(record)}, indent=1) + "\n")


def engine(record):
    """What trained the stage. Records older than the second engine do not say."""
    return record.get("engine", "caffe")


def read_record(folder):
    """The record of a finished stage, or None. Raises UserError for one that is damaged or edited, or of another shape."""
    path = folder / "record.json"
    try:
        record = SHAPE.parse(path.read_bytes())
        if record.pop("sha256", None) != _self_digest(record):
            raise ValueError("its checksum is of another content")
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{shown(path)} was edited or damaged ({error}): delete {shown(folder)} to train the stage again"
        ) from None
    return record


def _self_digest(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_json(path):
    """The content of a JSON file, None where there is none. Raises UserError for one that is not JSON."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{shown(path)} is damaged (no JSON object): delete {shown(path.parent)} to train the stage again"
        )
    return content


def read_log(folder):
    """The lines of log.jsonl as dicts, in order, up to the first that is none: a kill cuts the last line short, a disk tears any."""
    path = folder / LOG
    lines = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                lines.append(LINE.parse(line))
            except ValueError:
                break
    return lines
