"""From a folder of runs to the records that may stand together in one cell of a table, each checked before it is used.

Only finished stages count. What was edited, copied by half, or trained under different conditions is refused with both
folders named; nothing is chosen silently.
"""

import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import sha256, shown
from hkd.engines.choice import LABELS, MANY_GPUS
from hkd.paper import experiments
from hkd.paper.datasets import DATASETS
from hkd.paper.experiment import SCHEDULES, settings, unchecked
from hkd.paper.settings import TRAINED, checked, number_text, setting_text
from hkd.stages import own_data, records
from hkd.stages.stage import Stage, group

SET_ASIDE = re.compile(r"\.before-\d+$")
"""The end of a folder's name that the driver set aside when its stage was trained again."""

NOT_OFFICIAL = "not the official images"
ELSEWHERE = "teacher from elsewhere"


@dataclass(frozen=True)
class Condition:
    """What must be equal for numbers to be averaged or tested against each other. settings: those that differ from the
    experiment's, as --set takes them; images: the sha256 of the data set's pixels; official: whether they, and those that a
    teacher before was trained on, are the published data set. origin: of a teacher from elsewhere, its own or before it, what its
    file is called; the setting teacher_weights tells any two apart."""

    scale: float
    seed: int
    engine: str
    settings: tuple[str, ...]
    images: str
    official: bool
    origin: str = field(default="", compare=False)

    def notes(self, with_scale=True):
        """What a row has to say of itself: how it was made otherwise than the paper's."""
        scale = [f"scale {number_text(self.scale)}"] if with_scale and self.scale != 1 else []
        engine = [] if self.engine == "caffe" else [f"engine {self.engine}"]
        return [*scale, *self.settings, *engine, *self.marks()]

    def marks(self):
        """What may be left out nowhere that its number stands."""
        elsewhere = [f"{ELSEWHERE}: {self.origin}"] if self.origin else []
        return [*elsewhere, *([] if self.official else [NOT_OFFICIAL])]


@dataclass(frozen=True)
class Run:
    """One finished stage: its folder, its record (records.write_record), its Condition, and itself as it was trained."""

    folder: Path
    record: dict
    condition: Condition
    stage: Stage

    def value(self, measure, which="last"):
        """Pc or Pe in percent, of the `last` or the `best` test."""
        Pc = self.record["Pc"][which]
        return Pc if measure == "Pc" else round(100 - Pc, 6)

    def log(self):
        return records.read_log(self.folder)


@dataclass(frozen=True)
class Choice:
    """What the command line chose; None: whatever is there, as long as it is one thing."""

    scale: float | None = None
    seed: int | None = None
    engine: str | None = None
    settings: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.scale is not None and not (math.isfinite(self.scale) and 0 < self.scale <= 1):
            raise UserError(f"--scale {self.scale}: expected more than 0 and at most 1")
        if self.engine not in (None, *LABELS) and not MANY_GPUS.fullmatch(self.engine):
            raise did_you_mean(self.engine, LABELS, "engine")

    def admits(self, run):
        """A setting that does not reach the run's stage is no reason to leave it out."""
        c = run.condition
        if self.settings is not None:
            wanted = experiments.experiment(run.record["experiment"], self.settings)
            if c.settings != _texts(replace(run.stage, experiment=wanted)):
                return False
        return all(getattr(self, k) in (None, getattr(c, k)) for k in ("scale", "seed", "engine"))


class Runs:
    """The finished stages under `folder` that `choice` admits. groups: the folders of data set, scale and seed in it that count,
    None: all; read: what other Runs of the same folders have read already."""

    def __init__(self, folder, choice=None, groups=None, read=None):
        self.folder, self.choice = Path(folder), choice or Choice()
        if not self.folder.is_dir():
            raise UserError(
                f"{shown(self.folder)} is not there: train stages with run_stage.py or `make tables`, or name their folder with --runs"
            )
        self._found, self._read = {}, {} if read is None else read
        groups = self.folder.glob("*/*") if groups is None else groups
        for path in sorted(path for one in groups for path in one.glob("*/record.json")):
            stage = path.parent
            if SET_ASIDE.search(stage.name):
                continue
            key = (stage.parent.parent.name, stage.name.partition("+")[0])
            self._found.setdefault(key, []).append(stage)
        self.own = own_data.declare_all(stage for found in self._found.values() for stage in found)
        """Experiments on data sets of the user's own that something was run of."""

    def of(self, stage):
        """Every Run of `stage` (stage.Stage), whatever its scale, seed and settings, that the choice admits."""
        name = stage.name.partition("+")[0]
        runs = [self._run(folder, stage) for folder in self._found.get((stage.experiment.dataset, name), [])]
        return [run for run in runs if self.choice.admits(run)]

    def cell(self, what, stages):
        """[Run or None] for `stages`, which belong in one cell, `what`. Raises UserError where they differ in condition."""
        found = [self.of(stage) for stage in stages]
        every = [run for runs in found for run in runs]
        for run in every[1:]:
            refuse_mixed(what, every[0], run)
        return [runs[0] if runs else None for runs in found]

    def _run(self, folder, stage):
        if folder not in self._read:
            record = records.read_record(folder)
            check_place(folder, record)
            check_log(folder, record)
            parents = _checked_parents(folder, record)
            if stage.declared.classifies and record["Pc"] is None:
                raise UserError(
                    f"{shown(folder / 'record.json')} has no Pc, and {stage.name} classifies: delete {shown(folder)}"
                )
            own_data.declare(record)
            official = all(is_official(one) for one in (record, *parents))
            try:
                experiments.named(record["experiment"])
                condition = _condition(record, stage, official, _origin(record, parents))
                trained = experiments.experiment(stage.experiment.name, condition.settings)
            except UserError as error:
                raise UserError(
                    f"{shown(folder / 'record.json')} is of no stage: {error}: delete {shown(folder)}"
                ) from None
            as_it_was = replace(stage, experiment=trained, scale=condition.scale, seed=condition.seed)
            self._read[folder] = Run(folder, record, condition, as_it_was)
        return self._read[folder]


def every_experiment(views):
    """The experiments of EXPERIMENTS, and those on data sets of the user's own that something was run of in some Views."""
    names = (*experiments.EXPERIMENTS, *(name for view in views for name in view.runs.own))
    return [experiments.named(name) for name in dict.fromkeys(names)]


def is_official(record):
    """Whether the images of a record are those that its data set has; of one of the user's own none were published."""
    return record.get("official_data", True) or record["dataset"] not in DATASETS


@dataclass(frozen=True)
class View:
    """Runs that stand in one table. scale, seed: theirs, where runs of other lengths stand beside them."""

    runs: Runs
    scale: float | None = None
    seed: int | None = None

    @property
    def words(self):
        """What a heading says of it; '' where nothing stands beside it."""
        if self.scale is None:
            return ""
        shorter = f"every number of iterations x {number_text(self.scale)}, not comparable with the paper's"
        return ("full length" if self.scale == 1 else shorter) + ("" if self.seed == 1 else f", seed {self.seed}")

    @property
    def name(self):
        """The same in the name of a file."""
        return group("", self.scale, self.seed).name


def names_of(name, views):
    """[(name, View)] of what is made of several Views: the first has the name alone, the others that of their length too."""
    return [(f"{name}-{view.name}" if number else name, view) for number, view in enumerate(views)]


def notes(runs, with_scale=True):
    """What has to be said of some runs, each thing once, in order (Condition.notes)."""
    return list(dict.fromkeys(note for run in runs for note in run.condition.notes(with_scale)))


def refuse_mixed(what, one, other):
    """Raises UserError, naming both, where two runs were made under different conditions."""
    ways = {
        "scale": "choose one with --scale",
        "seed": "choose one with --seed",
        "engine": "choose one with --engine",
        "settings": "choose one with --set",
        "images": "move one of them to another --runs folder",
        "official": "move one of them to another --runs folder",
    }
    for key in (f.name for f in fields(Condition) if f.compare):
        a, b = getattr(one.condition, key), getattr(other.condition, key)
        if a != b:
            raise UserError(
                f"{what}: {shown(one.folder)} and {shown(other.folder)} differ in {key} ({_words(a)}; {_words(b)}): {ways[key]}"
            )


def _words(value):
    if isinstance(value, tuple):
        return ", ".join(value) or "the paper's"
    return number_text(value) if isinstance(value, float) else str(value)[:12]


def _origin(record, parents):
    """What the file of a teacher from elsewhere is called, or its weights where its record is not here; '' of one trained here."""
    found = [one["origin"]["file"] for one in (record, *parents) if one.get("origin")]
    return next(iter(found), record["settings"].get("teacher_weights", TRAINED).removeprefix(TRAINED))


def _condition(record, stage, official, origin):
    """Only the settings that reach the stage count: a stage may be shared by experiments that differ in others."""
    written = _settings(record, experiments.named(stage.experiment.name))
    schedules = tuple((k, written.pop(k)) for k in SCHEDULES if k in written)
    trained = unchecked(experiments.named(stage.experiment.name), schedules=schedules, **written)
    scale, seed = float(record["scale"]), record["seed"]
    settings = _texts(replace(stage, experiment=trained, scale=scale, seed=seed))
    given = any(text.startswith("teacher_weights=") for text in settings)
    pixels = record["digests"]["pixels"]
    return Condition(scale, seed, records.engine(record), settings, pixels, official, origin if given else "")


def _settings(record, default):
    """{setting: value} of a record, of those that --set knows. Raises UserError for a value that --set would not take."""
    found, rules = {}, settings()
    for key, value in record["settings"].items():
        if key not in rules:
            continue
        value = tuple(value) if isinstance(value, list) else value
        if not _alike(value, getattr(default, key.rpartition(".")[2])):
            raise UserError(f"{key} is {value!r}")
        found[key] = checked(key, value, rules[key])
    return found


def _alike(value, example):
    """Whether a value read from JSON is of the type of `example`, a setting's."""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and bool(value) and all(_alike(one, example[0]) for one in value)
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(example) and (type(value) is not int or abs(value) < 2**31)


def _texts(stage):
    """The changed settings that reach a stage, as --set takes them."""
    return tuple(setting_text(*change) for change in stage.changes.items())


def check_place(folder, record):
    """A folder that was renamed, or copied into the place of another, would put its number in the wrong cell."""
    own = group(record["dataset"], record["scale"], record["seed"]) / record["stage"]
    if Path(*folder.parts[-3:]) != own:
        raise UserError(
            f"{shown(folder)} has the record of {own}: it was renamed or copied there, move it back or delete it"
        )


def check_log(folder, record):
    expected = record["digests"].get(records.LOG)
    log = folder / records.LOG
    if not log.exists():
        raise UserError(f"{shown(log)} is missing: the folder was copied by half, copy it again or delete it")
    if expected is not None and sha256(log) != expected:
        raise UserError(f"{shown(log)} is not the one that its record names (edited, or copied by half): copy it again")


def _checked_parents(folder, record, later=()):
    """The records of the stages that stand beside it and that it started from, and those of theirs: their weights must be the ones
    that it names."""
    found = []
    for parent in record["parents"].values():
        if isinstance(parent, str):
            continue  # a record of version 0.1 before it named its parents' weights
        if parent["stage"] in later:
            raise UserError(
                f"{shown(folder / 'record.json')}: {parent['stage']} comes before itself: delete {shown(folder)}"
            )
        # A teacher of another data set stands in that one's folder. Older records do not name it: there was none.
        group = folder.parents[2] / parent.get("dataset", record["dataset"]) / folder.parent.name
        beside = records.read_record(group / parent["stage"])
        if beside is None:
            continue
        if beside["digests"][records.FINAL] != parent[records.FINAL]:
            raise UserError(
                f"{shown(folder)} started from another {parent['stage']} than the one beside it: train it again with run_stage.py, "
                f"or copy both from one place"
            )
        found += [beside, *_checked_parents(group / parent["stage"], beside, (*later, folder.name))]
    return found
