"""Teacher or student alone, and the growing networks of SL-ResNet."""

import caffe

from hkd.base.cli import UserError
from hkd.networks import losses, resnet
from hkd.networks.feed import both_phases, data_layers
from hkd.networks.kind import Kind
from hkd.paper import methods, stated


def network(experiment, architecture, feed, last=None):
    """Teacher or student alone: cross entropy, accuracy in the TEST phase.

    last: cut above that residual module, with pooling and a fully connected layer there (a growing step of SL-ResNet).
    """
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed)
    logits = resnet.logits(n, experiment, resnet.student(experiment), architecture, last)
    losses.hard_cross_entropy(n, "loss", logits, n.label)
    losses.accuracy(n, logits)
    cut = f", up to stack {last[0]}" if last and last != architecture.modules[-1] else ""
    return both_phases(f"{architecture.name} alone{cut}", n, test_data)


def _network(asked):
    return network(asked.experiment, asked.learner, asked.feed, asked.learner_end)


def _same_layers(experiment, part):
    """Raises UserError where a teacher is to be trained on as a student of other layers."""
    e = experiment
    if part.after == methods.TEACHER and e.teacher != e.student:
        raise UserError(
            f"{e.name}: a method that trains the teacher on as a student needs the same layers in both, not {e.teacher.name} and "
            f"{e.student.name}"
        )


TEACHER = Kind("teacher", network=_network)
BASELINE = Kind("baseline", network=_network)
FINETUNE = Kind("finetune", network=_network, check=_same_layers)
GROW = Kind(
    "grow",
    network=_network,
    schedule=lambda experiment, part: stated.Schedule(experiment.sl_lr, (), experiment.sl_iterations),
    learner_end=lambda experiment, part, learner: learner.end(part.step),
    grows=True,
)
