"""The tables and the figure of Yim et al. 2017 (FSP) as data."""

import statistics

from hkd.paper import experiments, stated
from hkd.results.rows import TITLES, Row, Target


def _nets_table(name, title, experiment, reported, headings):
    """FSP's tables 1 and 2: three nets of each, their ensemble, their iterations."""
    rows = (
        Row(heading, experiment, method, r.Pc, round(statistics.mean(r.Pc), 4), r.ensemble, r.iterations)
        for (method, r), heading in zip(reported.items(), headings, strict=True)
    )
    return Target(name, title, "Pc", "table", tuple(rows), ensembles=True)


def _small_table(name, title, experiment, reported):
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


TARGETS = (
    _nets_table(
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
    _nets_table(
        "fsp-table2",
        "CIFAR-100 without augmentation, 32 to 32 layers, four times as wide: fast optimisation",
        "cifar100-r32-r32-noaug-21k",
        stated.FSP_TABLE_2,
        ("teacher", "Teacher*: alone, a third of the iterations", "FitNet*", "Student*: FSP"),
    ),
    _small_table("fsp-table3", "CIFAR-10, 26 to 8 layers", "cifar10-r26-r8", stated.FSP_TABLE_3),
    _small_table(
        "fsp-table4",
        "CIFAR-100 without augmentation, 32 to 14 layers, four times as wide",
        "cifar100-r32-r14-noaug",
        stated.FSP_TABLE_4,
    ),
    _fast("fsp-figure3", "CIFAR-10, 26 to 26 layers: fast optimisation", "cifar10-r26-r26", "cifar10-r26-r26-21k"),
)
