"""The comparison of an experiment, from its records alone: a table on the terminal and in Markdown, and a figure.

python python/make_tables.py --experiment fashion-mnist-r14-r8 --scale 0.0125 [--runs runs] [--out results]
"""

from pathlib import Path

from hkd.cli import ROOT, Parser, UserError, run, use_project_python

if __name__ == "__main__":
    use_project_python()

from hkd import experiments, figures, tables
from hkd.data import shown


def main():
    parser = Parser(description="The comparison of an experiment, from its records alone.")
    parser.add_argument("--experiment", default=experiments.DEFAULT)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    options = parser.parse_args()
    experiment = experiments.experiment(options.experiment, options.set)
    rows = tables.comparison(experiment, options.scale, options.seed, options.runs)
    if not any(row.last for row in rows):
        raise UserError(
            f"no finished stage of {experiment.name} at scale {options.scale:g}, seed {options.seed} in {options.runs}: "
            f"see python python/run_stage.py --status --runs {options.runs}"
        )
    text = tables.markdown(experiment, options.scale, rows)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    table, figure = options.out / "comparison.md", options.out / "accuracy.png"
    table.write_text(text)
    title = text.splitlines()[0].removeprefix("### ").replace(", every", "\nevery")
    figures.accuracy_curves(title, [row for row in rows if row.folders], figure)
    print(f"table: {shown(table)}   figure: {shown(figure)}")


if __name__ == "__main__":
    run(main)
