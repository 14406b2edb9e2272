"""The experiments by name: those that the papers report, and any other pair that is named by its data set and its networks."""

import re
from dataclasses import replace

from hkd.base.cli import did_you_mean
from hkd.paper import datasets, own_datasets, stated
from hkd.paper.architecture import Architecture
from hkd.paper.defaults import experiment_on
from hkd.paper.experiment import SCHEDULES, parsed

R = Architecture
FAST = {  # FSP 4.1: the student has a third of its teacher's iterations
    "schedule": stated.FSP_FAST_SCHEDULE,
    "student_tag": "21k",
}
ONE_DEPTH = {"fsp_lambda": 0.01}  # with 1 the FSP loss of two networks of 26 layers is infinite after 7 iterations
NOAUG = {"augment": False, "tag": "noaug"}  # FSP 4.1.2, 4.2.2: CIFAR-100 without augmentation
TABLE_METHODS = ("kd", "hint-kd", "hint-kd-plus", "layerwise")
SL_METHODS = ("sl-resnet", "sl-resnet-kd")

EXPERIMENTS = {
    e.name: e
    for e in (
        experiment_on("cifar10-r26-r14", "Table 1", "cifar10", R(26), R(14), methods=TABLE_METHODS),
        experiment_on(
            "cifar10-r14-r8",
            "Figures 4, 7",
            "cifar10",
            R(14),
            R(8),
            methods=(*TABLE_METHODS, "concurrent", *SL_METHODS),
        ),
        experiment_on(
            "cifar10-r26-r8",
            "Figures 8, 9, FSP Table 3",
            "cifar10",
            R(26),
            R(8),
            methods=("hint-kd", "concurrent", "layerwise", "fitnet", "fsp"),
        ),
        experiment_on("cifar10-r26w32-r14", "Table 5", "cifar10", R(26, 32), R(14), methods=("hint-kd", "layerwise")),
        experiment_on("cifar100-r26-r8", "Table 2", "cifar100", R(26, 64), R(8, 64), methods=TABLE_METHODS),
        experiment_on("cifar100-r20-r8", "Figure 5", "cifar100", R(20, 64), R(8, 64), methods=TABLE_METHODS),
        experiment_on(
            "cifar100-r14-r8",
            "Figure 10",
            "cifar100",
            R(14, 64),
            R(8, 64),
            methods=("hint-kd", "concurrent", "layerwise", "hint-dynamic"),  # the last is HKD's, on its data set
        ),
        experiment_on(
            "cifar100-r14w80-r8",
            "Table 6",
            "cifar100",
            R(14, 80),
            R(8, 64),
            methods=("hint-kd", "layerwise"),
        ),
        experiment_on("mnist-r32-r8", "Tables 3, 4", "mnist", R(32), R(8), methods=(*TABLE_METHODS, *SL_METHODS)),
        experiment_on("cifar10-r26-r26", "FSP Figure 3", "cifar10", R(26), R(26), methods=("fsp",), **ONE_DEPTH),
        experiment_on(
            "cifar10-r26-r26-21k",
            "FSP Table 1",
            "cifar10",
            R(26),
            R(26),
            teacher_schedule=stated.SCHEDULE["cifar10"],
            methods=("continued", "fitnet", "fitnet-3", "fsp", "fsp-permuted"),
            **FAST,
            **ONE_DEPTH,
        ),
        experiment_on(
            "cifar100-r32-r32-noaug-21k",
            "FSP Table 2",
            "cifar100",
            R(32, 64),
            R(32, 64),
            teacher_schedule=stated.SCHEDULE["cifar100"],
            methods=("fitnet", "fsp"),
            **FAST,
            **NOAUG,
            **ONE_DEPTH,
        ),
        experiment_on(
            "cifar100-r32-r14-noaug",
            "FSP Table 4",
            "cifar100",
            R(32, 64),
            R(14, 64),
            methods=("fitnet", "fsp"),
            **NOAUG,
        ),
        # The free data set of `make demo`, with MNIST's settings.
        experiment_on(
            "fashion-mnist-r14-r8",
            "not in the paper",
            "fashion-mnist",
            R(14),
            R(8),
            methods=(*TABLE_METHODS, "concurrent", *SL_METHODS),
        ),
        # The other data sets of dense flow and of HKD, with networks that the paper has on CIFAR.
        experiment_on("svhn-r14-r8", "not in the paper", "svhn", R(14), R(8), methods=("fsp", "dense-flow")),
        experiment_on(
            "tiny-imagenet-r14-r8",
            "not in the paper",
            "tiny-imagenet",
            R(14, 64),
            R(8, 64),
            methods=("kd", "layerwise", "hint-dynamic"),
        ),
    )
}


def _transfer(source, target):
    """The experiment `target` with its teacher trained on the data set `source`: FSP section 4.3."""
    own = named(target)
    words = {"reported_in": "transfer to another task", "methods": ("fsp",)}
    return replace(own, name=f"{source}-to-{own.name}", teacher_dataset=source, **words)


DEFAULT = "cifar10-r26-r14"
ALONE = "a teacher alone"
"""What an experiment without a student says where others name a table."""


NETWORK = r"-r(\d{1,9})(?:w(\d{1,9}))?"


def is_pair(name):
    """Whether a name is of the form DATASET-r20-r8 or DATASET-to-EXPERIMENT, so that `named` says what is wrong with it, if anything."""
    return re.fullmatch(rf".+{NETWORK}{NETWORK}", name) is not None


def named(name):
    """The experiment of that name without changes. Beside those of EXPERIMENTS there are

    DATASET-r20-r8, DATASET-r20w32-r8: any pair of networks of 6n+2 layers;
    DATASET-to-EXPERIMENT:             its teacher was trained on DATASET;
    DATASET-r26, DATASET-r26w64:       such a teacher alone.

    DATASET may be one of the user's own (own_datasets), which has the settings of defaults.OWN_LIKE.

    Raises UserError for an unknown name, and for data sets between which nothing can be transferred.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    source, to, target = name.rpartition("-to-")
    if to:
        datasets.dataset(source)
        return _transfer(source, target)
    written = re.fullmatch(rf"(.+?){NETWORK}(?:{NETWORK})?", name)
    if written and (written[1] in datasets.DATASETS or not own_datasets.wrong_name(written[1], datasets.DATASETS)):
        datasets.dataset(written[1])
        dataset, *numbers = written.groups()
        teacher, *student = (
            Architecture(*(int(n) for n in pair if n)) for pair in (numbers[:2], numbers[2:]) if pair[0]
        )
        pair = "-".join((dataset, *(network.name for network in (teacher, *student))))
        known = EXPERIMENTS.get(pair)  # cifar100-r26-r8 is the paper's, of another width than r26w16 and r8w16
        if pair != name and (known is None or [known.teacher, known.student] == [teacher, *student]):
            return named(pair)  # one name for one pair: r014 and r14w16 are r14
        where = "not in the paper" if student else ALONE
        return experiment_on(name, where, dataset, teacher, student[0] if student else teacher, methods=TABLE_METHODS)
    raise did_you_mean(name, EXPERIMENTS, "experiment")


def notes(chosen):
    """What a user may not have meant of a pair, a line each."""
    return list(filter(None, (_depth_note(chosen), _width_note(chosen))))


def _depth_note(chosen):
    """Where the student has more layers than its teacher; else ''."""
    teacher, student = chosen.teacher.depth, chosen.student.depth
    if student <= teacher:
        return ""
    return (
        f"{chosen.name}: the student has more layers than its teacher, {student} and {teacher}; the papers' never have"
    )


def _width_note(chosen):
    """Where a pair whose name has no width is narrower than all that are known on its data set; else ''."""
    known = sorted({e.student.width for e in EXPERIMENTS.values() if e.dataset == chosen.dataset})
    networks, usual = (chosen.teacher, chosen.student), stated.STACK_WIDTHS[0]
    if chosen.name in EXPERIMENTS or any(network.width != usual for network in networks) or not known or usual in known:
        return ""
    wide = "-".join(f"r{network.depth}w{known[0]}" for network in networks)
    return (
        f"{chosen.name}: {usual} channels in the first stack; the pairs of --list on {chosen.facts.title} have {known[0]}: "
        f"{chosen.dataset}-{wide}"
    )


# In place of ImageNet and CUB200-2011, which FSP has. Any other pair can be named, see `named`.
for e in (_transfer("cifar100", "cifar10-r14-r8"), _transfer("mnist", "fashion-mnist-r14-r8")):
    EXPERIMENTS[e.name] = e


def experiment(name, changes=()):
    """Experiment `name` with `changes`, a sequence of 'setting=value' strings, applied.

    Raises UserError for an unknown experiment, setting or a value of the wrong kind.
    """
    found = named(name)
    if not changes and not found.schedules:
        return found
    given = dict(parsed(found, change) for change in changes)
    schedules = tuple((key, given.pop(key)) for key in SCHEDULES if key in given)
    return replace(found, schedules=schedules, **given)
