"""Stage 2: the student, and the whole teacher whose softened outputs it learns."""

import caffe

from hkd.base.cli import UserError
from hkd.networks import losses, resnet
from hkd.networks.feed import both_phases, data_layers
from hkd.networks.kind import Kind


def network(experiment, feed, lambda_kd):
    """Stage 2 (equation 2): cross entropy plus lambda_kd (a number or losses.Falling) times the softened cross entropy,
    accuracy of the student. Raises UserError where their classes differ (check_classes)."""
    check_classes(experiment)
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed)
    target = resnet.logits(n, experiment, resnet.teacher(experiment), experiment.teacher)
    logits = resnet.logits(n, experiment, resnet.student(experiment), experiment.student)
    weight = (experiment.tau**2 if experiment.kd_tau_squared else 1) * lambda_kd
    losses.hard_cross_entropy(n, "hard", logits, n.label, experiment.hard_tau)
    losses.soft_cross_entropy(n, "soft", logits, target, experiment.tau, weight, experiment.facts.classes)
    losses.accuracy(n, logits)
    return both_phases(f"{experiment.pair} KD", n, test_data)


def check_classes(experiment):
    """Raises UserError where teacher and student have different classes: KD compares their outputs class by class."""
    if experiment.teacher_dataset:
        theirs, own = experiment.teacher_facts.title, experiment.facts.title
        raise UserError(
            f"{experiment.name}: KD compares teacher and student class by class, and the classes of {theirs} are not those of "
            f"{own}: choose a --method without KD, for example fsp or layerwise-ce"
        )


def _network(asked):
    weight = getattr(asked.experiment, asked.part.weight)
    falls = isinstance(weight, tuple)
    return network(asked.experiment, asked.feed, losses.Falling(*weight, asked.iterations) if falls else weight)


KIND = Kind(
    "kd",
    network=_network,
    check=lambda experiment, part: check_classes(experiment),
    # What counts the iterations by which its weight falls.
    fresh=lambda experiment, part: [losses.COUNTED] if isinstance(getattr(experiment, part.weight), tuple) else [],
    taught=True,
)
