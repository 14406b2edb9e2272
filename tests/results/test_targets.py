"""What the papers report: their averages, and a row or a target for all of it."""

import re

import pytest

from conftest import ROOT
from hkd.paper import experiments, stated
from hkd.results import targets

PAPERS = [target for name, target in targets.TARGETS.items() if name not in targets.ALL_METHODS]


def test_the_papers_averages():
    """The paper truncates its averages; its own last columns, from tables 1 to 6."""
    printed = {
        "table1": (90.76, 91.15, 90.63, 91.70),
        "table2": (70.83, 71.74, 71.39, 72.82),
        "table3": (0.56, 0.506, 0.57, 0.416),
        "table4": (0.573, 0.56, 0.496, 0.456, 0.39),
        "table5": (91.15, 91.70, 91.21, 92.01),
        "table6": (71.85, 72.65, 72.13, 73.11),
    }
    for name, means in printed.items():
        target = targets.TARGETS[name]
        found = [row.reported_mean for row in target.rows if row.method not in ("", "baseline")]
        assert found == pytest.approx(means, abs=0.011 if target.measure == "Pc" else 0.0011), name


def test_every_row_is_of_an_experiment_that_reports_its_method():
    for target in PAPERS:
        for row in target.rows:
            assert row.method in ("", "baseline", *experiments.EXPERIMENTS[row.experiment].methods), (target.name, row)


def test_every_experiment_of_the_paper_has_a_table_or_figure():
    covered = {row.experiment for target in PAPERS for row in target.rows}
    others = {e.name for e in experiments.EXPERIMENTS.values() if e.reported_in.startswith(("not in", "transfer"))}
    assert covered == set(experiments.EXPERIMENTS) - others
    for e in experiments.EXPERIMENTS.values():
        named = re.findall(r"\d+", e.reported_in)
        assert all(re.search(rf"\b{n}\b", " ".join(t.label for t in targets.TARGETS.values())) for n in named)


def test_no_number_of_the_paper_stands_outside_stated_py():
    numbers = {
        f"{x}" for t in (stated.TABLE_1, stated.TABLE_2, stated.TABLE_5, stated.TABLE_6) for v in t.values() for x in v
    }
    nets = (*stated.FSP_TABLE_1.values(), *stated.FSP_TABLE_2.values())
    numbers |= {f"{x}" for row in nets for x in (*row.Pc, row.ensemble)}
    numbers |= {f"{x}" for t in (stated.FSP_TABLE_3, stated.FSP_TABLE_4) for x in t.values()}
    numbers |= {f"{x}" for x in stated.BASELINE_PC.values()} | {f"{x}" for x in stated.FIGURE_10.values()}
    for path in (ROOT / "python").rglob("*.py"):
        if path.name != "stated.py":
            assert not {n for n in re.findall(r"\b\d\d\.\d\d\b", path.read_text()) if n in numbers}, path
