"""The losses in Caffe itself: values by hand, gradients against the closed form and against central differences."""

import caffe
import numpy as np
import pytest
from caffe import layers as L

from hkd.networks import losses
from nets import build, central_differences, softmax, total

TAU, WEIGHT, CLASSES = 3.0, 5.0, 4


def kd_net(tmp_path, batch, weight=WEIGHT, tau=TAU, hard_tau=1.0):
    n = caffe.NetSpec()
    for name in ("student", "teacher"):
        n[name] = L.Input(shape={"dim": [batch, CLASSES]})
    n.label = L.Input(shape={"dim": [batch]})
    losses.hard_cross_entropy(n, "hard", n.student, n.label, hard_tau)
    losses.soft_cross_entropy(n, "soft", n.student, n.teacher, tau, weight, CLASSES)
    return build(n, tmp_path)


def fill(net, batch, spread=2.0):
    rng = np.random.default_rng(7)
    student, teacher = rng.normal(size=(2, batch, CLASSES)) * spread
    label = rng.integers(0, CLASSES, batch)
    for name, value in (("student", student), ("teacher", teacher), ("label", label)):
        net.blobs[name].data[...] = value
    return student, teacher, label


def test_golden_values_of_the_kd_loss(tmp_path):
    """One sample by hand: logits (1, 2, 3, 4) against (2, 0, 0, 0) at temperature 2, label 3."""
    net = kd_net(tmp_path, 1, tau=2.0)
    net.blobs["student"].data[...] = [1, 2, 3, 4]
    net.blobs["teacher"].data[...] = [2, 0, 0, 0]
    net.blobs["label"].data[...] = 3
    net.forward()
    # hard: log(e^-3 + e^-2 + e^-1 + 1) = 0.4401897
    assert float(net.blobs["hard"].data) == pytest.approx(0.4401897, abs=1e-6)
    # P_T = (e, 1, 1, 1) / (e + 3) = (0.475367, 0.174878 x3); log P_S = (0.5, 1, 1.5, 2) - 2.787339 (log-sum-exp)
    assert float(net.blobs["soft"].data) == pytest.approx(
        0.475367 * 2.287339 + 0.174878 * (3 * 2.787339 - 4.5), abs=2e-5
    )


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("hard_tau", [1.0, 3.0])
def test_kd_loss_value_and_gradient(tmp_path, batch, hard_tau):
    net = kd_net(tmp_path, batch, hard_tau=hard_tau)
    student, teacher, label = fill(net, batch)
    value = total(net)
    P_S, P_T, P_hard = softmax(student / TAU), softmax(teacher / TAU), softmax(student / hard_tau)
    hard = -np.log(P_hard[np.arange(batch), label]).mean()
    soft = -(P_T * np.log(P_S)).sum(axis=1).mean()
    assert float(net.blobs["soft"].data) == pytest.approx(soft, rel=1e-5)
    assert value == pytest.approx(hard + WEIGHT * soft, rel=1e-5)
    net.backward()
    closed = (P_hard - np.eye(CLASSES)[label]) / (hard_tau * batch) + WEIGHT * (P_S - P_T) / (TAU * batch)
    gradient = net.blobs["student"].diff.copy()
    np.testing.assert_allclose(gradient, closed, atol=2e-6)
    # The logged loss is the one that is differentiated.
    np.testing.assert_allclose(gradient, central_differences(net, "student"), atol=3e-3)


def test_a_soft_loss_of_extreme_logits_stays_finite(tmp_path):
    net = kd_net(tmp_path, 2)
    net.blobs["student"].data[...] = [[5000, -5000, 0, 0], [0, 0, 0, 800]]
    net.blobs["teacher"].data[...] = [[-5000, 5000, 0, 0], [0, 0, 800, 0]]
    net.blobs["label"].data[...] = 1
    assert np.isfinite(total(net))
    net.backward()
    assert np.isfinite(net.blobs["student"].diff).all()


def test_the_guard_of_the_logarithm_changes_no_ordinary_value():
    p = np.float32(1e-29)
    assert p + np.float32(losses.SMALLEST) == p


def test_a_temperature_scales_both_sides(tmp_path):
    net = kd_net(tmp_path, 4)
    student, teacher, _ = fill(net, 4)
    net.forward()
    np.testing.assert_allclose(net.blobs["soft/teacher"].data, softmax(teacher / TAU), rtol=1e-5)
    np.testing.assert_allclose(net.blobs["soft/student"].data, softmax(student / TAU), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (5, 3, 4, 4)])
def test_hint_loss_value_and_gradient(tmp_path, shape):
    n = caffe.NetSpec()
    for name in ("guided", "hinted"):
        n[name] = L.Input(shape={"dim": list(shape)})
    losses.hint(n, "hint1", n.guided, n.hinted)
    net = build(n, tmp_path)
    guided, hinted = np.random.default_rng(3).normal(size=(2, *shape))
    net.blobs["guided"].data[...], net.blobs["hinted"].data[...] = guided, hinted
    # Equation (1): half the squared norm, averaged over the batch and summed over everything else.
    assert total(net) == pytest.approx(((guided - hinted) ** 2).sum() / (2 * shape[0]), rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["guided"].diff, (guided - hinted) / shape[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.blobs["guided"].diff, central_differences(net, "guided"), atol=5e-3)


def test_golden_value_of_the_hint_loss(tmp_path):
    n = caffe.NetSpec()
    for name in ("guided", "hinted"):
        n[name] = L.Input(shape={"dim": [2, 1, 1, 2]})
    losses.hint(n, "hint1", n.guided, n.hinted)
    net = build(n, tmp_path)
    net.blobs["guided"].data[...] = [[[[1, 2]]], [[[3, 4]]]]
    net.blobs["hinted"].data[...] = [[[[0, 0]]], [[[3, 2]]]]
    assert total(net) == (1 + 4 + 0 + 4) / 4


@pytest.mark.parametrize("tau", [0.01, 3.0, 1e4])
def test_the_softened_gradient_is_whole_up_to_80_tau_and_vanishes_beyond_what_float32_holds(tmp_path, tau):
    """README states the bound (87 tau), and settings.py the temperatures that it leaves."""
    for gap, whole in ((80, True), (100, False)):
        net = kd_net(tmp_path, 1, weight=1, tau=tau, hard_tau=tau)
        net.blobs["student"].data[...] = [gap * tau, 0, 0, 0]
        net.blobs["teacher"].data[...] = [0, gap * tau, 0, 0]
        net.blobs["label"].data[...] = 0  # the student's own answer: the hard term has no gradient
        net.forward()
        net.backward()
        gradient = float(net.blobs["student"].diff[0, 1]) * tau
        assert gradient == pytest.approx(-1, rel=1e-2) if whole else abs(gradient) < 0.01
