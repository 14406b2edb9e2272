"""One function a kind of network. Each returns a NetParameter that holds both phases, TRAIN and TEST.

The student's layers have the same names in every network; the teacher's carry the prefix `teacher/`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import caffe
from caffe import layers as L
from caffe import params as P

from hkd.base.cli import UserError
from hkd.networks import fsp_flows, losses
from hkd.networks.resnet import TEACHER, Style, body, classifier
from hkd.paper.datasets import INDEX_FILE
from hkd.paper.settings import HINTS

REGRESSOR = "regressor"
WEIGHTS = "weights"


@dataclass(frozen=True)
class Feed:
    """Where the images come from: the folder of the LMDBs, as it is to stand in the file, and the batch sizes."""

    folder: str
    train_batch: int
    test_batch: int


def plain(experiment, architecture, feed, last=None):
    """Teacher or student alone: cross entropy, accuracy in the TEST phase.

    last: cut above that residual module, with pooling and a fully connected layer there (a growing step of SL-ResNet).
    """
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed)
    logits = _logits(n, experiment, _student(experiment), architecture, last)
    losses.hard_cross_entropy(n, "loss", logits, n.label)
    accuracy(n, logits)
    cut = f", up to stack {last[0]}" if last and last != architecture.modules[-1] else ""
    return _network(f"{architecture.name} alone{cut}", n, test_data)


def hint(experiment, pairs, feed):
    """Stage 1: a hint loss between hint layer H_i and guided layer G_i for each i of `pairs`; both networks are cut above
    the last of them.

    One pair is a step of the proposed method (equation 5) or the original hint training (equation 1); several are
    equation (7): their mean. Where the widths differ the guided layer goes through a regressor.
    """
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed, label=False)
    hint_layers = {i: experiment.hint_modules[i - 1] for i in pairs}
    guided_layers = {i: experiment.guided_modules[i - 1] for i in pairs}

    def maps(style, architecture, layers):
        early = layers.values() if experiment.hint_relu == "before" else ()
        return body(n, style, n.data, architecture, experiment.facts.size, layers[max(pairs)], early)

    hinted = maps(_teacher(experiment), experiment.teacher, hint_layers)
    guided = maps(_student(experiment), experiment.student, guided_layers)
    for i in pairs:
        guide, hint_map = guided[guided_layers[i]], hinted[hint_layers[i]]
        if i in experiment.regressed_pairs:
            channels = experiment.teacher.widths[hint_layers[i][0] - 1]
            guide = losses.regressor(n, f"{REGRESSOR}{i}", guide, channels)
        losses.hint(n, f"hint{i}", guide, hint_map, weight=1 / len(pairs))
    return _network(f"{experiment.pair} hints {', '.join(map(str, pairs))}", n, test_data)


def fsp(experiment, flows, feed, permuted_by=None):
    """Stage 1 of FSP (equation 2): the squared distance of teacher's and student's FSP matrices, for each of `flows`, pairs of
    nodes (0: the first convolution; 1, 2, 3: the ends of the stacks); both networks are cut above the last of them.

    permuted_by: a random seed for an order of the teacher's channels of its own; None: as they are. Raises UserError where the
    widths differ (fsp_flows.check).
    """
    fsp_flows.check(experiment, flows)
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed, label=False)
    last = max(node for _, node in flows)
    maps = {
        style.prefix: body(n, style, n.data, architecture, experiment.facts.size, architecture.end(last))
        for style, architecture in (
            (_teacher(experiment), experiment.teacher),
            (_student(experiment), experiment.student),
        )
    }
    orders = fsp_flows.orders(experiment, permuted_by)
    for first, end in flows:
        name = f"fsp{first}{end}"
        matrices = fsp_flows.matrices(n, experiment, name, maps, first, end, orders)
        losses.fsp(n, name, *matrices, experiment.fsp_lambda)
    written = ", ".join(f"{first}-{end}" for first, end in flows)
    return _network(f"{experiment.pair} FSP {written}", n, test_data)


def kd(experiment, feed, lambda_kd):
    """Stage 2 (equation 2): cross entropy plus lambda_kd (a number or losses.Falling) times the softened cross entropy,
    accuracy of the student. Raises UserError where their classes differ (check_classes)."""
    check_classes(experiment)
    n = caffe.NetSpec()
    test_data = data_layers(n, experiment, feed)
    target = _logits(n, experiment, _teacher(experiment), experiment.teacher)
    logits = _logits(n, experiment, _student(experiment), experiment.student)
    weight = (experiment.tau**2 if experiment.kd_tau_squared else 1) * lambda_kd
    losses.hard_cross_entropy(n, "hard", logits, n.label, experiment.hard_tau)
    losses.soft_cross_entropy(n, "soft", logits, target, experiment.tau, weight, experiment.facts.classes)
    accuracy(n, logits)
    return _network(f"{experiment.pair} KD", n, test_data)


def check_classes(experiment):
    """Raises UserError where teacher and student have different classes: KD compares their outputs class by class."""
    if experiment.teacher_dataset:
        theirs, own = experiment.of_teacher.facts.title, experiment.facts.title
        raise UserError(
            f"{experiment.name}: KD compares teacher and student class by class, and the classes of {theirs} are not those of "
            f"{own}: choose a --method without KD, for example fsp or layerwise-ce"
        )


def check_hints(experiment):
    """Raises UserError where a hint of hint-dynamic KD cannot be: as KD, or as FSP of stack 3."""
    if "soft" in experiment.dynamic_hints:
        check_classes(experiment)
    if "fsp" in experiment.dynamic_hints:
        fsp_flows.check(replace(experiment, fsp_pairs="input"), ((2, 3),))


def hint_dynamic(experiment, feed, weights, ensemble, iterations, random_seed):
    """Cross entropy plus, for each hint, the mean of its losses of a batch's images, each times a weight of its own
    that the layer `weights` gives (layers/instance_weights.py); in the TEST phase all weights are equal.

    weights, ensemble, iterations, random_seed: of that layer. Raises UserError where a hint cannot be (check_hints).
    """
    check_hints(experiment)
    # Where FSP's own maps are taken is a setting of FSP's stages.
    e = replace(experiment, fsp_pairs="input")
    n = caffe.NetSpec()
    test_data = data_layers(n, e, feed, index=True)
    maps, logits = {}, {}
    for style, architecture in ((_teacher(e), e.teacher), (_student(e), e.student)):
        maps[style.prefix] = body(n, style, n.data, architecture, e.facts.size)
        *_, top = maps[style.prefix].values()
        logits[style.prefix] = classifier(n, style, top, e.facts.classes)
    losses.hard_cross_entropy(n, "hard", logits[""], n.label)
    each = {}
    for hint in e.dynamic_hints:
        if hint == "soft":
            each[hint] = losses.divergence(n, hint, logits[""], logits[TEACHER], e.dynamic_tau)
            continue
        if hint == "feature":
            pair = [maps[prefix][a.end(3)] for prefix, a in (("", e.student), (TEACHER, e.teacher))]
            channels, elements = e.teacher.widths[2], e.teacher.widths[2] * fsp_flows.map_size(e.facts, 3) ** 2
            if e.dynamic_regressor:
                pair[0] = losses.regressor(n, f"{REGRESSOR}3", pair[0], channels)
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
    tops = losses.instance_weights(n, WEIGHTS, logits[""], n.label, each, n.index, given)
    for (hint, vector), weight in zip(each.items(), tops, strict=True):
        losses.weighted(n, hint, vector, weight)
    accuracy(n, logits[""])
    return _network(f"{e.pair} hint-dynamic KD", n, test_data)


def deploy(experiment, architecture):
    """The network alone, for images that you give it: blob `data` (1 x C x H x W, mean subtracted) to blob `prob`."""
    facts = experiment.facts
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, facts.channels, facts.size, facts.size]})
    n.prob = L.Softmax(_logits(n, experiment, _student(experiment), architecture))
    return _network(f"{architecture.name} deploy", n, [])


def _logits(n, experiment, style, architecture, last=None):
    """A ResNet on the blob `data`, up to its fully connected layer."""
    *_, top = body(n, style, n.data, architecture, experiment.facts.size, last).values()
    return classifier(n, style, top, experiment.facts.classes)


def _student(experiment):
    return Style("", False, experiment.shortcut, experiment.bn_fraction)


def _teacher(experiment):
    return Style(TEACHER, True, experiment.shortcut, experiment.bn_fraction)


def data_layers(n, experiment, feed, label=True, index=False):
    """Puts the TRAIN data layer into `n`; returns the TEST one, whose tops have the same names, as a list of layers.

    Training images: random crop and mirror, without augmentation the centre of the padded image, which is the image; test
    images: as they are (Caffe would mirror them too if told to).
    index: also each training image's place in the official order, blob `index`; test images have none, there it is 0.
    """
    facts = experiment.facts
    means = [
        {"mean_file": f"{feed.folder}/mean_{phase}.binaryproto"} if facts.mean else {} for phase in ("train", "test")
    ]
    crop = {"crop_size": facts.size} if facts.pad else {}
    mirror = {"mirror": True} if experiment.mirrors else {}
    # A layer that computes as in the TEST phase crops the centre (data_transformer.cpp); which network it is in is `include`'s.
    centre = {"phase": caffe.TEST} if facts.pad and not experiment.augment else {}

    def data(included_in, lmdb, batch, transform, **more):
        # Without the label a hint network has one blob less to carry about.
        return L.Data(
            name="data",
            ntop=2 if label else 1,
            include={"phase": included_in},
            data_param={"source": f"{feed.folder}/{lmdb}", "batch_size": batch, "backend": P.Data.LMDB},
            transform_param=transform,
            **more,
        )

    test = caffe.NetSpec()
    for spec, tops in (
        (test, data(caffe.TEST, "test_lmdb", feed.test_batch, means[1])),
        (n, data(caffe.TRAIN, "train_lmdb", feed.train_batch, {**crop, **mirror, **means[0]}, **centre)),
    ):
        spec.data, *rest = tops if label else (tops,)
        if label:
            spec.label = rest[0]
    if index:
        source = {"source": f"{feed.folder}/{Path(INDEX_FILE).parent}", "batch_size": feed.train_batch}
        n.index_pixel, n.index = L.Data(
            name="index", ntop=2, include={"phase": caffe.TRAIN}, data_param={**source, "backend": P.Data.LMDB}
        )
        n["index/silence"] = L.Silence(n.index_pixel, ntop=0, include={"phase": caffe.TRAIN})
        test.index = L.DummyData(shape={"dim": [feed.test_batch]}, include={"phase": caffe.TEST})
    return list(test.to_proto().layer)


def accuracy(n, logits):
    n.accuracy = L.Accuracy(logits, n.label, include={"phase": caffe.TEST})


def _network(name, n, test_data):
    network = n.to_proto()
    network.name = name
    layers = list(network.layer)
    del network.layer[:]
    network.layer.extend(layers[:1] + test_data + layers[1:])
    return network
