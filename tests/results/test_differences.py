"""Tests of two rows against each other, and the difference of their nets."""

import csv
import statistics
from dataclasses import replace

import pytest
from scipy import stats

from hkd.results import sheet, significance, tables, targets
from hkd.results.differences import p_value, paired, proposed
from hkd.results.lines import Line, of_target
from hkd.results.runs import Runs
from hkd.stages import records
from run_folders import rewrite, stage


def test_the_p_value_is_welchs(runs):
    found = of_target(targets.TARGETS["table4"], runs)
    best, other = proposed(found), next(x for x in found if x.row.method == "kd")
    expected = stats.ttest_ind(best.values(), other.values(), equal_var=False).pvalue
    assert p_value(best, other) == pytest.approx(expected) and 0 < expected < 1
    assert f"| {expected:.3f} |" in sheet.markdown(tables.sheet(targets.TARGETS["table4"], found))


def test_nets_are_compared_one_by_one_and_p_is_corrected_for_the_table(paper_runs):
    rows = list(csv.DictReader((paper_runs[0] / "out/table4.csv").open()))
    best = next(row for row in rows if row["method"] == "layerwise")
    others = [row for row in rows if row["method"] not in ("teacher", "layerwise")]
    nets = ("net1_last", "net2_last", "net3_last")
    for row in others:
        apart = [float(row[net]) - float(best[net]) for net in nets]
        assert float(row["less_proposed_mean"]) == pytest.approx(statistics.mean(apart)) and row["pairs"] == "3"
        assert float(row["less_proposed_sd"]) == pytest.approx(statistics.stdev(apart))
    ps = [float(row["p_welch"]) if row["p_welch"] else None for row in others]
    corrected = [float(row["p_holm"]) if row["p_holm"] else None for row in others]
    assert corrected == pytest.approx(significance.holm(ps)) and any(ps)
    teacher = rows[0]
    assert not (teacher["less_proposed_mean"] or teacher["p_holm"] or best["less_proposed_mean"] or best["p_holm"])
    text = (paper_runs[0] / "out/table4.md").read_text()
    assert "| less proposed, paired | p | p, Holm |" in text and "cannot give p below 0.125 one-sided" in text


def test_a_pair_is_two_nets_of_one_number(runs):
    kd, hint = (
        next(x for x in of_target(targets.TARGETS["table4"], runs) if x.row.method == m) for m in ("kd", "hint-kd")
    )
    second = Line(kd.row, (None, kd.runs[1], None), "Pe")
    assert paired(second, hint).n == 1 and paired(second, hint).sd is None
    assert paired(second, hint).mean == kd.values()[1] - hint.values()[1]
    teacher = of_target(targets.TARGETS["table4"], runs)[0]
    assert paired(teacher, hint) is None


def changed(line, **values):
    """A Line whose nets have another Pc or other weights: as honest runs would have left it."""
    runs = []
    for place, run in enumerate(line.runs):
        record = run.record | {name: run.record[name] | of_nets[place] for name, of_nets in values.items()}
        runs.append(replace(run, record=record))
    return Line(line.row, tuple(runs), line.measure)


def test_no_p_value_without_spread_or_with_one_net(runs):
    kd = next(x for x in of_target(targets.TARGETS["table4"], runs) if x.row.method == "kd")
    spread = changed(kd, Pc=[{"last": Pc} for Pc in (90.0, 92.0, 96.0)])
    alike = changed(kd, Pc=[{"last": 94.0}] * 3, digests=[{records.FINAL: weights} for weights in "123"])
    alone = Line(kd.row, (spread.runs[0], None, None), "Pe")
    assert p_value(spread, alone) is None and p_value(alike, alike) is None
    assert p_value(spread, alike) is not None  # one with spread is enough


def test_nets_of_the_same_weights_are_one_net(damaged):
    """As SL-ResNet's on MNIST with sl_fc=kept: one network to start from, and without crops nothing random in training."""
    for pattern in ("r8-sl-resnet-finetune-net", "r32-r8-sl-resnet-kd-net"):
        first = records.read_record(stage(damaged, f"{pattern}1*", "mnist"))
        for net in (2, 3):
            other = stage(damaged, f"{pattern}{net}*", "mnist")
            digests = records.read_record(other)["digests"] | {records.FINAL: first["digests"][records.FINAL]}
            rewrite(other, digests=digests)
    found = of_target(targets.TARGETS["table4"], Runs(damaged))
    best = proposed(found)
    kd, sl = (next(x for x in found if x.row.method == method) for method in ("kd", "sl-resnet"))
    assert sl.repeated and not kd.repeated and p_value(best, kd) is not None
    assert p_value(best, sl) is None and p_value(sl, kd) is None
    text = sheet.markdown(tables.sheet(targets.TARGETS["table4"], found))
    assert "SL-ResNet, SL-ResNet with KD: nets with the same weights" in text
