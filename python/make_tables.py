"""The paper's tables and figures, its claims and a report, from the records of finished stages alone.

python python/make_tables.py [--runs runs] [--out results]             everything
python python/make_tables.py table1 figure9 --scale 0.01               some of it
python python/make_tables.py --check                                   which of the paper's claims the records show
python python/make_tables.py --cost --rate 20                          iterations, multiply-adds, hours of every target
python python/make_tables.py --cost --measure --jobs 2 table3          the hours at the rate of this machine
python python/make_tables.py --experiment fashion-mnist-r14-r8         the methods of one experiment side by side
python python/make_tables.py --measured results/measured               what is kept with the project, from its records
python python/make_tables.py --measured results/measured --weights results/weights --lay runs    go on from what is kept
python python/make_tables.py fashion-mnist-r14-r8-weights              hint-dynamic KD's weights over its iterations
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hkd.base.cli import Parser, UserError, default_folder, did_you_mean, run, use_project_python

if __name__ == "__main__":
    use_project_python()

from hkd.base import python
from hkd.base.files import shown, write_whole
from hkd.engines import choice
from hkd.paper import experiment_file, experiments
from hkd.results import (
    canvas,
    claims,
    collected,
    cost,
    experiment_table,
    learning_curves,
    page_tables,
    report,
    speed,
    weights,
)
from hkd.results.lines import NETS
from hkd.results.runs import Choice, Runs
from hkd.results.sheet import markdown
from hkd.results.targets import TARGETS, WEIGHTS, check_name
from hkd.results.views import View
from hkd.stages import own_data

OF_EXPERIMENTS = (*experiments.EXPERIMENTS, *WEIGHTS)
NAMES = (*TARGETS, "claims", "report", *OF_EXPERIMENTS)


CHOICE = ("scale", "seed", "engine", "set")
MODES = {
    "measured": ("collect", "weights", "lay", "pages", "engine"),
    "check": ("runs", *CHOICE),
    "cost": ("names", "scale", "nets", "rate", "measure", "jobs", "engine"),
    "experiment": ("runs", "out", *CHOICE),
    "": ("names", "runs", "out", *CHOICE),
}
"""What goes with --measured, --check, --cost, --experiment, and with none of them."""
DEFAULTS = dict.fromkeys((*filter(None, MODES), *(key for keys in MODES.values() for key in keys))) | {
    "names": [],
    "runs": default_folder("runs"),
    "out": default_folder("results"),
    "rate": 10.0,
    "jobs": 1,
    "nets": NETS,
}
OF_MEASURE = ("jobs", "engine")


def parser():
    p = Parser(
        description="The paper's tables, figures and claims, and a report, from records alone.",
        argument_default=argparse.SUPPRESS,  # what was given is told from what was not
    )
    p.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all but the experiments'")
    p.add_argument("--experiment", help="the methods of one experiment side by side: comparison.md and accuracy.png")
    p.add_argument(
        "--measured",
        type=Path,
        metavar="FOLDER",
        help="make everything in FOLDER from FOLDER/records, where --collect put them; --engine: the engine of its tables",
    )
    p.add_argument("--collect", type=Path, metavar="RUNS", help="of --measured: first copy the records of RUNS there")
    p.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="of --collect: keep the weights of teachers, and of stages 1 and proposed students of the paper's own length, and the last "
        "snapshot of its unfinished stages, in FOLDER",
    )
    p.add_argument(
        "--lay",
        type=Path,
        metavar="RUNS",
        help="of --weights: only lay the teachers, stages 1 and unfinished stages of FOLDER, with their records, into RUNS, for runs to go on",
    )
    p.add_argument(
        "--pages",
        type=Path,
        nargs="+",
        metavar="PAGE",
        help="of --measured: renew the tables in these pages, each under a comment <!-- results/measured/table4.md: full length -->",
    )
    p.add_argument("--check", action="store_true", help="print the table of claims")
    p.add_argument("--cost", action="store_true", help="print what every target costs")
    p.add_argument("--rate", type=float, metavar="IT/S", help="of --cost: iterations a second; default 10")
    p.add_argument(
        "--measure",
        action="store_true",
        help="of --cost: measure the rate of every kind of stage here, with --engine, a few seconds each",
    )
    p.add_argument("--jobs", type=int, help="of --cost --measure: jobs of one thread at a time; default 1")
    p.add_argument("--nets", type=int, help="of --cost: nets of each method; default 3")
    p.add_argument("--runs", type=Path, help="where the stages are kept; default $HKD_RUNS, else runs")
    p.add_argument("--out", type=Path, help="where to write; default $HKD_RESULTS, else results")
    p.add_argument("--scale", type=float, help="only runs of this scale; default: whatever is there, if it is one")
    p.add_argument("--seed", type=int, help="only runs of this seed")
    p.add_argument("--engine", help="only runs of this engine")
    p.add_argument(
        "--set", action="append", metavar="SETTING=VALUE", help="only runs with these settings, and the paper's others"
    )
    return p


def read_options():
    """The command line with its defaults. Raises UserError for arguments that do not go together: none is left unread."""
    given = {key: value for key, value in vars(parser().parse_args()).items() if value not in ([], None)}
    modes = [mode for mode in MODES if mode in given]
    if len(modes) > 1:
        raise UserError(f"--{modes[0]} and --{modes[1]} do not go together: give one of them")
    mode = modes[0] if modes else ""
    for key in given:
        if key in ("runs", "out") and mode in ("check", "cost") and key not in MODES[mode]:
            print(f"note: --{mode} does not use --{key}", file=sys.stderr)
        elif key != mode and key not in MODES[mode]:
            raise UserError(_stray(key, given[key], mode))
    if mode == "cost":
        for key in OF_MEASURE if "measure" not in given else ():
            if key in given:
                raise UserError(f"--{key} does not go with --cost alone: add --measure, or leave it out")
        if "measure" in given and "rate" in given:
            raise UserError("--rate does not go with --measure, which measures it: leave one of them out")
    return argparse.Namespace(**DEFAULTS | given)


def _stray(key, value, mode):
    """The line for an argument that says nothing in a mode."""
    word = value[0] if key == "names" else f"--{key}"
    if not mode:
        (owner,) = (owner for owner, keys in MODES.items() if key in keys)
        return f"{word} is of --{owner}{' FOLDER' * (owner == 'measured')}: add that, or leave it out"
    taken = ["NAME" if one == "names" else f"--{one}" for one in MODES[mode]]
    return f"{word} does not go with --{mode}, which takes {', '.join(taken)}: leave it out"


def main():
    options = read_options()
    own_data.declare_under(options.runs)
    for name in options.names:
        if name not in NAMES and not experiments.is_pair(name) and not name.endswith(experiment_file.SUFFIX):
            raise did_you_mean(name, NAMES, "table or figure")
    if options.cost:
        return print_cost(options)
    if options.measured:
        return make_measured(options)
    settings = None if options.set is None else tuple(options.set)
    asked = experiment_file.named(
        options.experiment or _file_among(options.names) or experiments.DEFAULT, settings or ()
    )
    experiments.experiment(asked.experiment, asked.settings)
    settings = asked.settings or settings
    runs = Runs(options.runs, Choice(options.scale, options.seed, options.engine, settings))
    if options.check:
        print(markdown(claims.sheet(claims.check([View(runs)]))))
        return 0
    if options.experiment:
        return print_comparison(options, asked, runs)
    # Everything is made before anything is written: what is refused leaves the last results as they were.
    files = {}
    for name in options.names or [name for name in NAMES if name not in OF_EXPERIMENTS]:
        files |= made(name, runs)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(options.out / name, content)
    print(f"{len(files)} files in {shown(options.out)}: {', '.join(files)}")
    return 0


def _file_among(names):
    """The experiment file among what is to be made, None without one. Raises UserError for one among others: its settings choose the
    runs of all."""
    files = [name for name in names if name.endswith(experiment_file.SUFFIX)]
    if files and len(names) > 1:
        raise UserError(
            f"{files[0]}: an experiment file is made by itself: leave {names[0] if names[0] != files[0] else names[1]} out"
        )
    return files[0] if files else None


def made(name, runs):
    """{file name: content} of a table, a figure, an experiment's comparison, the claims or the report."""
    views = [View(runs)]
    if name.endswith(experiment_file.SUFFIX):
        written = experiment_file.read(name)
        check_name(written)
        return collected.compared(written.experiment, views, methods=written.methods, name=written.name)
    if name == "claims":
        return collected.claimed(views)
    if name == "report":
        return {"report.html": report.page(views)}
    if name not in TARGETS | WEIGHTS:
        return collected.compared(name, views)
    return collected.rendered((TARGETS | WEIGHTS)[name], views)


def lay(options):
    if not options.weights:
        raise UserError("--lay lays what --weights FOLDER has: add that")
    if options.collect or options.pages:
        raise UserError("--lay makes no tables: leave --collect and --pages out")
    laid = weights.lay(options.measured, options.weights, options.lay, options.engine)
    print(f"{len(laid)} stages in {shown(options.lay)}" + "".join(f"\n  {name}" for name in laid))
    return 0


def make_measured(options):
    if options.lay:
        return lay(options)
    if options.collect:
        count = collected.collect(options.collect, options.measured)
        begun = weights.keep(options.collect, options.weights) if options.weights else []
        if not count and not begun:
            runs = shown(options.collect)
            raise UserError(f"no finished stage in {runs}: see run_stage.py --status --runs {runs}")
        unfinished = f", and {len(begun)} unfinished: {', '.join(begun)}" if begun else ""
        print(f"{count} records from {shown(options.collect)}{unfinished}")
    kept = collected.kept_in(options.measured, options.engine)
    # First: drawing takes longer.
    texts = page_tables.renewed(options.pages, collected.sheets(kept)) if options.pages else {}
    files = collected.pages(kept)
    collected.write(options.measured, files)
    for page, text in texts.items():
        write_whole(page, text)
    if options.weights:
        options.weights.mkdir(parents=True, exist_ok=True)
        write_whole(options.weights / "README.md", weights.page(options.weights, options.measured))
    print(f"{len(files)} files in {shown(options.measured)}: {', '.join(files)}")
    return 0


def print_comparison(options, asked, runs):
    found = experiment_table.lines(asked.experiment, runs, asked.methods)
    if not any(line.done for line in found):
        chosen = "" if options.scale is None else f" at scale {options.scale:g}"
        raise UserError(
            f"no finished stage of {options.experiment}{chosen} in {options.runs}: see python python/run_stage.py --status "
            f"--runs {options.runs}"
        )
    text = markdown(experiment_table.sheet(asked.experiment, found))
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    table, picture = options.out / "comparison.md", options.out / "accuracy.png"
    title = "\n".join(filter(None, experiment_table.heading(asked.experiment, found)))
    write_whole(picture, canvas.rendered(learning_curves.accuracy_curves(title, found), "png"))
    write_whole(table, text)
    print(f"table: {shown(table)}   figure: {shown(picture)}")
    return 0


def print_cost(options):
    if not (math.isfinite(options.rate) and options.rate > 0):
        raise UserError(f"--rate {options.rate}: expected more than 0 iterations a second")
    if not 1 <= options.nets <= NETS:
        raise UserError(f"--nets {options.nets}: expected 1 to {NETS}")
    for name in options.names:
        if name not in TARGETS:
            raise did_you_mean(name, TARGETS, "table or figure that has a cost")
    scale = 1.0 if options.scale is None else Choice(scale=options.scale).scale
    stages = cost.of_targets(options.names, options.nets, scale)
    if not options.measure:
        print(markdown(cost.sheet(stages, lambda stage: 1 / options.rate, f"{options.rate:g} it/s")))
        return 0
    cores = python.cores()
    if not 1 <= options.jobs <= cores:
        raise UserError(f"--jobs {options.jobs}: expected 1 to {cores}, the cores of this machine")
    engine, precision = choice.read_label(options.engine or choice.default()[0])
    needed = cost.needed_by([stage for found in stages.values() for stage in found])
    seconds = speed.of(needed, engine, precision, options.jobs, lambda line: print(line, file=sys.stderr, flush=True))
    at = f"{options.jobs} job{'s' * (options.jobs > 1)} of one thread here, {choice.label(engine, precision)}"
    print(markdown(cost.sheet(stages, lambda stage: seconds[stage] / options.jobs, at)))
    print("Training alone: without tests, and with a teacher that is asked in every iteration.")
    return 0


if __name__ == "__main__":
    run(main)
