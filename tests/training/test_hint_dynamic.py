"""Hint-dynamic KD: its layer and losses in Caffe, the meta-gradient against differences of the meta loss, training,
kills."""

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import caffe
import numpy as np
import pytest
from caffe import layers as L

from conftest import FASHION, ROOT, command, one_line, read_idx, snakemake
from drivers import wait_for_a_snapshot
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.layers import history, meta_network
from hkd.networks import losses, prototxt, solvers
from hkd.paper import experiments
from hkd.paper.architecture import Architecture
from hkd.paper.datasets import dataset
from hkd.results import cost
from hkd.results.workflow import INDEXED, Settings, Workflow
from hkd.stages import snapshots, surgery
from hkd.stages.stage import planned
from hkd.training import hint_dynamic
from hkd.training.hint_dynamic.gradient import MetaGradient
from hkd.training.hint_dynamic.images import MetaImages
from hkd.training.hint_dynamic.optimizer import Optimizer
from nets import build, central_differences, data_net, softmax, total

RUN, TOOL = "python/run_stage.py", "data_tools/make_lmdb.py"
CONTROLS = ("hint-dynamic-no-ensemble", "hint-dynamic-global", "hint-dynamic-random", "hint-dynamic-equal")
VARIANTS = ("hint-dynamic", *(pytest.param(control, marks=pytest.mark.slow) for control in CONTROLS))
N, CLASSES, TAU = 5, 4, 3.0
GIVEN = {
    "weights": "random", "output": "softmax", "ensemble": "ema", "mu": 0.9, "u": 0.5, "v0": 0.01, "hidden": 7,
    "scales": [1.0, 2.0], "iterations": 100, "seed": 3,
}  # fmt: skip


# --- the meta-weight network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", meta_network.OUTPUTS)
def test_gradients_of_the_meta_weight_network(output):
    rng = np.random.default_rng(1)
    parameters = [rng.normal(size=shape) for shape in meta_network.shapes(6, 5, 3)]
    state, direction = rng.normal(size=(8, 6)), rng.normal(size=(8, 3))

    def value():
        return (meta_network.forward(parameters, state, output)[0] * direction).sum()

    gradients = meta_network.backward(meta_network.forward(parameters, state, output)[1], direction)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for at in np.ndindex(*parameter.shape):
            kept, sides = parameter[at], []
            for sign in (1, -1):
                parameter[at] = kept + sign * 1e-6
                sides.append(value())
            parameter[at] = kept
            assert gradient[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("output", meta_network.OUTPUTS)
def test_weights_begin_at_one_and_have_that_mean(output):
    rng = np.random.default_rng(2)
    state = rng.normal(size=(50, 6)) * 3
    parameters = meta_network.first(6, 5, 3, random_seed=4)
    assert (meta_network.forward(parameters, state, output)[0] == 1).all()
    assert parameters[0].std() > 0.1  # the hidden layer has something to say from the first step on
    parameters[2] += rng.normal(size=parameters[2].shape)
    weights, _ = meta_network.forward(parameters, state, output)
    assert weights.std() > 0.1 and weights.min() >= 0
    if output == "softmax":
        np.testing.assert_allclose(weights.mean(axis=1), 1)
    else:
        assert weights.max() <= 2


def test_adam_by_its_definition_and_sgd():
    start, gradients = np.array([1.0, -2.0]), ([0.5, -1.0], [0.1, 3.0], [-2.0, 0.2])
    adam, sgd = (Optimizer(kind, 0.1, 0.01, [(2,)]) for kind in ("adam", "sgd"))
    x, y, m, v = start.copy(), start.copy(), 0.0, 0.0
    theirs = [start.copy(), start.copy()]
    for t, gradient in enumerate(map(np.array, gradients), start=1):
        g = gradient + 0.01 * x
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        y -= 0.1 * (gradient + 0.01 * y)
        adam.step(theirs[:1], [gradient])
        sgd.step(theirs[1:], [gradient])
    np.testing.assert_allclose(theirs[0], x, rtol=1e-12)
    np.testing.assert_allclose(theirs[1], y, rtol=1e-12)


# --- the history of an image's weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ema", "uncertainty", "none"])
def test_the_weights_used_are_those_of_the_formula(tmp_path, rule):
    mu, u0, v0 = 0.8, 0.3, 0.02
    kept = history.create(tmp_path / "h.npy", 4, 2)
    rng, given = np.random.default_rng(1), {}
    for visit in range(6):
        index = np.array([3, 1]) if visit % 2 else np.array([1, 0])
        weights = rng.uniform(0, 2, (2, 2))
        used = history.ensemble(kept, index, weights, rule, mu, u0, v0)
        for row, image in enumerate(index):
            seen = [*given.setdefault(image, []), weights[row]]
            fading = mu ** np.arange(len(seen))[::-1, None]
            mean = (fading * seen).sum(axis=0) / fading.sum()
            u = {"ema": u0, "none": 0}.get(rule)
            if u is None:
                # At each visit but the first: how far the weights lay from the mean before.
                far = [
                    (seen[t] - (fading[-t:] * seen[:t]).sum(axis=0) / fading[-t:].sum()) ** 2
                    for t in range(1, len(seen))
                ]
                v = (fading[1:] * far).sum(axis=0) / fading[1:].sum() if far else np.zeros(2)
                u = v / (v + v0)
            np.testing.assert_allclose(used[row], (1 - u) * weights[row] + u * mean, rtol=1e-5)
            if len(seen) == 1:
                np.testing.assert_allclose(used[row], weights[row], rtol=1e-6)
            given[image] = seen
    assert kept[:, 0].tolist() == [3, 6, 0, 3] and kept.dtype == np.float32 and isinstance(kept, np.memmap)
    kept.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "h.npy"), kept)


def test_averaged_weights_keep_their_mean(tmp_path):
    kept, rng = history.create(tmp_path / "h.npy", 9, 3), np.random.default_rng(5)
    for _ in range(7):
        weights = rng.exponential(size=(9, 3))
        weights *= 3 / weights.sum(axis=1, keepdims=True)
        used = history.ensemble(kept, np.arange(9), weights, "ema", 0.9, 0.5, 1)
        np.testing.assert_allclose(used.mean(axis=1), 1, rtol=1e-5)
    assert np.abs(used - 1).mean() < np.abs(weights - 1).mean()


# --- the losses and the layer in Caffe --------------------------------------------------------------------------------


def net_of_losses(tmp_path, **changes):
    """Both hints of random logits and maps, and cross entropy beside."""
    n = caffe.NetSpec()
    for name, shape in (
        ("student", (N, CLASSES)), ("teacher", (N, CLASSES)), ("own", (N, 3, 2, 2)), ("theirs", (N, 3, 2, 2)),
        ("label", (N,)), ("index", (N,)),
    ):  # fmt: skip
        n[name] = L.Input(shape={"dim": list(shape)})
    losses.hard_cross_entropy(n, "hard", n.student, n.label)
    each = {"soft": losses.divergence(n, "soft", n.student, n.teacher, TAU)}
    each["feature"] = losses.distance(n, "feature", n.own, n.theirs, 12)
    tops = losses.instance_weights(n, "weights", n.student, n.label, each, n.index, GIVEN | changes)
    for (hint, vector), weight in zip(each.items(), tops, strict=True):
        losses.weighted(n, hint, vector, weight)
    net = build(n, tmp_path)
    rng = np.random.default_rng(2)
    for name in ("student", "teacher", "own", "theirs"):
        net.blobs[name].data[...] = rng.normal(size=net.blobs[name].data.shape) * 2
    net.blobs["label"].data[...] = [0, 1, 2, 3, 1]
    net.blobs["index"].data[...] = [4, 0, 3, 2, 1]
    return net


def expected_losses(net):
    """N x 2: tau^2 KL and mean squared difference of each image."""
    blob = {name: net.blobs[name].data.astype(np.float64) for name in ("student", "teacher", "own", "theirs")}
    P_S, P_T = (softmax(blob[name] / TAU) for name in ("student", "teacher"))
    soft = TAU**2 * (P_T * (np.log(P_T) - np.log(P_S))).sum(axis=1)
    return np.column_stack([soft, ((blob["own"] - blob["theirs"]) ** 2).mean(axis=(1, 2, 3))])


@pytest.mark.parametrize("way", ["random", "equal", "learned", "global"])
def test_value_and_gradient_of_the_weighted_losses(tmp_path, way):
    net = net_of_losses(tmp_path, weights=way)
    layer = net.layer_dict["weights"]
    value = total(net)
    wanted = expected_losses(net)
    np.testing.assert_allclose(layer.losses, wanted, rtol=1e-4)
    np.testing.assert_allclose(layer.scales, [1, 2] / wanted.mean(axis=0), rtol=1e-4)
    hard = -np.log(softmax(net.blobs["student"].data))[np.arange(N), [0, 1, 2, 3, 1]].mean()
    assert value == pytest.approx(hard + (wanted * layer.used * layer.scales).mean(axis=0).sum(), rel=1e-5)
    net.backward()
    gradients = {name: net.blobs[name].diff.copy() for name in ("student", "own")}
    layer.frozen, layer.iteration = True, 0  # the weights of that pass again, whatever is changed below
    for name in ("student", "own"):
        assert np.abs(gradients[name]).max() > 0.01
        np.testing.assert_allclose(gradients[name], central_differences(net, name), atol=3e-3)


def test_no_gradient_goes_through_the_weights(tmp_path):
    """Weights that depend on the student are constants to it: its gradient is that of the same weights, held."""
    net = net_of_losses(tmp_path, weights="learned")
    layer = net.layer_dict["weights"]
    layer.network[2].data[...] = np.random.default_rng(1).normal(size=(7, 2))
    total(net)
    assert layer.used.std() > 0.1
    net.backward()
    P_S, P_T = (softmax(net.blobs[name].data / TAU) for name in ("student", "teacher"))
    P, scale = softmax(net.blobs["student"].data), layer.scales * layer.used / N
    closed = (P - np.eye(CLASSES)[[0, 1, 2, 3, 1]]) / N + scale[:, :1] * TAU * (P_S - P_T)
    np.testing.assert_allclose(net.blobs["student"].diff, closed, atol=1e-5)


def test_equal_weights_are_one_and_random_ones_have_that_mean(tmp_path):
    layer = (net := net_of_losses(tmp_path, weights="equal")).layer_dict["weights"]
    net.forward()
    assert (layer.used == 1).all()
    layer = (net := net_of_losses(tmp_path, weights="random")).layer_dict["weights"]
    drawn = []
    for _ in range(200):
        net.forward()
        drawn.append(layer.used)
    np.testing.assert_allclose(np.mean(drawn, axis=2), 1)
    np.testing.assert_allclose(np.mean(drawn, axis=(0, 1)), 1, atol=0.06)
    assert len({d.tobytes() for d in drawn}) == 200
    layer.iteration = 17
    net.forward()
    assert layer.used.tobytes() == drawn[17].tobytes()  # of a resumed run too


def test_global_weights_are_the_same_for_every_image_and_learned_ones_are_not(tmp_path):
    for way, images_differ in (("global", False), ("learned", True)):
        net = net_of_losses(tmp_path, weights=way)
        layer, rng = net.layer_dict["weights"], np.random.default_rng(3)
        for blob in layer.network:
            blob.data[...] += rng.normal(size=blob.data.shape)
        net.forward()
        assert (layer.used.std(axis=0).max() > 1e-3) == images_differ
        assert not np.allclose(layer.used[0], 1)


def test_the_test_phase_weighs_all_hints_equally(tmp_path):
    net = net_of_losses(tmp_path, weights="learned")
    net.layer_dict["weights"].network[2].data[...] = 3
    net.forward()
    tested = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    tested.share_with(net)
    tested.forward()
    np.testing.assert_array_equal(tested.blobs["soft/weight"].data, net.layer_dict["weights"].scales[0])


@pytest.mark.parametrize("change", [{"weights": "some"}, {"scales": [1.0]}, {"output": "relu"}, {"more": 1}])
def test_what_the_layer_does_not_know_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match="InstanceWeights"):
        net_of_losses(tmp_path, **change)


# --- the network ------------------------------------------------------------------------------------------------------


def network(method="hint-dynamic", name="cifar10-r26-r14", *changes):
    return planned(experiments.experiment(name, changes), method, "dynamic").network("DATA", 10_000)


def test_the_index_is_read_behind_the_images_in_training_alone():
    net = network()
    first = [(x.type, list(x.top), x.include[0].phase) for x in net.layer[:4]]
    assert first == [
        ("Data", ["data", "label"], caffe.TRAIN), ("Data", ["data", "label"], caffe.TEST),
        ("DummyData", ["index"], caffe.TEST), ("Data", ["index_pixel", "index"], caffe.TRAIN),
    ]  # fmt: skip
    images, index = net.layer[0], net.layer[3]
    assert index.data_param.source == "DATA/train_index_lmdb"
    assert index.data_param.batch_size == images.data_param.batch_size == 128
    for phase in (caffe.TRAIN, caffe.TEST):
        names = [x.name for x in net.layer if not x.include or x.include[0].phase == phase]
        assert len(names) == len(set(names))


def test_the_teacher_does_not_learn_and_the_weights_are_no_matter_of_the_solver():
    for layer in network().layer:
        if layer.name.startswith("teacher/"):
            assert all(p.lr_mult == 0 for p in layer.param)
        elif layer.name == "weights":
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(0, 0)] * 6
        else:
            assert not layer.param


def test_hints_regressors_and_controls():
    names = [x.name for x in network().layer]
    assert "soft" in names and "feature" in names and "fsp" not in names and "regressor3" not in names
    wide = {x.name: x for x in network("hint-dynamic", "cifar10-r26w32-r14").layer}
    assert wide["regressor3"].convolution_param.num_output == 128
    three = {x.name: x for x in network("hint-dynamic", "cifar10-r26-r14", "dynamic_hints=soft,feature,fsp").layer}
    assert three["fsp/each"].reduction_param.coeff == pytest.approx(1 / (32 * 64))
    assert list(three["fsp/matrix"].bottom) == ["fsp/pool", "stack3/block2/sum"]
    with pytest.raises(UserError, match="of one width"):
        network("hint-dynamic", "cifar10-r26w32-r14", "dynamic_hints=soft,fsp")
    given = {
        m: json.loads(next(x for x in network(m).layer if x.name == "weights").python_param.param_str)
        for m in ("hint-dynamic", *CONTROLS)
    }
    assert [g["weights"] for g in given.values()] == ["learned", "learned", "global", "random", "equal"]
    assert [g["ensemble"] for g in given.values()] == ["ema"] + ["none"] * 4


def test_every_setting_of_it_is_in_the_digest_and_of_no_other_stage():
    e = experiments.experiment("cifar10-r14-r8")
    other = experiments.experiment("cifar10-r14-r8", ("dynamic_every=7",))
    dynamic, kd = ([planned(x, *words) for x in (e, other)] for words in (("hint-dynamic", "dynamic"), ("kd", "kd")))
    assert dynamic[1].beside["dynamic_every"] == 7 and not kd[0].beside
    assert dynamic[0].name == "r14-r8-hint-dynamic-net1" and dynamic[1].name.endswith("+dynamic_every=7")
    assert kd[0].name == kd[1].name
    assert dynamic[0].files("S", "D", 100) == dynamic[1].files("S", "D", 100)  # so the files alone would not tell


def test_what_it_costs_beside_kd():
    e = experiments.experiment("cifar10-r14-r8")
    kd = cost.of_iteration(planned(e, "kd", "kd"))
    learned, equal = (cost.of_iteration(planned(e, f"hint-dynamic{x}", "dynamic")) for x in ("", "-equal"))
    assert equal == kd
    student = cost.multiply_adds(e.student, e.facts, classes=10)
    assert learned - kd == student * (5 * 128 + 3 * 100) // 5


# --- the meta step ----------------------------------------------------------------------------------------------------


def fashion_images(first, count):
    images, labels = (
        read_idx(FASHION / f"train-{kind}-ubyte.gz", d) for kind, d in (("images-idx3", 3), ("labels-idx1", 1))
    )
    return images[first : first + count, None].astype(np.float32) / 64, labels[first : first + count]


def meta_gradient(*changes):
    """(MetaGradient, its arguments, the layer) of a narrow pair on real images, with a meta-weight network that has
    learned something."""
    caffe.set_random_seed(1)
    e = experiments.experiment("fashion-mnist-r14-r8", ("batch=12", "dynamic_batch=30", "dynamic_hidden=9", *changes))
    e = replace(e, teacher=Architecture(8, 3), student=Architecture(8, 2 if not changes else 3))
    network = planned(e, "hint-dynamic", "dynamic").network("DATA", 100)
    net = prototxt.built(network, e.facts, caffe.TRAIN)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = fashion_images(0, 12)
    for name, blobs in net.params.items():
        if name.startswith("teacher/") and net.layer_dict[name].type == "BatchNorm":
            for blob, value in zip(blobs, (0, 1, 1), strict=True):  # as if it had been trained
                blob.data[...] = value
    net.forward()
    layer, rng = net.layer_dict["weights"], np.random.default_rng(6)
    for blob in layer.network:
        blob.data[...] += rng.normal(size=blob.data.shape) * 0.5
    net.forward()
    lr = 0.5  # large, so that its effect on the meta loss stands above float32's last bits
    return MetaGradient(network, net, e), (lr, *fashion_images(100, 30)), layer


@pytest.mark.parametrize("changes", [(), ("dynamic_hints=soft,feature,fsp",), ("dynamic_output=sigmoid",)])
def test_the_meta_gradient_is_that_of_the_meta_loss(changes):
    """Against direct differences of the cross entropy of the meta batch after the virtual step, in each parameter blob
    of the meta-weight network: along the gradient itself, and for each output bias."""
    gradient, arguments, layer = meta_gradient(*changes)
    slope, cache, _ = gradient(*arguments)
    assert slope.shape == (12, len(layer.scales)) and np.abs(slope).min() > 0
    found = meta_network.backward(cache, slope)

    def difference(blob, direction, step):
        kept, sides = blob.data.copy(), []
        for sign in (1, -1):
            blob.data[...] = kept + sign * step * direction
            sides.append(gradient.virtual_loss(*arguments))
        blob.data[...] = kept
        return (sides[0] - sides[1]) / (2 * step)

    for blob, own in zip(layer.network, found, strict=True):
        length = np.linalg.norm(own)
        assert length > 1e-5
        assert difference(blob, own / length, 0.05) == pytest.approx(length, rel=0.05)
    for k in range(len(layer.scales)):
        unit = np.eye(len(layer.scales))[k]
        assert difference(layer.network[3], unit, 0.05) == pytest.approx(
            found[3][k], rel=0.05, abs=1e-5
        )  # a float32 loss near 2.3 goes in steps of 2.4e-7, over 0.1 of the two sides


def test_the_meta_step_changes_nothing_of_the_student():
    gradient, arguments, layer = meta_gradient()
    before = {name: [b.data.copy() for b in blobs] for name, blobs in gradient.net.params.items()}
    outputs = {name: blob.data.copy() for name, blob in gradient.net.blobs.items()}
    iteration = layer.iteration
    first = gradient(*arguments)[0]
    for name, blobs in gradient.net.params.items():
        for blob, kept in zip(blobs, before[name], strict=True):
            np.testing.assert_array_equal(blob.data, kept)
    for name, blob in gradient.net.blobs.items():
        np.testing.assert_array_equal(blob.data, outputs[name])
    assert layer.iteration == iteration
    assert gradient(*arguments)[0].tobytes() == first.tobytes()
    assert not [name for name in gradient.probe.params if name.startswith("teacher/")]


def test_meta_images_are_what_a_test_would_show_of_training_images(colour, tmp_path):
    facts = dataset("cifar10")
    found = MetaImages(plans_manifest(colour), facts, 1000, random_seed=5)
    whole = data_net(colour, caffe.TEST, tmp_path, 100, ("mirror=true",))
    assert found.images.shape == (1000, 3, 32, 32) and whole.blobs["data"].data.shape[1:] == (3, 32, 32)
    images, labels = found.batch(40, iteration=15)
    # The same records by Caffe's own Data layer in the TEST phase, over the padded images with their mean.
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        ntop=2,
        data_param={"source": str(colour / "train_lmdb"), "batch_size": 1000, "backend": caffe.params.Data.LMDB},
        transform_param={"crop_size": 32, "mean_file": str(colour / "mean_train.binaryproto")},
    )
    path = tmp_path / "train.prototxt"
    path.write_text(str(n.to_proto()))
    net = caffe.Net(str(path), caffe.TEST)
    net.forward()
    theirs = {(x.tobytes(), int(y)) for x, y in zip(net.blobs["data"].data, net.blobs["label"].data, strict=True)}
    own = [(x.tobytes(), int(y)) for x, y in zip(images.astype(np.float32), labels, strict=True)]
    assert len(set(own)) == 40 and set(own) <= theirs
    again = MetaImages(plans_manifest(colour), facts, 1000, random_seed=5)
    np.testing.assert_array_equal(again.batch(40, 15)[0], images)
    assert not np.array_equal(again.batch(40, 20)[0], images)
    few = MetaImages(plans_manifest(colour), facts, 50, random_seed=5)
    seen = {x.tobytes() for i in range(20) for x in few.batch(40, i)[0]}
    assert len(seen) <= 50


def plans_manifest(folder):
    from hkd.paper.datasets import read_manifest

    return read_manifest(folder, dataset("cifar10"))


# --- trained ----------------------------------------------------------------------------------------------------------


SETTINGS = ("batch=16", "base_lr=0.01", "dynamic_images=200", "dynamic_batch=32", "dynamic_every=3")


def words_of(data, runs, method, *more):
    """Of a stage of 18 iterations, with a snapshot after each."""
    words = ["--experiment", "fashion-mnist-r14-r8", "--scale", 0.0005, "--snapshot-seconds", 0, "--cpu"]
    words += [word for setting in SETTINGS for word in ("--set", setting)]
    return [*map(str, (*words, "--data", data, "--runs", runs, "--method", method, "--stage", "dynamic", *more))]


@pytest.fixture(scope="module")
def indexed(fashion, fashion_source, tmp_path_factory):
    out = shutil.copytree(fashion, tmp_path_factory.mktemp("indexed") / "fashion-mnist")
    command(TOOL, "--dataset", "fashion-mnist", "--source", fashion_source, "--index", "--out", out, check=0)
    return out


@pytest.fixture(scope="module")
def runs(indexed, tmp_path_factory):
    """The teacher, and the method, trained."""
    folder = tmp_path_factory.mktemp("runs")
    command(RUN, *words_of(indexed, folder, "hint-dynamic"), check=0)
    return folder


def folder_of(runs, method):
    return planned(experiments.experiment("fashion-mnist-r14-r8", SETTINGS), method, "dynamic", scale=0.0005).folder(
        runs
    )


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def blobs(path):
    return {x.name: [np.array(b.data, np.float32) for b in x.blobs] for x in surgery.read(path).layer if x.blobs}


class TestTrained:
    def test_what_it_leaves(self, runs, indexed):
        folder = folder_of(runs, "hint-dynamic")
        record = json.loads((folder / "record.json").read_text())
        assert record["kind"] == "dynamic" and record["Pc"]["last"] > 0
        assert record["digests"]["history.npy"] == sha256(folder / "history.npy")
        rows = np.load(folder / "history.npy")
        assert rows.shape == (640, 5) and rows.dtype == np.float32
        # 18 batches of 16 are the first 288 records of the LMDB, each once.
        assert rows[:, 0].sum() == 18 * 16 and set(rows[:, 0]) == {0, 1}
        visited = rows[rows[:, 0] == 1]
        np.testing.assert_allclose(visited[:, 1:3].sum(axis=1) / (1 - np.float32(0.9)), 2, rtol=1e-4)
        trained = blobs(folder / "final.caffemodel")
        scales, means, W1, b1, W2, _ = trained["weights"]
        assert scales.min() > 0 and means.min() > 0 and np.abs(W2).max() > 1e-4 and W1.size == 600 and b1.any()
        teacher = next(p for p in runs.rglob("final.caffemodel") if p.parent.name.startswith("r14-teacher"))
        for name, values in blobs(teacher).items():
            for own, theirs in zip(trained[f"teacher/{name}"], values, strict=True):
                np.testing.assert_array_equal(own, theirs)
        lines = [line for line in log_of(folder) if "weights" in line]
        assert lines and all(set(line["weights"]) == {"soft", "feature"} for line in lines)
        for line in lines:
            assert line["meta_loss"] > 0
            both = [line["weights"][hint] for hint in ("soft", "feature")]
            assert sum(w["mean"] for w in both) == pytest.approx(2, abs=1e-4)
            assert all(w["q10"] <= w["q50"] <= w["q90"] for w in both)
        assert lines[-1]["weights"]["soft"]["q90"] > lines[-1]["weights"]["soft"]["q10"]

    @pytest.mark.parametrize("method", CONTROLS)
    def test_every_control_from_the_same_teacher(self, runs, indexed, method):
        command(RUN, *words_of(indexed, runs, method), check=0)
        folder = folder_of(runs, method)
        last = [line for line in log_of(folder) if "weights" in line][-1]["weights"]["soft"]
        assert (folder / "history.npy").exists() == (method == "hint-dynamic-no-ensemble")
        spread = last["q90"] - last["q10"]
        if method.endswith("equal"):
            assert last == {"mean": 1, "q10": 1, "q50": 1, "q90": 1}
        elif method.endswith("random"):
            assert spread > 1 and last["mean"] == pytest.approx(1, abs=0.2)
        elif method.endswith("global"):
            assert last["mean"] != 1 and spread < 0.05
            assert np.abs(blobs(folder / "final.caffemodel")["weights"][5]).max() > 1e-4
        else:
            assert spread > 0

    def test_killed_and_gone_on_with_it_ends_in_the_same_bytes(self, runs, indexed, tmp_path):
        for path in runs.rglob("record.json"):
            if path.parent.name.startswith("r14-teacher"):
                shutil.copytree(path.parent, tmp_path / path.parent.relative_to(runs))
        words, rng = words_of(indexed, tmp_path, "hint-dynamic"), random.Random(4)
        whole = folder_of(runs, "hint-dynamic")
        killed = tmp_path / whole.relative_to(runs)
        for goal in (2, 6, 9, 13):  # after a meta step and between two, within a line of the log and after it
            process = subprocess.Popen([sys.executable, ROOT / RUN, *words], stdout=subprocess.DEVNULL)
            while process.poll() is None and snapshots.iteration(killed / "snapshots") < goal:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.1))  # anywhere in an iteration or a snapshot
            process.kill()
            process.wait()
        assert not (killed / "record.json").exists()
        command(RUN, *words, check=0)
        assert json.loads((killed / "record.json").read_text())["sessions"] == 5
        for name in ("final.caffemodel", "history.npy", "log.jsonl"):
            assert sha256(killed / name) == sha256(whole / name), name

    def test_bare_pycaffe_trains_it_with_equal_weights(self, runs, indexed, tmp_path):
        """Without a line of the driver: the control's bytes; and of the method itself, weights that stay 1."""
        command(RUN, *words_of(indexed, runs, "hint-dynamic-equal"), check=0)
        bare = "import caffe, sys; s = caffe.get_solver(sys.argv[1]); s.net.copy_from(sys.argv[2]); s.solve()"
        found = {}
        for method in ("hint-dynamic-equal", "hint-dynamic"):
            folder = folder_of(runs, method)
            solver = solvers.parse((folder / "solver.prototxt").read_text())
            solver.snapshot_prefix = f"{tmp_path}/{method}"
            (tmp_path / "solver.prototxt").write_text(solvers.text(solver, []))
            words = [sys.executable, "-c", bare, tmp_path / "solver.prototxt", folder / "init.caffemodel"]
            environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT / "python")}
            subprocess.run(words, cwd=ROOT, check=True, capture_output=True, env=environment)
            found[method] = blobs(tmp_path / f"{method}_iter_18.caffemodel")
        own = blobs(folder_of(runs, "hint-dynamic-equal") / "final.caffemodel")
        for name, values in own.items():
            for mine, theirs in zip(values, found["hint-dynamic-equal"][name], strict=True):
                assert mine.tobytes() == theirs.tobytes(), name
        assert not found["hint-dynamic"]["weights"][4].any()  # nobody took a meta step

    def test_the_figure_of_the_weights(self, runs, tmp_path):
        command("python/make_tables.py", "fashion-mnist-r14-r8-weights", "--runs", runs, "--out", tmp_path, check=0)
        svg = (tmp_path / "fashion-mnist-r14-r8-weights.svg").read_text()
        assert (tmp_path / "fashion-mnist-r14-r8-weights.png").stat().st_size > 10_000
        comments = re.findall(r"<!-- (.*?) -->", svg)
        assert any("soft, hint-dynamic KD (HKD-like)" in c for c in comments)
        assert any("feature, hint-dynamic KD (HKD-like)" in c for c in comments) and "not run" not in comments
        (tmp_path / "none").mkdir()
        words = ("cifar10-r14-r8-weights", "--runs", tmp_path / "none", "--out", tmp_path)
        command("python/make_tables.py", *words, check=0)
        assert "<!-- not run -->" in (tmp_path / "cifar10-r14-r8-weights.svg").read_text()

    @pytest.mark.parametrize(
        "changes",
        [
            ("dynamic_hints=soft,feature,fsp", "dynamic_ensemble=uncertainty"),
            ("dynamic_output=sigmoid", "dynamic_optimizer=sgd", "dynamic_scales=5,1,1"),
        ],
    )
    def test_settings(self, runs, indexed, changes):
        command(
            RUN,
            *words_of(indexed, runs, "hint-dynamic", "--net", 2),
            *(w for c in changes for w in ("--set", c)),
            check=0,
        )
        (folder,) = (p.parent for p in runs.rglob("record.json") if changes[0] in p.parent.name)
        hints = [line for line in log_of(folder) if "weights" in line][-1]["weights"]
        assert len(hints) == (3 if "fsp" in changes[0] else 2)
        assert len(np.load(folder / "history.npy")[0]) == 1 + 2 * len(hints)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_data_set_without_the_index_is_refused_with_the_command_that_adds_it(fashion, tmp_path):
    done = command(RUN, *words_of(fashion, tmp_path, "hint-dynamic"))
    one_line(done, "has no index of its training images", "--dataset fashion-mnist --index")
    assert not list(tmp_path.rglob("*.caffemodel"))  # before a teacher was trained


def test_several_gpus_and_torch_on_one_are_refused():
    stage = planned(experiments.experiment("cifar10-r14-r8"), "hint-dynamic", "dynamic")
    with pytest.raises(UserError, match=r"one GPU or the CPU.*--gpu N"):
        hint_dynamic.check(stage, "caffe", (0, 1))
    with pytest.raises(UserError, match=r"on the CPU alone: use --cpu, or --engine caffe"):
        hint_dynamic.check(stage, "torch", (0,))
    hint_dynamic.check(stage, "caffe", (0,))
    hint_dynamic.check(stage, "torch", ())


# --- on PyTorch -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: make torch")
class TestTorch:
    @pytest.mark.parametrize("method", VARIANTS)
    def test_weights_losses_gradients_and_ten_iterations_are_caffes(self, method, indexed):
        """With two meta steps among the iterations, where the method takes any."""
        words = ["--experiment", "fashion-mnist-r14-r8", "--method", method, "--stage", "dynamic", "--iterations", "10"]
        words += ["--set", "batch=16", "--set", "dynamic_images=200", "--set", "dynamic_batch=32", "--data", indexed]
        done = command("python/compare_torch.py", *words, check=0)
        assert " FAILS" not in done.stdout and "| soft/weight | " in done.stdout
        learns = method in ("hint-dynamic", "hint-dynamic-no-ensemble", "hint-dynamic-global")
        assert ("pass  meta: " in done.stdout) == learns

    def test_the_first_order_meta_gradient_is_near_the_exact_one(self, monkeypatch):
        """PyTorch differentiates through the virtual step, without the compiled passes, which have no second derivative. The tolerance is that of differences of float32 losses, some of whose
        ReLUs lie on the other side of zero on one of the two sides."""
        import torch
        from caffe.proto import caffe_pb2

        from hkd.engines.torch import fused
        from hkd.engines.torch.net import Net

        monkeypatch.setattr(fused, "library", lambda dtype: None)
        e = experiments.experiment("fashion-mnist-r14-r8", ("batch=12", "dynamic_batch=30", "dynamic_hidden=9"))
        e = replace(e, teacher=Architecture(8, 6), student=Architecture(8, 6))
        network = planned(e, "hint-dynamic", "dynamic").network("DATA", 100)
        net = Net(prototxt.with_inputs(network, e.facts), caffe_pb2.TRAIN, 3)
        net.blobs["data"].data[...], net.blobs["label"].data[...] = fashion_images(0, 12)
        for name, blobs in net.params.items():
            if name.startswith("teacher/") and len(blobs) == 3:
                for blob, value in zip(blobs, (0, 1, 1), strict=True):  # as if it had been trained
                    blob.data[...] = value
        net.forward()
        gradient, lr, batch = MetaGradient(network, net, e, "torch"), 0.1, fashion_images(100, 30)
        slope, _, _ = gradient(lr, *batch)

        gradient.virtual_loss(lr, *batch)  # leaves the probe at the student's weights of now
        probe, student = gradient.probe, gradient.student
        probe.forward()
        weights = torch.ones(slope.shape, dtype=torch.float32, requires_grad=True)
        scaled = weights * torch.from_numpy(gradient.weights.scales)
        each = torch.stack([probe.tensors[f"{hint}/each"] for hint in e.dynamic_hints], 1)
        loss = probe.tensors["hard"] + (scaled * each).sum(1).mean()
        own = {b.layer.name: b.blobs for b in probe.built}
        learning = [blob for name in gradient.learns for blob in own[name]]
        steps = dict(zip(map(id, learning), torch.autograd.grad(loss, learning, create_graph=True), strict=True))
        for b in student.built:
            if b.layer.name in gradient.learns:
                b.blobs = [blob - lr * steps[id(blob)] for blob in own[b.layer.name]]
        student.inputs["data"].copy_(torch.from_numpy(batch[0]))
        student.inputs["label"].copy_(torch.from_numpy(batch[1].astype(np.float32)))
        student.forward()
        (exact,) = torch.autograd.grad(student.total_loss(), weights)
        apart = np.linalg.norm(slope - exact.numpy()) / np.linalg.norm(exact.numpy())
        assert apart < 0.05 and np.corrcoef(slope.ravel(), exact.numpy().ravel())[0, 1] > 0.998

    @pytest.fixture
    def taught(self, runs, tmp_path):
        """A runs folder with the teacher alone."""
        (teacher,) = (p.parent for p in runs.rglob("record.json") if "-teacher" in p.parent.name)
        shutil.copytree(teacher, tmp_path / teacher.relative_to(runs))
        return tmp_path

    @pytest.mark.parametrize("method", VARIANTS)
    def test_every_variant_trains(self, method, taught, indexed):
        tmp_path = taught
        command(RUN, *words_of(indexed, tmp_path, method, "--engine", "torch"), check=0)
        record = json.loads((folder_of(tmp_path, method) / "record.json").read_text())
        assert record["engine"] == "torch" and record["Pc"]["last"] > 10
        assert (folder_of(tmp_path, method) / "history.npy").exists() == ("learned" in _way(method))

    def until_a_snapshot(self, runs, words):
        """Starts the method and returns it when it has made a snapshot, or has ended."""
        process = subprocess.Popen([sys.executable, ROOT / RUN, *map(str, words)], stdout=subprocess.DEVNULL)
        wait_for_a_snapshot(process, folder_of(runs, "hint-dynamic"))
        return process

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_killed_it_ends_in_the_same_bytes(self, precision, taught, indexed, tmp_path_factory):
        words = ["--engine", "torch", "--precision", precision]
        whole = shutil.copytree(taught, tmp_path_factory.mktemp("whole") / "runs")
        command(RUN, *words_of(indexed, whole, "hint-dynamic", *words), check=0)
        for _ in range(3):
            process = self.until_a_snapshot(taught, words_of(indexed, taught, "hint-dynamic", *words))
            process.kill()
            process.wait()
        command(RUN, *words_of(indexed, taught, "hint-dynamic", *words), check=0)
        for name in ("final.caffemodel", "history.npy", "log.jsonl"):
            assert sha256(folder_of(taught, "hint-dynamic") / name) == sha256(
                folder_of(whole, "hint-dynamic") / name
            ), name

    @pytest.mark.parametrize(("one", "other"), [("caffe", "torch"), ("torch", "caffe")])
    def test_begun_by_one_engine_and_finished_by_the_other(self, one, other, taught, indexed):
        process = self.until_a_snapshot(taught, words_of(indexed, taught, "hint-dynamic", "--engine", one))
        process.terminate()
        process.wait()
        command(RUN, *words_of(indexed, taught, "hint-dynamic", "--engine", other), check=0)
        record = json.loads((folder_of(taught, "hint-dynamic") / "record.json").read_text())
        assert record["engine"] == f"{one}+{other}" and record["sessions"] == 2


def _way(method):
    return {"hint-dynamic": "learned", "hint-dynamic-no-ensemble": "learned"}.get(method, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("dynamic_hints=soft", "two or three of soft,feature,fsp"),
        ("dynamic_hints=feature,soft", "in that order"),
        ("dynamic_scales=1,2", "three positive numbers"),
        ("dynamic_scales=1,0,2", "three positive numbers"),
        ("dynamic_scales=1,x,2", "numbers with commas"),
        ("dynamic_mu=1", "less than 1"),
        ("dynamic_u=1.5", "0 to 1"),
        ("dynamic_every=0", "1 or more"),
        ("dynamic_batch=2000", "at most dynamic_images, 1000"),
        ("dynamic_output=relu", "softmax or sigmoid"),
        ("dynamic_ensemble=mean", "ema or uncertainty or none"),
        ("dynamic_lr=0", "more than 0"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(UserError, match=re.escape(words)):
        experiments.experiment("cifar10-r14-r8", (change,))


def test_more_meta_images_than_the_data_set_has_are_refused(indexed, tmp_path):
    done = command(RUN, *words_of(indexed, tmp_path, "hint-dynamic", "--set", "dynamic_images=700"))
    one_line(done, "dynamic_images=700", "has 640 training images")


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_the_workflow_asks_for_the_index_where_a_stage_reads_it():
    jobs = Workflow(Settings())
    e = experiments.experiment("cifar10-r14-r8")
    stages = [planned(e, method, kind) for method, kind in (("hint-dynamic", "dynamic"), ("kd", "kd"))]
    jobs.stages = {jobs.folder(stage): stage for stage in stages}
    with_index, without = (jobs.inputs(jobs.folder(stage)) for stage in stages)
    assert f"data/cifar10/{INDEXED}" in with_index and not any(INDEXED in path for path in without)
    assert [stage.declared.indexed for stage in stages] == [True, False]


def test_snakemake_adds_the_index_and_leaves_the_data_set_alone(indexed, fashion, tmp_path):
    out = tmp_path / "data/fashion-mnist"
    shutil.copytree(indexed, out)  # indexed already: the official source of these 640 images is not at hand
    stamp = out / ".verified"  # that the copy was read, which says nothing of the data set
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path != stamp}
    snakemake(out / INDEXED, config=(f"data={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}"), check=0)
    assert (out / INDEXED).exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before
