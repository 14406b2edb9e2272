"""What the Snakefile runs: its settings, checked, and the stages of every target by their folders."""

import hashlib
import math
import os
import re
import shlex
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

from hkd.base.cli import ROOT, UserError, default_folder, did_you_mean
from hkd.base.files import shown
from hkd.engines import choice
from hkd.paper import experiment_file, experiments, methods, own_datasets
from hkd.paper.experiment_file import SUFFIX, ExperimentFile
from hkd.paper.settings import number_text
from hkd.results import targets
from hkd.results.lines import NETS
from hkd.results.rows import Row
from hkd.stages.names import of_net_1
from hkd.stages.stage import lineage
from hkd.training import beside

DONE = ".finished"
"""The file in a stage's folder that tells Snakemake that run_stage.py found or made it finished."""
INDEXED = ".indexed"
"""The same in a data set's folder, of the index of its training images."""

FOLDERS = {"runs": "runs", "data": "data", "out": "results"}
"""The keys that name a folder, and what default_folder calls it."""


@dataclass(frozen=True)
class Settings:
    """The keys of `--config`. experiments: names with commas, default all of experiments.EXPERIMENTS; set: settings as --set takes
    them, with spaces; runs, data, out: folders, absolute unless Snakemake runs in the checkout and may write there."""

    scale: float = 1.0
    engine: str = field(default_factory=lambda: choice.default()[0])
    precision: str = "fp32"
    nets: int = NETS
    experiments: tuple[str, ...] = ()
    seed: int = 1
    set: tuple[str, ...] = ()
    file: ExperimentFile | None = None  # what the one TOML file says that `experiments` may name instead
    runs: str = shown(default_folder("runs"))
    data: str = shown(default_folder("data"))
    out: str = shown(default_folder("results"))

    def chosen(self, row):
        """Whether a rows.Row is of an experiment that was chosen."""
        return not self.experiments or row.experiment in self.experiments


def settings(config):
    """Settings from Snakemake's config. Raises UserError for an unknown key and a value of the wrong kind."""
    known = [f.name for f in fields(Settings) if f.name != "file"]
    for key in config:
        if key not in known:
            raise did_you_mean(key, known, "config key")
    read = Settings(**{key: _read(key, value) for key, value in config.items() if key not in FOLDERS})
    read = replace(read, **{key: _folder(key, config) for key in FOLDERS})
    own_datasets.look_in(Path(read.data))
    read = _with_file(read)
    for name in read.experiments or (experiments.DEFAULT,):
        experiments.experiment(name, read.set)
    if read.precision != "fp32" and read.engine == "caffe":
        raise UserError(f"config precision={read.precision}: Caffe computes in fp32 only, use engine=torch")
    return read


def _with_file(read):
    """Settings with what the TOML file says that their `experiments` names."""
    files = [name for name in read.experiments if name.endswith(SUFFIX)]
    if not files:
        return read
    if len(read.experiments) > 1:
        raise UserError(f"config experiments={','.join(read.experiments)}: {files[0]} is run by itself: name it alone")
    found = experiment_file.named(files[0], read.set)
    targets.check_name(found)
    return replace(read, experiments=(found.experiment,), set=found.settings, file=found)


def _folder(key, config):
    """The folder of a key: its value in --config, else the default."""
    path = config.get(key, default_folder(FOLDERS[key]))
    # Braces are Snakemake's wildcards, and it takes neither a line break nor a space at an end for part of a name.
    text = "" if path is None else str(path)
    if not isinstance(path, str | Path) or not text.isprintable() or re.search(r"^$|^[\s-]|\s$|[{}]", text):
        raise UserError(
            f"config {key}={text!r}: expected a folder's name, without {{ and }}, and no - or space before it: choose another"
        )
    if Path.cwd() == ROOT and os.access(ROOT, os.W_OK):
        return text if key in config else shown(path)
    return str(Path(path).absolute())


def _read(key, value):
    if key in ("experiments", "set"):
        return tuple(
            value if isinstance(value, list) else str(value).replace(",", " " if key == "experiments" else ",").split()
        )
    if key in ("engine", "precision"):
        known = choice.ENGINES if key == "engine" else choice.PRECISIONS
        if value not in known:
            raise UserError(f"config {key}={value}: known are {', '.join(known)}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if key == "scale" and number and 0 < value <= 1:
        return float(value)
    bounds = {"nets": (1, NETS), "seed": (0, 2**31 - 1)}.get(key)
    if bounds and isinstance(value, int) and number and bounds[0] <= value <= bounds[1]:
        return value
    expected = f"{bounds[0]} to {bounds[1]}" if bounds else "more than 0 and at most 1"
    raise UserError(f"config {key}={value}: expected {expected}")


class Workflow:
    """The stages that the targets need under some Settings, each once, by folder relative to the runs folder."""

    def __init__(self, settings):
        self.settings = settings

    @cached_property
    def targets(self):
        """{name: [last stages]}: tables and figures with a row of a chosen experiment, and each chosen experiment by its
        name, with every method that the paper reports of it."""
        s = self.settings
        found = {}
        if s.file:
            rows = (Row("", s.file.experiment, m) for m in ("", "baseline", *s.file.methods))
            found[s.file.name] = self._last_stages(rows)
            return {name: [self._changed(stage) for stage in stages] for name, stages in found.items()}
        for name, target in targets.TARGETS.items():
            rows = tuple(row for row in target.rows if s.chosen(row) and self._trainable(row))
            if rows:
                found[name] = replace(target, rows=rows).stages(s.nets, s.scale, s.seed)
        for name in s.experiments or experiments.EXPERIMENTS:
            e = experiments.named(name)
            rows = (Row("", name, m) for m in ("", "baseline", *e.methods))
            found[name] = self._last_stages(rows)
            weights = f"{name}-weights"
            learned = (
                [row for row in targets.WEIGHTS[weights].rows if row.method in e.methods]
                if weights in targets.WEIGHTS
                else []
            )
            if learned:
                found[weights] = [x for row in learned for x in row.stages(s.nets, s.scale, s.seed)]
        return {name: [self._changed(stage) for stage in stages] for name, stages in found.items()}

    def check(self):
        """Raises UserError for what a chosen experiment cannot have: a method whose classes or widths do not fit, a rate that falls
        after the end. Snakemake itself would show the error of a rule with its traceback."""
        chosen = (self.settings.file.name,) if self.settings.file else self.settings.experiments
        for stage in (needed for name in chosen for last in self.targets[name] for needed in lineage(last)):
            stage.check()
            _ = stage.schedule

    def _last_stages(self, rows):
        s = self.settings
        return [stage for row in filter(self._trainable, rows) for stage in row.stages(s.nets, s.scale, s.seed)]

    def _trainable(self, row):
        """Whether the engine has all that a rows.Row needs; one that it has not stays a row of dashes."""
        try:
            for stage in row.stages(1):
                beside.check(stage, self.settings.engine, (0,) if gpus_a_job(self.settings.engine) else ())
        except UserError:
            return False
        return True

    def _changed(self, stage):
        return replace(stage, experiment=experiments.experiment(stage.experiment.name, self.settings.set))

    @cached_property
    def stages(self):
        """{folder: Stage} of everything that a target needs. A stage that several experiments share is that of the first:
        the papers' tables come before what is said in addition, such as the transfer to another task."""
        found = {}
        for last in (stage for stages in self.targets.values() for stage in stages):
            for needed in lineage(last):
                found.setdefault(self.folder(needed), needed)
        return found

    def folder(self, stage):
        """Of a stage, from the runs folder."""
        return str(stage.group / stage.name)

    def kinds(self):
        """{kind: [folders]} in the order in which they are trained."""
        return {
            kind: found
            for kind in methods.KINDS
            if (found := [folder for folder, stage in self.stages.items() if stage.kind == kind])
        }

    def marker(self, stage):
        """The file that stands for a finished stage (DONE)."""
        return f"{self.settings.runs}/{self.folder(stage)}/{DONE}"

    def done(self, target):
        """The markers of the last stages of a target."""
        return [self.marker(stage) for stage in self.targets[target]]

    def forget_lost(self):
        """Removes the markers of stages whose record is gone: they are trained again, not left out of the tables."""
        for stage in self.stages.values():
            marker = Path(self.marker(stage))
            if marker.exists() and not marker.with_name("record.json").exists():
                marker.unlink()

    def inputs(self, folder):
        """What must be there before a stage is trained: its data set, and its parents."""
        stage = self.stages[folder]
        datasets = dict.fromkeys(needed.experiment.dataset for needed in lineage(stage))
        found = [*map(self.manifest, datasets), *map(self.marker, stage.parents.values())]
        return [*found, self.index(stage.experiment.dataset)] if stage.declared.indexed else found

    def manifest(self, dataset):
        """The file that stands for a built data set."""
        return f"{self.settings.data}/{dataset}/manifest.json"

    def index(self, dataset):
        """The file that stands for the index of its training images (INDEXED)."""
        return f"{self.settings.data}/{dataset}/{INDEXED}"

    def datasets(self):
        """The names of those that the stages are trained on."""
        return sorted({stage.experiment.dataset for stage in self.stages.values()})

    def words(self, folder):
        """The arguments of run_stage.py for a stage, quoted for a shell."""
        s, stage = self.settings, self.stages[folder]
        words = ["--experiment", stage.experiment.name]
        words += ["--stage", stage.kind] + (["--method", stage.method] if stage.method else [])
        words += ["--step", str(stage.part.step)] if stage.part.step else []
        words += ["--net", str(stage.net)] if stage.net else []
        words += ["--scale", number_text(stage.scale), "--seed", str(stage.seed)]
        words += ["--engine", s.engine, "--precision", s.precision]
        words += [word for change in s.set for word in ("--set", change)]
        words += ["--runs", s.runs, "--data", f"{s.data}/{stage.experiment.dataset}"]
        if stage.experiment.teacher_dataset:
            words += ["--teacher-data", f"{s.data}/{stage.experiment.teacher_dataset}"]
        return shlex.join([*words, "--wait"])

    def fingerprint(self, folder):
        """Changes with the stage's network and solver, so that Snakemake asks run_stage.py again after an update. The same for each of
        its nets, for which a network is built once."""
        stage = of_net_1(self.stages[folder])
        whole = b"".join(stage.messages()) + repr(stage.beside).encode()
        return hashlib.sha256(whole).hexdigest()[:16]

    def made_of(self, target):
        """What make_tables.py makes a target of: its name, or the path of its file, quoted for a shell."""
        file = self.settings.file
        return shlex.quote(str(file.path)) if file and target == file.name else target

    def table_words(self):
        """The arguments of make_tables.py that choose these runs and no others."""
        s = self.settings
        words = ["--runs", s.runs, "--out", s.out, "--scale", number_text(s.scale), "--seed", str(s.seed)]
        words += ["--engine", choice.label(s.engine, s.precision)]
        words += [word for change in s.set for word in ("--set", change)]
        return shlex.join(words)


def gpus_a_job(engine):
    """1 where the engine was built for GPUs and one is here. On a cluster, where it is elsewhere, the profile says so."""
    return int(bool(choice.gpus(engine)))
