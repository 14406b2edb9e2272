"""Every table and figure as data: the papers' (etri, fsp), all methods on one pair, and the weights of hint-dynamic KD."""

import functools
from dataclasses import replace

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.paper import experiments
from hkd.paper.methods import KINDS, METHODS
from hkd.results import etri, fsp
from hkd.results.rows import TITLES, Row, Target, alone, figure, reported_row
from hkd.stages.stage import lineage

_OF_PAPERS = (*etri.TARGETS, *fsp.TARGETS)

# The pair of each data set, or of two, that every method is compared on.
_ALL_METHODS = {
    "all-cifar10": "cifar10-r14-r8",
    "all-cifar100": "cifar100-r26-r8",
    "all-mnist": "mnist-r32-r8",
    "all-fashion-mnist": "fashion-mnist-r14-r8",
    "all-svhn": "svhn-r14-r8",
    "all-tiny-imagenet": "tiny-imagenet-r14-r8",
    "all-cifar100-to-cifar10": "cifar100-to-cifar10-r14-r8",
    "all-mnist-to-fashion-mnist": "mnist-to-fashion-mnist-r14-r8",
}


def all_methods(name, experiment):
    """Every method of METHODS on one pair, beside what a paper reports of it."""
    e = experiments.experiment(experiment)
    titles = list(dict.fromkeys((e.teacher_facts.title, e.facts.title)))
    reasons, rows = {}, [alone(experiment, "", "Pc"), alone(experiment, "baseline", "Pc")]
    if e.teacher_dataset:
        rows[0] = replace(rows[0], heading=f"{rows[0].heading}, on {titles[0]}")
    for method in METHODS:
        if reason := why_not(experiment, method):
            reasons.setdefault(reason, []).append(TITLES[method])
        elif method != "baseline":
            rows.append(reported_row(experiment, method, {method: _reported_nets(experiment, method)}))
    return Target(
        name,
        f"{e.teacher.depth} to {e.student.depth} layers",
        "Pc",
        "table",
        tuple(rows),
        called=f"All methods, {' to '.join(titles)}",
        left_out=tuple(f"{'; '.join(titles)}: {reason}" for reason, titles in reasons.items()),
    )


def why_not(experiment, method):
    """Why a method cannot be run on an experiment, in the words of the error that it ends in; None where it can."""
    try:
        for stage in lineage(Row("", experiment, method).stages(1)[0]):
            stage.check()
    except UserError as error:
        return str(error)
    return None


def _reported_nets(experiment, method):
    """Pc of nets 1 to 3, or of their mean alone, in the first of the papers' tables and figures that states it; else ()."""
    for target in _OF_PAPERS:
        for row in target.rows:
            if (row.experiment, row.method) == (experiment, method) and row.reported_mean is not None:
                nets = row.reported or (row.reported_mean,)
                return nets if target.measure == "Pc" else tuple(round(100 - net, 2) for net in nets)
    return ()


ALL_METHODS = {name: all_methods(name, experiment) for name, experiment in _ALL_METHODS.items()}
TARGETS = {target.name: target for target in _OF_PAPERS} | ALL_METHODS


def _weights(experiment):
    e = experiments.experiment(experiment)
    title = f"{e.facts.title}, {e.teacher.depth} to {e.student.depth} layers: hint weights (HKD-like)"
    return figure(f"{experiment}-weights", title, experiment, LEARNED_WEIGHTS, form="weights")


LEARNED_WEIGHTS = ("hint-dynamic", "hint-dynamic-no-ensemble", "hint-dynamic-global")
WEIGHTS = {
    target.name: target
    for target in map(_weights, experiments.EXPERIMENTS)
    if not why_not(target.rows[0].experiment, LEARNED_WEIGHTS[0])
}
"""A figure for each experiment that no paper has: the weights that hint-dynamic KD learned, over its iterations."""
RULES = ("tables", "all-methods", "claims", "report", "comparison", "dataset", "index", *KINDS)
"""What make_tables.py writes beside the targets, and what the Snakefile calls its rules: none of them is free for a user's name."""


def check_name(file):
    """Raises UserError where an ExperimentFile's name is that of something else that is made: one would be written over the other."""
    if file.name in (*TARGETS, *WEIGHTS, *RULES):
        raise UserError(
            f"{shown(file.path)}: name {file.name!r} is taken, by what tables and the workflow make: choose another"
        )


@functools.cache
def reported_pc(experiment, method):
    """The mean Pc that the paper reports of a method, in the first table or figure that states it; or None."""
    e = experiments.experiment(experiment)
    if method in ("", "baseline") and not (e.tag or e.student_tag):
        return alone(experiment, method, "Pc").reported_mean
    rows = (
        (t, row) for t in TARGETS.values() for row in t.rows if (row.experiment, row.method) == (experiment, method)
    )
    known = ((t, row.reported_mean) for t, row in rows if row.reported_mean is not None)
    return next((mean if t.measure == "Pc" else 100 - mean for t, mean in known), None)


def row(target, experiment, method):
    """The Row of a method in a target."""
    return next(row for row in TARGETS[target].rows if (row.experiment, row.method) == (experiment, method))
