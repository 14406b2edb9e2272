"""From a folder of runs to the records that may stand together in one cell of a table, each checked before it is used.

Only finished stages count. What was edited, copied by half, or trained under different conditions is refused with both
folders named; nothing is chosen silently.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import shown
from hkd.engines.choice import LABELS, MANY_GPUS
from hkd.paper import experiments
from hkd.results.checks import check_log, check_place, checked_parents
from hkd.results.condition import Condition, changed_settings, of_record, refuse_mixed
from hkd.stages import own_data, records
from hkd.stages.stage import Stage

SET_ASIDE = re.compile(r"\.before-\d+$")
"""The end of a folder's name that the driver set aside when its stage was trained again."""


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

    @cached_property
    def log(self):
        """The lines of its log, each a dict (records.read_log)."""
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
        """Whether a Run is one of those chosen. Of the settings, those that reach its stage are compared."""
        c = run.condition
        if self.settings is not None:
            wanted = experiments.experiment(run.record["experiment"], self.settings)
            if c.settings != changed_settings(replace(run.stage, experiment=wanted)):
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
        self._admitted = {}  # as _found, and asked for by many tables
        self._record = cache(records.read_record)  # many stages start from one
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
        key = stage.experiment.dataset, stage.name.partition("+")[0]
        if key not in self._admitted:
            runs = [self._run(folder, stage) for folder in self._found.get(key, [])]
            self._admitted[key] = [run for run in runs if self.choice.admits(run)]
        return self._admitted[key]

    def cell(self, what, stages):
        """[Run or None] for `stages`, which belong in one cell, `what`. Raises UserError where they differ in condition."""
        found = [self.of(stage) for stage in stages]
        every = [run for runs in found for run in runs]
        for run in every[1:]:
            refuse_mixed(what, every[0], run)
        return [runs[0] if runs else None for runs in found]

    def _run(self, folder, stage):
        if folder not in self._read:
            record = self._record(folder)
            check_place(folder, record)
            check_log(folder, record)
            parents = checked_parents(folder, record, self._record)
            if stage.declared.classifies and record["Pc"] is None:
                raise UserError(
                    f"{shown(folder / 'record.json')} has no Pc, and {stage.name} classifies: delete {shown(folder)}"
                )
            own_data.declare(record)
            try:
                experiments.named(record["experiment"])
                condition = of_record(record, parents, stage)
                trained = experiments.experiment(stage.experiment.name, condition.settings)
            except UserError as error:
                raise UserError(
                    f"{shown(folder / 'record.json')} is of no stage: {error}: delete {shown(folder)}"
                ) from None
            as_it_was = replace(stage, experiment=trained, scale=condition.scale, seed=condition.seed)
            self._read[folder] = Run(folder, record, condition, as_it_was)
        return self._read[folder]
