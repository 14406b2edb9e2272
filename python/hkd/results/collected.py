"""The measured results that are kept with the project: from the records under `records/` every other file of the folder.

records/ENGINE is a folder of runs as run_stage.py leaves it, without weights: record and log of every stage that was
finished, and its answers on the test set (0.4 MB) where a table has an ensemble of them. ENGINE is what the record says, and
torch-after-caffe where the stage before was the other engine's. records/side-by-side has what compare_torch.py --losses wrote
(engines_apart). A page has a table for each length of training, the longest first (kept).
"""

import re
import shutil
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import shown, write_whole
from hkd.engines import choice
from hkd.paper import datasets, experiments
from hkd.results import ablations, claims, experiment_table, figures, lines, report, tables
from hkd.results.checks import check_log, check_place
from hkd.results.engines_apart import engines_apart, kept_curves, picture
from hkd.results.kept import AFTER, Kept
from hkd.results.open_choices import open_choices
from hkd.results.runs import SET_ASIDE
from hkd.results.sheet import as_csv, markdown
from hkd.results.targets import TARGETS
from hkd.results.variation import variation
from hkd.results.views import every_experiment, names_of
from hkd.stages import own_data, records
from hkd.stages.answers import FILE

KEPT = ("record.json", records.LOG)
ABLATIONS = {
    "softened-term": ablations.softened_term,
    "sl-resnet-fc": ablations.sl_resnet_fc,
    "engines": ablations.engines,
    "engines-apart": engines_apart,
    "precision": ablations.precision,
    "variation": variation,
    "open-choices": open_choices,
}


def collect(runs, folder):
    """Copies the records of every finished stage under `runs` to folder/records; returns their number. A stage that is there
    already with another record is an error: nothing that was measured is replaced. All is checked before anything is copied."""
    found, of_ensembles = [], _of_ensembles()
    for path in sorted(Path(runs).glob("*/*/*/record.json")):
        if SET_ASIDE.search(path.parent.name):
            continue
        record = _checked(path.parent)
        kept = Path(folder) / "records" / _trained_by(path.parent, record) / Path(*path.parent.parts[-3:])
        before = records.read_record(kept)
        if before is not None and before != record:
            raise UserError(f"{shown(kept)} has another record than {shown(path.parent)}: delete the one that is wrong")
        answers = [FILE] if (record["dataset"], record["stage"]) in of_ensembles else []
        found.append((path.parent, kept, (*KEPT, *answers)))
    for source, kept, names in found:
        kept.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (source / name).exists():
                shutil.copyfile(source / name, kept / name)
    return len(found)


def _checked(folder):
    """The record in `folder`, with a log that is its own, both as run_stage.py writes them: what it says becomes a folder's name."""
    record = records.read_record(folder)
    check_place(folder, record)
    check_log(folder, record)
    where = shown(folder / "record.json")
    for name in records.engine(record).split("+"):
        if name not in choice.LABELS and not choice.MANY_GPUS.fullmatch(name):
            raise UserError(f"{where}: engine {record['engine']} is none of this project's: {', '.join(choice.LABELS)}")
    own_data.declare(record)
    try:
        experiments.named(record["experiment"])
        datasets.dataset(record["dataset"])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for number, line in enumerate((folder / records.LOG).read_bytes().splitlines(), 1):
        try:
            records.LINE.parse(line)
        except ValueError as error:
            raise UserError(f"{shown(folder / records.LOG)}, line {number}: {error}: copy it again") from None
    return record


def _trained_by(folder, record):
    """The engine of a stage: torch; torch-after-caffe where the student's stage before it is another engine's."""
    engine, student = records.engine(record), record["parents"].get("student")
    before = records.read_record(folder.with_name(student["stage"])) if isinstance(student, dict) else None
    return engine if before is None or records.engine(before) == engine else f"{engine}{AFTER}{records.engine(before)}"


def _of_ensembles():
    """(data set, stage) of every stage that some table has an ensemble of."""
    rows = [row for target in TARGETS.values() if target.ensembles for row in target.rows]
    stages = [stage for row in rows for stage in row.stages(lines.NETS)]
    return {(stage.experiment.dataset, stage.name) for stage in stages}


def kept_in(folder, engine=None):
    """The Kept of folder/records. engine: as Kept takes it. Raises UserError where there is no record."""
    return Kept(Path(folder) / "records", engine)


def pages(kept):
    """{file name: content} of what is made from the records of a Kept."""
    views, made = kept.views, {}
    for target in _run_targets(views):
        # No PNG: its bytes depend on the version of the library that packs them.
        made |= rendered(target, views, pictures=("svg",), with_ensembles=target.ensembles)
    for name in _run_experiments(views):
        made |= compared(name, views, with_ensembles=False)
    made |= claimed(views)
    for name, sheet_of in ABLATIONS.items():
        made[f"{name}.md"] = markdown(sheet_of(kept))
    if kept_curves(kept):
        made["engines-apart.svg"] = picture(kept)
    made["runs.md"] = markdown(ablations.every_run(kept.folder))
    made["report.html"] = report.page(views)
    return made


def sheets(kept):
    """{name: [Sheet]} of the tables in `pages`, in their order."""
    found = {one.name: _of_target(one, kept.views) for one in _run_targets(kept.views) if one.form == "table"}
    found |= {name: _of_experiment(name, kept.views) for name in _run_experiments(kept.views)}
    found |= {name: [sheet_of(kept)] for name, sheet_of in ABLATIONS.items()}
    return found | {"claims": [claims.sheet(claims.check(kept.views))]}


def _run_targets(views):
    """The tables and figures of which something was run."""
    return [target for target in TARGETS.values() if figures.was_run(target, views)]


def _run_experiments(views):
    """The experiments of which something with a teacher was run."""
    return [
        one.name
        for one in every_experiment(views)
        if any(lines.taught(experiment_table.lines(one.name, view.runs)) for view in views)
    ]


def _of_target(target, views):
    found = lines.sections(views, lambda runs: lines.of_target(target, runs))
    return [tables.sheet(target, same, view.words) for view, same in found]


def _of_experiment(experiment, views, methods=()):
    found = lines.sections(views, lambda runs: experiment_table.lines(experiment, runs, methods))
    return [experiment_table.sheet(experiment, same, view.words) for view, same in found]


def rendered(target, views, pictures=("svg", "png"), with_ensembles=True):
    """{file name: content} of a table or a figure (rows.Target) from [views.View]: a page of tables, or pictures, of which all but the
    first are named by their length."""
    if target.form != "table":
        return {
            f"{name}.{kind}": figures.picture(target, view.runs, kind)
            for name, view in names_of(target.name, figures.sections(target, views))
            for kind in pictures
        }
    found = lines.sections(views, lambda runs: lines.of_target(target, runs))
    numbers = [tables.numbers(target.name, target.measure, same, with_ensembles) for _, same in found]
    return {f"{target.name}.md": markdown(*_of_target(target, views)), f"{target.name}.csv": as_csv(*numbers)}


def compared(experiment, views, with_ensembles=True, methods=(), name=None):
    """{file name: content} of the methods of an experiment side by side, of all or of `methods`; name: of the files, where they are not
    the experiment's."""
    name = name or experiment
    found = lines.sections(views, lambda runs: experiment_table.lines(experiment, runs, methods))
    numbers = [tables.numbers(name, "Pc", same, with_ensembles) for _, same in found]
    return {f"{name}.md": markdown(*_of_experiment(experiment, views, methods)), f"{name}.csv": as_csv(*numbers)}


def claimed(views):
    """{file name: content} of the claims."""
    verdicts = claims.check(views)
    return {"claims.md": markdown(claims.sheet(verdicts)), "claims.csv": as_csv(claims.numbers(verdicts))}


def write(folder, files):
    """Writes `files` into the folder, and takes away what an earlier time made there and this one does not."""
    folder = Path(folder)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files and _is_ours(path.name):
            path.unlink()
    for name, content in files.items():
        write_whole(folder / name, content)


def _is_ours(name):
    """Whether a file of that name may be one of `pages`: others belong to whoever put them there."""
    stem, dot, kind = name.rpartition(".")
    known = {*TARGETS, *experiments.EXPERIMENTS, "claims", "runs", "report", *ABLATIONS}
    return dot and kind in ("md", "csv", "svg", "html") and re.sub(r"-(full|scale[\d.e-]+)-seed\d+$", "", stem) in known
