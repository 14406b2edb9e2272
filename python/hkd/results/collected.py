"""The measured results that are kept with the project: from the records under `records/` every other file of the folder.

records/ENGINE is a folder of runs as run_stage.py leaves it, without weights: record and log of every stage that was
finished, and its answers on the test set (0.4 MB) where a table has an ensemble of them. ENGINE is what the record says, and
torch-after-caffe where the stage before was the other engine's. Tables, figures, claims and the report are of one engine, the
main one; the others are compared with it.
"""

import shutil
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import shown, write_whole
from hkd.paper import experiments
from hkd.results import ablations, claims, figures, report, tables
from hkd.results.runs import SET_ASIDE
from hkd.results.sheet import as_csv, markdown
from hkd.results.targets import TARGETS
from hkd.stages import records
from hkd.stages.answers import FILE
from hkd.stages.stage import lineage

KEPT = ("record.json", records.LOG)
PAGE = "README.md"
"""The page beside the records that is written by hand."""
MAIN = "torch"  # by default: on a CPU the fastest


def collect(runs, folder):
    """Copies the records of every finished stage under `runs` to folder/records; returns their number. A stage that is there
    already with another record is an error: nothing that was measured is replaced."""
    found, of_ensembles = 0, _of_ensembles()
    for path in sorted(Path(runs).glob("*/*/*/record.json")):
        if SET_ASIDE.search(path.parent.name):
            continue
        record = records.read_record(path.parent)
        kept = Path(folder) / "records" / _trained_by(path.parent, record) / Path(*path.parent.parts[-3:])
        before = records.read_record(kept)
        if before is not None and before != record:
            raise UserError(f"{shown(kept)} has another record than {shown(path.parent)}: delete the one that is wrong")
        kept.mkdir(parents=True, exist_ok=True)
        answers = [FILE] if (record["dataset"], record["stage"]) in of_ensembles else []
        for name in (*KEPT, *answers):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, kept / name)
        found += 1
    if not found:
        raise UserError(
            f"no finished stage in {shown(Path(runs))}: see run_stage.py --status --runs {shown(Path(runs))}"
        )
    return found


def _trained_by(folder, record):
    """The engine of a stage: torch; torch-after-caffe where the student's stage before it is another engine's."""
    engine, student = records.engine(record), record["parents"].get("student")
    before = records.read_record(folder.with_name(student["stage"])) if student else None
    return engine if before is None or records.engine(before) == engine else f"{engine}-after-{records.engine(before)}"


def _of_ensembles():
    """(data set, stage) of every stage that some table has an ensemble of."""
    rows = [row for target in TARGETS.values() if target.ensembles for row in target.rows]
    stages = [stage for row in rows for stage in row.stages(tables.NETS)]
    return {(stage.experiment.dataset, stage.name) for stage in stages}


def pages(folder, main):
    """{file name: content} of what is made from folder/records, with `main` as the main engine. Raises UserError where there
    is no record of it."""
    folder = Path(folder) / "records"
    plain = ablations.runs_of(folder / main)
    made = {}
    for target in TARGETS.values():
        if target.form == "hint losses":
            done = any(plain.of(stage) for row in target.rows for stage in row.hint_stages())
        else:
            done = any(line.done and _taught(line.row) for line in tables.lines(target, plain))
        if done:
            # No PNG: its bytes depend on the version of the library that packs them.
            made |= rendered(target, plain, pictures=("svg",), with_ensembles=target.ensembles)
    for name in experiments.EXPERIMENTS:
        found = tables.comparison(name, plain)
        if any(line.done and _taught(line.row) for line in found):
            made |= compared(name, found, with_ensembles=False)
    made |= claimed(claims.check(plain))
    made["softened-term.md"] = markdown(ablations.softened_term(folder / main))
    made["sl-resnet-fc.md"] = markdown(ablations.sl_resnet_fc(folder / main))
    made["engines.md"] = markdown(ablations.engines(folder, main))
    made["precision.md"] = markdown(ablations.precision(folder))
    made["runs.md"] = markdown(ablations.every_run(folder))
    made["report.html"] = report.page(plain)
    return made


def _taught(row):
    """Whether a method needs the experiment's teacher: other rows are shared with whatever has the same student or teacher."""
    return row.method != "" and any(stage.kind == "teacher" for stage in lineage(row.stages(1)[0]))


def rendered(target, runs, pictures=("svg", "png"), with_ensembles=True):
    """{file name: content} of a table or a figure (rows.Target) from `runs` (runs.Runs)."""
    if target.form == "table":
        found = tables.lines(target, runs)
        numbers = tables.numbers(target.name, target.measure, found, with_ensembles)
        return {f"{target.name}.md": markdown(tables.sheet(target, found)), f"{target.name}.csv": as_csv(numbers)}
    return {f"{target.name}.{kind}": figures.rendered(figures.draw(target, runs), kind) for kind in pictures}


def compared(experiment, found, with_ensembles=True):
    """{file name: content} of the methods of an experiment side by side, from their Lines (tables.comparison)."""
    numbers = tables.numbers(experiment, "Pc", found, with_ensembles)
    return {
        f"{experiment}.md": markdown(tables.comparison_sheet(experiment, found)),
        f"{experiment}.csv": as_csv(numbers),
    }


def claimed(verdicts):
    """{file name: content} of the claims (claims.check)."""
    return {"claims.md": markdown(claims.sheet(verdicts)), "claims.csv": as_csv(claims.numbers(verdicts))}


def write(folder, files):
    """Writes `files` into the folder, and takes away what an earlier time made there and this one does not."""
    folder = Path(folder)
    for path in folder.iterdir():
        if path.is_file() and path.name not in (*files, PAGE):
            path.unlink()
    for name, content in files.items():
        write_whole(folder / name, content)
