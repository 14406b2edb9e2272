"""The tables and figures of Bae et al. 2019 (ETRI Journal) as data."""

from hkd.paper import stated
from hkd.results.rows import PROPOSED, TITLES, Target, alone, figure, reported_row


def _table(name, title, experiment, reported, measure="Pc"):
    first = (alone(experiment, "", measure), alone(experiment, "baseline", measure))
    return Target(name, title, measure, "table", (*first, *(reported_row(experiment, m, reported) for m in reported)))


def _regressor_table(name, title, experiment, reported, plain, plain_reported):
    """Hints through a regressor, and below the same student with a teacher of its own width, which needs none: `plain`."""
    rows = [
        reported_row(e, m, numbers, f"{TITLES[m]}, {words}")
        for e, numbers, words in ((plain, plain_reported, "no regressor"), (experiment, reported, "regressor"))
        for m in ("hint-kd", PROPOSED)
    ]
    return Target(name, title, "Pc", "table", (alone(experiment, "", "Pc"), alone(experiment, "baseline", "Pc"), *rows))


TARGETS = (
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
    figure(
        "figure4",
        "CIFAR-10, 14 to 8 layers: stage 2",
        "cifar10-r14-r8",
        ("baseline", "hint-kd", PROPOSED),
        form="curves",
    ),
    figure(
        "figure5",
        "CIFAR-100, 20 to 8 layers, four times as wide",
        "cifar100-r20-r8",
        ("baseline", "kd", "hint-kd", "hint-kd-plus", PROPOSED),
        teacher=True,
    ),
    figure(
        "figure7",
        "CIFAR-10, 14 to 8 layers",
        "cifar10-r14-r8",
        ("baseline", "kd", "hint-kd", "sl-resnet", "sl-resnet-kd", PROPOSED),
        teacher=True,
    ),
    figure("figure8", "CIFAR-10, 26 to 8 layers", "cifar10-r26-r8", ("hint-kd", "concurrent", PROPOSED)),
    figure(
        "figure9",
        "CIFAR-10, 26 to 8 layers: hint losses",
        "cifar10-r26-r8",
        ("concurrent", PROPOSED),
        form="hint losses",
    ),
    figure(
        "figure10",
        "CIFAR-100, 14 to 8 layers, four times as wide",
        "cifar100-r14-r8",
        ("hint-kd", "concurrent", PROPOSED),
        stated.FIGURE_10,
    ),
)
