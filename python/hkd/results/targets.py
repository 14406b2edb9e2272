"""The paper's tables and figures, and tables of all methods on one pair, as data: which rows each has, and what the paper
reports there."""

import statistics
from dataclasses import replace

from hkd.base.cli import UserError
from hkd.paper import experiments, stated
from hkd.paper.methods import METHODS
from hkd.results.rows import PROPOSED, TITLES, Row, Target
from hkd.stages.stage import lineage


def _alone(experiment, method, measure):
    """The row of the teacher (method '') or of the student alone ('baseline')."""
    e = experiments.experiment(experiment)
    e, architecture = (e, e.student) if method else (e.of_teacher, e.teacher)
    Pc = stated.BASELINE_PC.get((e.dataset, architecture.depth, architecture.width))
    value = Pc if Pc is None or measure == "Pc" else round(100 - Pc, 2)
    width = "" if architecture.width == stated.STACK_WIDTHS[0] else f" of width {architecture.width}"
    return Row(f"{TITLES[method]}, {architecture.depth} layers{width}", experiment, method, (), value)


def _row(experiment, method, reported, heading=None):
    nets = reported.get(method, ())
    nets = nets if isinstance(nets, tuple) else (nets,)
    return Row(
        heading or TITLES[method],
        experiment,
        method,
        nets if len(nets) > 1 else (),
        round(statistics.mean(nets), 4) if nets else None,
    )


def _table(name, title, experiment, reported, measure="Pc"):
    alone = (_alone(experiment, "", measure), _alone(experiment, "baseline", measure))
    return Target(name, title, measure, "table", (*alone, *(_row(experiment, m, reported) for m in reported)))


def _figure(name, title, experiment, methods, reported=None, form="bars", teacher=False):
    alone = [_alone(experiment, "", "Pc")] if teacher else []
    rows = [_alone(experiment, m, "Pc") if m == "baseline" else _row(experiment, m, reported or {}) for m in methods]
    return Target(name, title, "Pc", form, (*alone, *rows))


def _regressor_table(name, title, experiment, reported, plain, plain_reported):
    """Hints through a regressor, and below the same student with a teacher of its own width, which needs none: `plain`."""
    rows = [
        _row(e, m, numbers, f"{TITLES[m]}, {words}")
        for e, numbers, words in ((plain, plain_reported, "no regressor"), (experiment, reported, "regressor"))
        for m in ("hint-kd", PROPOSED)
    ]
    return Target(
        name, title, "Pc", "table", (_alone(experiment, "", "Pc"), _alone(experiment, "baseline", "Pc"), *rows)
    )


def _fsp_nets_table(name, title, experiment, reported, headings):
    """FSP's tables 1 and 2: three nets of each, their ensemble, their iterations."""
    rows = (
        Row(heading, experiment, method, r.Pc, round(statistics.mean(r.Pc), 4), r.ensemble, r.iterations)
        for (method, r), heading in zip(reported.items(), headings, strict=True)
    )
    return Target(name, title, "Pc", "table", tuple(rows), ensembles=True)


def _fsp_small_table(name, title, experiment, reported):
    """FSP's tables 3 and 4: one number of each."""
    e = experiments.experiment(experiment)
    layers = {"": f", {e.teacher.depth} layers", "baseline": f", {e.student.depth} layers"}
    rows = (
        Row(TITLES[method] + layers.get(method, ""), experiment, method, (), value)
        for method, value in reported.items()
    )
    return Target(name, title, "Pc", "table", tuple(rows))


def _fast(name, title, experiment, fast):
    """FSP's figure 3: the whole schedule, `experiment`, and a third of it, `fast`, each without and with FSP before it."""
    rows = [
        Row(f"{words} {experiments.experiment(e).max_iter:,} iterations", e, method)
        for e, method, words in (
            (experiment, "", "teacher's network alone,"),
            (experiment, "fsp", "FSP, then"),
            (fast, "baseline", "teacher's network alone,"),
            (fast, "fsp", "FSP, then"),
        )
    ]
    return Target(name, title, "Pc", "fast", tuple(rows))


_TARGETS = (
    _table("table1", "CIFAR-10, 26 to 14 layers", "cifar10-r26-r14", stated.TABLE_1),
    _table("table2", "CIFAR-100, 26 to 8 layers, four times as wide", "cifar100-r26-r8", stated.TABLE_2),
    _table("table3", "MNIST, 32 to 8 layers", "mnist-r32-r8", stated.TABLE_3_PE, "Pe"),
    _table("table4", "MNIST, 32 to 8 layers, with SL-ResNet", "mnist-r32-r8", stated.TABLE_4_PE, "Pe"),
    _regressor_table(
        "table5",
        "CIFAR-10, 26 layers of twice the width to 14",
        "cifar10-r26w32-r14",
        stated.TABLE_5,
        "cifar10-r26-r14",
        stated.TABLE_1,
    ),
    _regressor_table(
        "table6",
        "CIFAR-100, 14 layers of width 80 to 8 of width 64",
        "cifar100-r14w80-r8",
        stated.TABLE_6,
        "cifar100-r14-r8",
        stated.FIGURE_10,
    ),
    _figure(
        "figure4",
        "CIFAR-10, 14 to 8 layers: stage 2",
        "cifar10-r14-r8",
        ("baseline", "hint-kd", PROPOSED),
        form="curves",
    ),
    _figure(
        "figure5",
        "CIFAR-100, 20 to 8 layers, four times as wide",
        "cifar100-r20-r8",
        ("baseline", "kd", "hint-kd", "hint-kd-plus", PROPOSED),
        teacher=True,
    ),
    _figure(
        "figure7",
        "CIFAR-10, 14 to 8 layers",
        "cifar10-r14-r8",
        ("baseline", "kd", "hint-kd", "sl-resnet", "sl-resnet-kd", PROPOSED),
        teacher=True,
    ),
    _figure("figure8", "CIFAR-10, 26 to 8 layers", "cifar10-r26-r8", ("hint-kd", "concurrent", PROPOSED)),
    _figure(
        "figure9",
        "CIFAR-10, 26 to 8 layers: hint losses",
        "cifar10-r26-r8",
        ("concurrent", PROPOSED),
        form="hint losses",
    ),
    _figure(
        "figure10",
        "CIFAR-100, 14 to 8 layers, four times as wide",
        "cifar100-r14-r8",
        ("hint-kd", "concurrent", PROPOSED),
        stated.FIGURE_10,
    ),
    _fsp_nets_table(
        "fsp-table1",
        "CIFAR-10, 26 to 26 layers: fast optimisation",
        "cifar10-r26-r26-21k",
        stated.FSP_TABLE_1,
        (
            "teacher",
            "Teacher*: alone, a third of the iterations",
            "teacher trained on",
            "1-loss FitNet*",
            "3-loss FitNet*",
            "Student*: FSP",
            "Student* with dagger: FSP, teacher permuted",
        ),
    ),
    _fsp_nets_table(
        "fsp-table2",
        "CIFAR-100 without augmentation, 32 to 32 layers, four times as wide: fast optimisation",
        "cifar100-r32-r32-noaug-21k",
        stated.FSP_TABLE_2,
        ("teacher", "Teacher*: alone, a third of the iterations", "FitNet*", "Student*: FSP"),
    ),
    _fsp_small_table("fsp-table3", "CIFAR-10, 26 to 8 layers", "cifar10-r26-r8", stated.FSP_TABLE_3),
    _fsp_small_table(
        "fsp-table4",
        "CIFAR-100 without augmentation, 32 to 14 layers, four times as wide",
        "cifar100-r32-r14-noaug",
        stated.FSP_TABLE_4,
    ),
    _fast("fsp-figure3", "CIFAR-10, 26 to 26 layers: fast optimisation", "cifar10-r26-r26", "cifar10-r26-r26-21k"),
)
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


def _all_methods(name, experiment):
    """Every method of METHODS on one pair, beside what a table above reports of it."""
    e = experiments.experiment(experiment)
    titles = list(dict.fromkeys((e.of_teacher.facts.title, e.facts.title)))
    reasons, rows = {}, [_alone(experiment, "", "Pc"), _alone(experiment, "baseline", "Pc")]
    if e.teacher_dataset:
        rows[0] = replace(rows[0], heading=f"{rows[0].heading}, on {titles[0]}")
    for method in METHODS:
        if reason := why_not(experiment, method):
            reasons.setdefault(reason, []).append(TITLES[method])
        elif method != "baseline":
            rows.append(_row(experiment, method, {method: _reported_nets(experiment, method)}))
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
    """Pc of nets 1 to 3, or of their mean alone, in the first of the paper's tables and figures that states it; else ()."""
    for target in _TARGETS:
        for row in target.rows:
            if (row.experiment, row.method) == (experiment, method) and row.reported_mean is not None:
                nets = row.reported or (row.reported_mean,)
                return nets if target.measure == "Pc" else tuple(round(100 - net, 2) for net in nets)
    return ()


ALL_METHODS = {name: _all_methods(name, experiment) for name, experiment in _ALL_METHODS.items()}
TARGETS = {target.name: target for target in _TARGETS} | ALL_METHODS


def _weights(experiment):
    e = experiments.experiment(experiment)
    title = f"{e.facts.title}, {e.teacher.depth} to {e.student.depth} layers: hint weights (HKD-like)"
    return _figure(f"{experiment}-weights", title, experiment, LEARNED_WEIGHTS, form="weights")


LEARNED_WEIGHTS = ("hint-dynamic", "hint-dynamic-no-ensemble", "hint-dynamic-global")
WEIGHTS = {
    target.name: target
    for target in map(_weights, experiments.EXPERIMENTS)
    if not why_not(target.rows[0].experiment, LEARNED_WEIGHTS[0])
}
"""A figure for each experiment that no paper has: the weights that hint-dynamic KD learned, over its iterations."""


def reported_pc(experiment, method):
    """The mean Pc that the paper reports of a method, in the first table or figure that states it; or None."""
    e = experiments.experiment(experiment)
    if method in ("", "baseline") and not (e.tag or e.student_tag):
        return _alone(experiment, method, "Pc").reported_mean
    rows = (
        (t, row) for t in TARGETS.values() for row in t.rows if (row.experiment, row.method) == (experiment, method)
    )
    known = ((t, row.reported_mean) for t, row in rows if row.reported_mean is not None)
    return next((mean if t.measure == "Pc" else 100 - mean for t, mean in known), None)


def row(target, experiment, method):
    """The Row of a method in a target."""
    return next(row for row in TARGETS[target].rows if (row.experiment, row.method) == (experiment, method))
