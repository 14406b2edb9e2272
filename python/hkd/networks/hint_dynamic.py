"""Hint-dynamic KD: the student, the whole teacher, and a weight for each hint of each image."""

from dataclasses import replace

import caffe

from hkd.networks import fsp_flows, losses, resnet
from hkd.networks.feed import both_phases, data_layers
from hkd.networks.kd import check_classes
from hkd.networks.kind import Kind
from hkd.paper.settings import HINTS


def network(experiment, feed, weights, ensemble, iterations, random_seed):
    """Cross entropy plus, for each hint, the mean of its losses of a batch's images, each times a weight of its own
    that the layer `weights` gives (layers/instance_weights.py); in the TEST phase all weights are equal.

    weights, ensemble, iterations, random_seed: of that layer. Raises UserError where a hint cannot be (check).
    """
    check(experiment)
    # Where FSP's own maps are taken is a setting of FSP's stages.
    e = replace(experiment, fsp_pairs="input")
    n = caffe.NetSpec()
    test_data = data_layers(n, e, feed, index=True)
    maps, logits = {}, {}
    for style, architecture in ((resnet.teacher(e), e.teacher), (resnet.student(e), e.student)):
        maps[style.prefix] = resnet.body(n, style, n.data, architecture, e.facts.size)
        *_, top = maps[style.prefix].values()
        logits[style.prefix] = resnet.classifier(n, style, top, e.facts.classes)
    losses.hard_cross_entropy(n, "hard", logits[""], n.label)
    each = {}
    for hint in e.dynamic_hints:
        if hint == "soft":
            each[hint] = losses.divergence(n, hint, logits[""], logits[resnet.TEACHER], e.dynamic_tau)
            continue
        if hint == "feature":
            pair = [maps[prefix][a.end(3)] for prefix, a in (("", e.student), (resnet.TEACHER, e.teacher))]
            channels, elements = e.teacher.widths[2], e.teacher.widths[2] * fsp_flows.map_size(e.facts, 3) ** 2
            if e.dynamic_regressor:
                pair[0] = losses.regressor(n, f"{losses.REGRESSOR}3", pair[0], channels)
        else:
            pair, elements = fsp_flows.matrices(n, e, hint, maps, 2, 3, {}), e.teacher.widths[1] * e.teacher.widths[2]
        each[hint] = losses.distance(n, hint, *pair, elements)
    given = {
        "weights": weights,
        "output": e.dynamic_output,
        "ensemble": e.dynamic_ensemble if ensemble else "none",
        "mu": e.dynamic_mu,
        "u": e.dynamic_u,
        "v0": e.dynamic_v0,
        "hidden": e.dynamic_hidden,
        "scales": [e.dynamic_scales[HINTS.index(hint)] for hint in e.dynamic_hints],
        "iterations": iterations,
        "seed": random_seed,
    }
    tops = losses.instance_weights(n, losses.WEIGHTS, logits[""], n.label, each, n.index, given)
    for (hint, vector), weight in zip(each.items(), tops, strict=True):
        losses.weighted(n, hint, vector, weight)
    losses.accuracy(n, logits[""])
    return both_phases(f"{e.pair} hint-dynamic KD", n, test_data)


def check(experiment):
    """Raises UserError where a hint of hint-dynamic KD cannot be: as KD, or as FSP of stack 3."""
    if "soft" in experiment.dynamic_hints:
        check_classes(experiment)
    if "fsp" in experiment.dynamic_hints:
        fsp_flows.check(replace(experiment, fsp_pairs="input"), ((2, 3),))


def _network(asked):
    part = asked.part
    return network(asked.experiment, asked.feed, part.weights, part.ensemble, asked.iterations, asked.random_seed)


KIND = Kind(
    "dynamic",
    network=_network,
    check=lambda experiment, part: check(experiment),
    fresh=lambda experiment, part: [
        losses.WEIGHTS,
        *([f"{losses.REGRESSOR}3"] if experiment.dynamic_regressor else []),
    ],
    beside="dynamic_",
    taught=True,
    named=False,
    indexed=True,
)
