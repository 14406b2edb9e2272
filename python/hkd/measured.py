"""The measured results that are kept with the project: from the records under `records/` every other file of the folder.

records/ENGINE is a folder of runs as run_stage.py leaves it, without weights: record and log of every stage that was
finished, and its answers on the test set (0.4 MB) where a table has an ensemble of them. ENGINE is what the record says. Tables,
figures, claims and the report are of one engine, the main one; the others are compared with it.
"""

import shutil
import statistics
from collections import defaultdict
from pathlib import Path

from scipy import stats

from hkd import cells, claims, ensembles, experiments, figures, paper, plans, records, report, tables
from hkd.cli import UserError
from hkd.data import shown
from hkd.files import write_whole
from hkd.rows import TITLES, Row
from hkd.tables import DASH, Line
from hkd.targets import TARGETS

KEPT = ("record.json", records.LOG)
MAIN = "torch"  # by default: on a CPU the fastest
PLAIN = cells.Choice(settings=())  # the paper's settings


def collect(runs, folder):
    """Copies the records of every finished stage under `runs` to folder/records; returns their number. A stage that is there
    already with another record is an error: nothing that was measured is replaced."""
    found, of_ensembles = 0, _of_ensembles()
    for path in sorted(Path(runs).glob("*/*/*/record.json")):
        if cells.SET_ASIDE.search(path.parent.name):
            continue
        record = records.read_record(path.parent)
        kept = Path(folder) / "records" / record.get("engine", "caffe") / Path(*path.parent.parts[-3:])
        before = records.read_record(kept)
        if before is not None and before != record:
            raise UserError(f"{shown(kept)} has another record than {shown(path.parent)}: delete the one that is wrong")
        kept.mkdir(parents=True, exist_ok=True)
        answers = [ensembles.FILE] if (record["dataset"], record["stage"]) in of_ensembles else []
        for name in (*KEPT, *answers):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, kept / name)
        found += 1
    if not found:
        raise UserError(
            f"no finished stage in {shown(Path(runs))}: see run_stage.py --status --runs {shown(Path(runs))}"
        )
    return found


def _of_ensembles():
    """(data set, stage) of every stage that some table has an ensemble of."""
    rows = [row for target in TARGETS.values() if target.ensembles for row in target.rows]
    stages = [stage for row in rows for stage in row.stages(tables.NETS)]
    return {(stage.experiment.dataset, stage.name) for stage in stages}


def pages(folder, main):
    """{file name: content} of what is made from folder/records, with `main` as the main engine. Raises UserError where there
    is no record of it."""
    folder = Path(folder) / "records"
    plain = cells.Runs(folder / main, PLAIN)
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
            made[f"{name}.md"] = tables.comparison_markdown(name, found)
            made[f"{name}.csv"] = tables.as_csv(name, "Pc", found, with_ensembles=False)
    verdicts = claims.check(plain)
    made |= {"claims.md": claims.markdown(verdicts), "claims.csv": claims.as_csv(verdicts)}
    made["softened-term.md"] = softened_term(folder / main)
    made["engines.md"] = engines(folder, main)
    made["runs.md"] = every_run(folder)
    made["report.html"] = report.page(plain)
    return made


def _taught(row):
    """Whether a method needs the experiment's teacher: other rows are shared with whatever has the same student or teacher."""
    return row.method != "" and any(stage.kind == "teacher" for stage in plans.lineage(row.stages(1)[0]))


def rendered(target, runs, pictures=("svg", "png"), with_ensembles=True):
    """{file name: content} of a table or a figure (rows.Target) from `runs` (cells.Runs)."""
    if target.form == "table":
        found = tables.lines(target, runs)
        csv = tables.as_csv(target.name, target.measure, found, with_ensembles)
        return {f"{target.name}.md": tables.markdown(target, found), f"{target.name}.csv": csv}
    return {f"{target.name}.{kind}": figures.rendered(figures.draw(target, runs), kind) for kind in pictures}


def write(folder, files):
    """Writes `files` into the folder, and takes away what an earlier time made there and this one does not."""
    folder = Path(folder)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_whole(folder / name, content)


# --- what no table of a paper asks ----------------------------------------------------------------------------------------------


def softened_term(folder):
    """KD with the softened term as equation (2) has it, and multiplied by tau squared, as Markdown."""
    rows, axis = [], paper.FIGURE_4_TEST_LOSS
    for name in experiments.EXPERIMENTS:
        row = Row(TITLES["kd"], name, "kd")
        for changes, words in (((), "lambda"), (("kd_tau_squared=true",), "lambda tau squared")):
            runs = cells.Runs(folder, cells.Choice(settings=changes))
            line = Line(row, tuple(runs.cell(f"softened term of {name}", row.stages(tables.NETS))), "Pc")
            if line.done:
                ends = [[log for log in run.log() if "test_loss" in log][-1] for run in line.done]
                losses = [tables.mean_sd([end[key] for end in ends], 3) for key in _TEST_LOSSES]
                rows.append((name, words, *losses, tables.mean_sd(line.values()), str(len(line.done))))
    return _markdown(
        "KD with the weight of equation (2), and with tau squared",
        ("experiment", "weight of the softened term", *_TEST_LOSSES.values(), "Pc (%)", "n"),
        rows,
        "Mean ± standard deviation of the nets at their last iterate. The test loss is that of the log: hard term plus weight "
        "times softened term; the two terms beside it are without weight. The axis of the paper's Figure 4 goes from "
        f"{axis[0]} to {axis[1]}.",
    )


_TEST_LOSSES = {"test_loss": "test loss", "test_hard": "hard term", "test_soft": "softened term"}


def engines(folder, main):
    """The same method in another engine, beside the nets of `main`, as Markdown."""
    rows = []
    mine = cells.Runs(folder / main, PLAIN)
    for path in sorted(folder.iterdir()):
        if path.name == main:
            continue
        theirs = cells.Runs(path, PLAIN)
        for name in experiments.EXPERIMENTS:
            for method in TITLES:
                row = Row(TITLES[method], name, method)
                other, own = (
                    Line(row, tuple(runs.cell(f"{row.heading} of {name}", row.stages(tables.NETS))), "Pc")
                    for runs in (theirs, mine)
                )
                if other.done:
                    rows.append((name, row.heading, path.name, *_beside(other, own)))
    return _markdown(
        f"The same stages in another engine, beside {main}",
        (
            "experiment",
            "method",
            "engine",
            "Pc (%), its nets",
            f"Pc (%), nets of {main}",
            "mean ± sd",
            "difference",
            "in sd",
            "p",
        ),
        rows,
        f"Difference: the other engine's mean less that of {main}; in sd: divided by the standard deviation of the nets of "
        f"{main}. p: two-sided Student's t-test with one variance for both, which takes a single net too. The engines draw other crops and "
        "mirrors in every stage, the nets of one engine share stage 1: they differ by more than two nets of one engine do.",
    )


def _beside(other, own):
    nets = [", ".join(f"{value:.2f}" for value in line.values()) or DASH for line in (other, own)]
    if not own.done:
        return (*nets, *[DASH] * 4)
    difference = statistics.mean(other.values()) - statistics.mean(own.values())
    spread = statistics.stdev(own.values()) if len(own.done) > 1 else 0
    return (
        *nets,
        tables.mean_sd(own.values()),
        f"{difference:+.2f}",
        f"{difference / spread:+.1f}" if spread else DASH,
        tables.p_text(_p_of_one_variance(other.values(), own.values())) or DASH,
    )


def _p_of_one_variance(a, b):
    """p of Student's t-test, or None without any spread. SciPy's own takes no sample of one."""
    spreads = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (a, b)]
    if not any(spreads):
        return None
    of_a, of_b = ((statistics.mean(values), sd, len(values)) for values, sd in zip((a, b), spreads, strict=True))
    return float(stats.ttest_ind_from_stats(*of_a, *of_b).pvalue)


def every_run(folder):
    """Every record, one line a stage, as Markdown: nothing that was measured is left out."""
    rows, seconds = [], defaultdict(float)
    for path in sorted(folder.glob("*/*/*/*/record.json")):
        r = records.read_record(path.parent)
        name = r.get("engine", "caffe")
        seconds[name] += r["seconds"]
        Pc = (f"{r['Pc']['last']:.2f}", f"{r['Pc']['best']:.2f}") if r["Pc"] else (DASH, DASH)
        rows.append(
            (
                "/".join(path.parent.parts[-3:]),
                name,
                f"{r['iterations']:,}",
                *Pc,
                f"{r['test_loss']:.4g}",
                f"{r['seconds']:,.0f}",
                str(r["sessions"]),
                r["versions"]["hkd-caffe"] or "unknown",
                r["digests"][records.FINAL][:12],
            )
        )
    hours = ", ".join(f"{name} {total / 3600:.1f} hours" for name, total in sorted(seconds.items()))
    return _markdown(
        "Every run that was made",
        (
            "stage",
            "engine",
            "iterations",
            "Pc last (%)",
            "Pc best (%)",
            "test loss",
            "seconds",
            "sessions",
            "version",
            "weights",
        ),
        rows,
        f"{len(rows)} stages; {hours}, on shared cores. Sessions: how often it was started until it was finished. Version: "
        f"the commit of this project. Weights: the head of the sha256 of {records.FINAL}.",
    )


def _markdown(title, heads, rows, below):
    if not rows:
        return f"### {title}\n\nNothing of it was run.\n"
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([f"### {title}", "", *lines, "", below]) + "\n"
