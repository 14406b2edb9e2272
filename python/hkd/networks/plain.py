"""Teacher or student alone, and the growing networks of SL-ResNet."""

import caffe

from hkd.networks import losses, resnet
from hkd.networks.feed import both_phases, data_layers


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
