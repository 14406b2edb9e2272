"""Tables: every number traced to a record, a dash where nothing was run."""

import csv
import json
import re
import statistics

import pytest

from conftest import MAKE, command
from hkd.results import figures, sheet, tables, targets
from hkd.results.lines import of_target
from hkd.results.runs import Runs
from run_folders import rewrite, stage


@pytest.mark.parametrize("name", ["table1", "table4"])
def test_each_number_is_that_of_a_record(name, paper_runs):
    rows = list(csv.DictReader((paper_runs[0] / "out" / f"{name}.csv").open()))
    assert len(rows) == len(targets.TARGETS[name].rows)
    for row in rows:
        folders = [paper_runs[0] / "runs" / path for path in row["folders"].split()]
        assert len(folders) == int(row["n"]) == (1 if row["method"] == "teacher" else 3)
        for which in ("last", "best"):
            Pc = [json.loads((f / "record.json").read_text())["Pc"][which] for f in folders]
            expected = Pc if row["measure"] == "Pc" else [100 - value for value in Pc]
            assert [float(row[f"net{i}_{which}"]) for i in range(1, len(Pc) + 1)] == pytest.approx(expected)
            assert float(row[f"mean_{which}"]) == pytest.approx(statistics.mean(expected))
        if row["paper_mean"]:
            assert float(row["difference"]) == pytest.approx(float(row["mean_last"]) - float(row["paper_mean"]))


def test_the_markdown_says_the_same_and_how_it_was_made(paper_runs):
    text = (paper_runs[0] / "out/table4.md").read_text()
    rows = list(csv.DictReader((paper_runs[0] / "out/table4.csv").open()))
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    for line, row in zip(lines, rows, strict=True):
        assert f"{float(row['mean_last']):.3f}" in line and "(scale 3e-05, batch=8, not the official images)" in line
    assert text.startswith("### Table 4. MNIST, 32 to 8 layers") and "| Pe (%) |" in text
    assert "Engine: caffe (BVLC/caffe@" in text and "Hardware: " in text


def test_images_that_are_not_the_official_ones_are_marked_wherever_a_number_stands(runs, damaged, tmp_path):
    mark, lines = "not the official images", of_target(targets.TARGETS["table4"], runs)
    assert all(mark in line.heading and mark in line.short_heading for line in lines)
    assert mark in figures.draw(targets.TARGETS["figure7"], runs).axes[0].get_title()
    command(MAKE, "report", "claims", "mnist-r32-r8", "--runs", damaged, "--out", tmp_path, check=0)
    page, claimed = ((tmp_path / name).read_text() for name in ("report.html", "claims.md"))
    assert re.search(rf"<figcaption>Figure 7\.[^<]*{mark}", page) and re.search(
        rf"<p class=.warning.>[^<]*{mark}", page
    )
    run = [line for line in claimed.splitlines() if line.startswith("| ") and "3e-05" in line]
    assert run and all(mark in line for line in run)
    rows = [line for line in (tmp_path / "mnist-r32-r8.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert rows and all(mark in line for line in rows)
    # As the same runs on the published images would be:
    for path in damaged.glob("mnist/*/*"):
        rewrite(path, official_data=True)
    (line,) = (x for x in of_target(targets.TARGETS["table4"], Runs(damaged)) if x.row.method == "kd")
    assert line.heading == "KD without hints (scale 3e-05, batch=8)"
    rewrite(stage(damaged, "r32-teacher*"), official_data=False)  # a student of such a teacher is marked too
    (line,) = (x for x in of_target(targets.TARGETS["table4"], Runs(damaged)) if x.row.method == "kd")
    assert mark in line.heading


def test_what_was_not_run_is_a_dash(runs, tmp_path):
    found = of_target(targets.TARGETS["table2"], runs)
    text = sheet.markdown(tables.sheet(targets.TARGETS["table2"], found))
    assert text.count("| - | - | - | - | - | - | - |") == 6 and "Nothing of it was run." in text and "72.82" in text


def test_the_same_records_make_the_same_bytes(paper_runs, tmp_path):
    for out in ("a", "b"):
        command(MAKE, "--runs", paper_runs[0] / "runs", "--out", tmp_path / out, check=0)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 2 * len(targets.TARGETS) + 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    for made in (paper_runs[0] / "out").iterdir():  # and Snakemake's are these
        assert made.read_bytes() == (tmp_path / "a" / made.name).read_bytes(), made.name


def test_a_folder_of_runs_without_any_gives_the_papers_numbers_alone(tmp_path):
    (tmp_path / "runs").mkdir()
    command(MAKE, "table1", "figure5", "--runs", tmp_path / "runs", "--out", tmp_path, check=0)
    assert (
        "| layer-wise hints, then KD | 91.66, 91.80, 91.64 | 91.70 | - | - | - | - | - | - | - |"
        in (tmp_path / "table1.md").read_text()
    )
