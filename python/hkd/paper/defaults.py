"""The settings that a pair of networks has by its data set: what the papers state for it, or for the data set that it is like."""

from hkd.paper import datasets, stated
from hkd.paper.experiment import Experiment

# Data sets whose settings the papers do not state have those of another.
LIKE = {"fashion-mnist": "mnist", "svhn": "cifar10", "tiny-imagenet": "cifar100"}
OWN_LIKE = "cifar10"  # whose settings a data set of the user's own has
MIRRORED = ("cifar10", "cifar100", "tiny-imagenet")  # digits and clothes are not

# Of the densely distilled flow's schedule nothing is known: FSP's, divided as ETRI divides its own (3 : 7 : 15).
FLOW_ITERATIONS = {"cifar10": (2_520, 5_880, 12_600), "cifar100": (4_571, 13_714, 13_715)}


def experiment_on(name, reported_in, dataset, teacher, student, **settings):
    """An experiment with what the papers state for its data set, or for the one that it is LIKE; schedule: of the student, and
    of the teacher too unless it has a teacher_schedule."""
    like = LIKE.get(dataset, dataset if dataset in datasets.DATASETS else OWN_LIKE)
    settings.setdefault("mirror", (dataset if dataset in datasets.DATASETS else OWN_LIKE) in MIRRORED)
    schedule = settings.pop("schedule", stated.SCHEDULE[like])
    return Experiment(
        name,
        reported_in,
        dataset,
        teacher,
        student,
        batch=stated.BATCH[like],
        base_lr=schedule.base_lr,
        stepvalue=schedule.stepvalue,
        max_iter=schedule.max_iter,
        hint_iterations=stated.HINT_ITERATIONS[like],
        hint_kd_iterations=stated.HINT_KD_ITERATIONS[like],
        # Not reported for CIFAR-100: CIFAR-10's.
        sl_iterations=stated.SL_ITERATIONS.get(like, stated.SL_ITERATIONS["cifar10"]),
        sl_lambda_kd=stated.SL_LAMBDA_KD.get(like, stated.LAMBDA_KD),
        # Not reported for MNIST: CIFAR-10's.
        fsp_stepvalue=(fsp := stated.FSP_SCHEDULE.get(like, stated.FSP_SCHEDULE["cifar10"])).stepvalue,
        fsp_iterations=fsp.max_iter,
        flow_iterations=FLOW_ITERATIONS.get(like, FLOW_ITERATIONS["cifar10"]),
        **settings,
    )
