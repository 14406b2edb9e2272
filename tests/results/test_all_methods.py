"""The tables of all methods on one pair: nothing missing, nothing that cannot be, and one of them trained."""

import csv
import re
import shutil

import pytest

import nets
from conftest import command, snakemake
from hkd.paper import datasets, experiments, methods
from hkd.results import cost, targets, workflow
from hkd.results.rows import TITLES
from hkd.results.targets import ALL_METHODS
from hkd.stages.stage import lineage


def methods_of(target):
    return [row.method for row in target.rows]


def test_every_data_set_has_a_table_and_every_transfer():
    pairs = {experiments.EXPERIMENTS[t.rows[0].experiment] for t in ALL_METHODS.values()}
    assert {e.dataset for e in pairs if not e.teacher_dataset} == set(datasets.DATASETS)
    assert {e for e in pairs if e.teacher_dataset} == {e for e in experiments.EXPERIMENTS.values() if e.teacher_dataset}
    assert len({t.label for t in ALL_METHODS.values()}) == len(ALL_METHODS) == len(pairs)


@pytest.mark.parametrize("name", ALL_METHODS)
class TestEachTable:
    def test_a_method_is_in_it_or_left_out_with_its_reason(self, name):
        target = ALL_METHODS[name]
        experiment = target.rows[0].experiment
        assert len({row.experiment for row in target.rows}) == 1
        missing = [m for m in methods.METHODS if m not in methods_of(target)]
        assert (
            methods_of(target)[:2] == ["", "baseline"] and len(missing) + len(target.rows) == len(methods.METHODS) + 1
        )
        left_out = " ".join(target.left_out)
        for method in missing:
            assert TITLES[method] in left_out and targets.why_not(experiment, method) in left_out
        # A teacher of other layers is no student that could be trained on.
        assert (missing == ["continued"]) == (experiments.EXPERIMENTS[experiment].teacher_dataset is None)

    def test_what_is_in_it_has_networks(self, name):
        target = ALL_METHODS[name]
        for stage in {s for last in target.stages(1) for s in lineage(last)}:
            assert stage.network("DATA", 10_000).layer

    def test_the_workflow_makes_it(self, name):
        jobs = workflow.Workflow(workflow.settings({"nets": 1}))
        needed = {jobs.folder(s) for last in jobs.targets[name] for s in lineage(last)}
        assert len(needed) == cost.of(name, ALL_METHODS[name].stages(1)).stages
        assert needed <= set(jobs.stages)


def test_both_engines_are_asked_for_every_method():
    kinds = {}
    for engine in ("caffe", "torch"):
        jobs = workflow.Workflow(workflow.settings({"nets": 1, "engine": engine, "experiments": "cifar10-r14-r8"}))
        kinds[engine] = {last.kind for last in jobs.targets["all-cifar10"]}
    assert kinds["caffe"] == kinds["torch"] and {"dynamic", "finetune"} <= kinds["torch"]


def test_a_pair_of_two_widths_leaves_out_what_needs_one():
    target = targets.all_methods("x", "cifar10-r26w32-r14")
    missing = {m for m in methods.METHODS if m not in methods_of(target)}
    assert missing == {"continued", *(m for m in methods.METHODS if m.startswith(("fsp", "dense")))}
    assert "teacher/conv1 and teacher/stack1/block4/sum is 32x32" in " ".join(target.left_out)


def test_what_a_paper_reports_of_a_pair_stands_beside_it():
    reported = {row.method: row for row in ALL_METHODS["all-mnist"].rows}
    assert reported["layerwise"].reported == pytest.approx((99.59, 99.60, 99.56))  # errors in the paper
    assert reported["sl-resnet"].reported == pytest.approx((99.51, 99.51, 99.49))
    assert reported["fsp"].reported_mean is None
    table = {row.method: row for row in targets.TARGETS["table2"].rows}
    for row in ALL_METHODS["all-cifar100"].rows:
        if row.method in table:
            assert (row.reported, row.reported_mean) == (table[row.method].reported, table[row.method].reported_mean)


def test_the_tables_of_the_paper_do_not_cost_those_of_all_methods():
    made = {}
    for name in ("tables", "all-methods"):
        done = snakemake("-n", name, config=("nets=1",), check=0)
        made[name] = set(re.findall(r"^(all-[\w-]+)\s+1$", done.stdout + done.stderr, re.M))
    assert made == {"tables": set(), "all-methods": {"all-methods", *(f"{name}_files" for name in ALL_METHODS)}}


def test_costs_of_both_groups():
    done = command("python/make_tables.py", "--cost", "--nets", "1", check=0).stdout
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:3] for line in done.splitlines()[2:]}
    once = [rows[f"{what}, each stage once"] for what in ("all of the above", "all methods on all pairs", "both")]
    stages, iterations = ([int(cell[i].replace(",", "")) for cell in once] for i in (0, 1))
    assert max(stages[:2]) < stages[2] < sum(stages[:2]) and max(iterations[:2]) < iterations[2] < sum(iterations[:2])


@pytest.mark.slow
@pytest.mark.parametrize("engine", nets.ENGINES)
def test_all_methods_trained_on_one_pair(engine, fashion, fashion_source, tmp_path):
    """Every method on Fashion-MNIST by one command, a few iterations each, and the table of them."""
    (tmp_path / "data").mkdir()
    out = shutil.copytree(fashion, tmp_path / "data/fashion-mnist")
    words = ("--dataset", "fashion-mnist", "--source", fashion_source, "--index", "--out", out)
    command("data_tools/make_lmdb.py", *words, check=0)
    # Pixels of 0 to 255 would drive so short a run of FSP to infinity.
    settings = "set=batch=16 fsp_lr=1e-9 base_lr=0.01 dynamic_images=200 dynamic_batch=32"
    where = [f"{name}={tmp_path / name}" for name in ("data", "runs", "out")]
    snakemake("all-fashion-mnist", config=("scale=0.0001", "nets=1", f"engine={engine}", settings, *where), check=0)
    rows = list(csv.DictReader((tmp_path / "out/all-fashion-mnist.csv").open()))
    assert [row["method"] for row in rows] == ["teacher", *(m for m in methods.METHODS if m != "continued")]
    assert all(row["n"] == "1" and float(row["mean_last"]) > 0 and row["paper_mean"] == "" for row in rows)
    text = (tmp_path / "out/all-fashion-mnist.md").read_text()
    assert text.startswith("### All methods, Fashion-MNIST. 14 to 8 layers") and text.count("Left out") == 1
    made_with = "" if engine == "caffe" else f"engine {engine}, "
    assert f"(scale 0.0001, batch=16, base_lr=0.01, fsp_lr=1e-09, {made_with}not the official images)" in text
