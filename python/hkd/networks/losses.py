"""The losses, each in built-in layers that Caffe has CUDA code for, but for the FSP matrix and the weights of
hint-dynamic KD, which are Python layers.

A helper adds layers to the NetSpec `n`.
"""

import json
from dataclasses import dataclass, replace

import caffe
from caffe import layers as L
from caffe import params as P

from hkd.layers import instance_weights as instance_weights_layer

REGRESSOR = "regressor"
"""What the regressor of pair i is called by: regressor1, regressor2, regressor3."""
WEIGHTS = "weights"
"""The layer that gives the weights of hint-dynamic KD."""
SMALLEST = 1e-37
"""Added inside the logarithm: a softmax that underflows to 0 gives -85, not minus infinity. Below a float's resolution
for every probability above 1e-29, so it changes no loss and no gradient that a network in training meets."""


@dataclass(frozen=True)
class Falling:
    """A weight that falls (or rises) linearly over the iterations of a stage: `first` at the first, `last` after the last."""

    first: float
    last: float
    iterations: int

    def __rmul__(self, factor):
        return replace(self, first=factor * self.first, last=factor * self.last)


COUNTED = "lambda/"
"""What the layers with the count of iterations are called by: their blobs are no weights."""


def falling(n, weight):
    """The value of a Falling as a scalar blob, from the number of iterations done, in layers that any Caffe has.

    In the TRAIN phase a BatchNorm multiplies its third blob by the moving average's fraction and adds one: with a fraction of
    1 it counts the iterations (batch_norm_layer.cpp). A Parameter layer shares that blob and reads it before it is raised. So
    the count is among the weights, and a snapshot keeps it; what the BatchNorm normalises, two zeros, is of no use.
    """
    count = [{"name": "iteration", "lr_mult": 0, "decay_mult": 0}]
    still = [{"lr_mult": 0, "decay_mult": 0}] * 2
    n[COUNTED + "iteration"] = L.Parameter(shape={"dim": [1]}, param=count)
    slope = (weight.last - weight.first) / weight.iterations
    line = n[COUNTED + "line"] = L.Power(n[COUNTED + "iteration"], scale=slope, shift=weight.first)
    value = n["lambda"] = L.Reduction(line)  # one number without axes, as a loss is
    zeros = n[COUNTED + "zeros"] = L.DummyData(shape={"dim": [2, 1]})
    n[COUNTED + "counter"] = L.BatchNorm(zeros, moving_average_fraction=1, param=still + count)
    return value


def regressor(n, name, guided, channels):
    """A 1x1 convolution without bias, Gaussian, from the guided layer's channels to the hint layer's; it learns with
    the hint step and is dropped after it (ETRI section 3.2.4)."""
    # Caffe's Gaussian filler has a standard deviation of 1 unless told otherwise.
    top = n[name] = L.Convolution(
        guided,
        num_output=channels,
        kernel_size=1,
        bias_term=False,
        weight_filler={"type": "gaussian", "std": 0.01},
    )
    return top


def hint(n, name, guided, hinted, weight=1.0):
    """Equation (1): half the squared distance of two maps, summed over a sample's elements, averaged over the batch.

    Exactly what EuclideanLoss computes (euclidean_loss_layer.cpp: sum / 2N). The hint layer gets no gradient.
    """
    loss = n[name] = L.EuclideanLoss(guided, hinted, propagate_down=[True, False], loss_weight=weight)
    return loss


def fsp_matrix(n, name, first, second, rows=None, columns=None):
    """The FSP matrix of two maps of one size, N x m x n (FSP equation 1). rows, columns: another order of their channels."""
    orders = {key: order for key, order in (("rows", rows), ("columns", columns)) if order is not None}
    parameters = {"module": "hkd.layers.fsp", "layer": "FSP", **({"param_str": json.dumps(orders)} if orders else {})}
    top = n[name] = L.Python(first, second, python_param=parameters)
    return top


def fsp(n, name, student, teacher, weight=1.0):
    """FSP equation 2 for one pair of layers: the squared distance of two FSP matrices, summed over a sample's elements,
    averaged over the batch, times `weight`. The teacher gets no gradient."""
    # EuclideanLoss has a half in it, the equation has none.
    loss = n[name] = L.EuclideanLoss(student, teacher, propagate_down=[True, False], loss_weight=2 * weight)
    return loss


def hard_cross_entropy(n, name, logits, label, tau=1.0):
    """The first term of equation (2); `tau` other than 1 softens it too."""
    if tau != 1.0:
        logits = n[name + "/logits"] = L.Power(logits, scale=1 / tau)
    loss = n[name] = L.SoftmaxWithLoss(logits, label, loss_weight=1)
    return loss


def soft_cross_entropy(n, name, student, teacher, tau, weight, classes):
    """The second term of equation (2): -1/N sum P_T log P_S with P = softmax(logits / tau), N x classes each; weight: a number
    or Falling.

    Gradient with respect to the student's logits: weight (P_S - P_T) / (tau N). The teacher gets none.
    """
    target, log = _softened(n, name, student, teacher, tau)
    product = n[name + "/product"] = L.Eltwise(log, target, operation=P.Eltwise.PROD, propagate_down=[True, False])
    # MEAN is over N x classes elements, so that one number serves batches of any size in both phases.
    mean = {"operation": P.Reduction.MEAN, "coeff": -classes}
    if not isinstance(weight, Falling):
        loss = n[name] = L.Reduction(product, **mean, loss_weight=weight)
        return loss
    unweighted = n[name + "/unweighted"] = L.Reduction(product, **mean)
    now = falling(n, weight)
    loss = n[name] = L.Eltwise(unweighted, now, operation=P.Eltwise.PROD, propagate_down=[True, False], loss_weight=1)
    return loss


def _softened(n, name, student, teacher, tau):
    """P_T and log P_S, N x classes each."""
    scaled = n[name + "/teacher_logits"] = L.Power(teacher, scale=1 / tau)
    target = n[name + "/teacher"] = L.Softmax(scaled)
    scaled = n[name + "/student_logits"] = L.Power(student, scale=1 / tau)
    softened = n[name + "/student"] = L.Softmax(scaled)
    log = n[name + "/log"] = L.Log(softened, shift=SMALLEST)
    return target, log


# --- one loss for each image, N: what hint-dynamic KD weighs ----------------------------------------------------------


def divergence(n, name, student, teacher, tau):
    """tau^2 KL(P_T || P_S) with P = softmax(logits / tau) of each image. The teacher gets no gradient."""
    target, log = _softened(n, name, student, teacher, tau)
    own = n[name + "/teacher_log"] = L.Log(target, shift=SMALLEST)
    apart = n[name + "/ratio"] = L.Eltwise(log, own, coeff=[-1, 1], propagate_down=[True, False])
    product = n[name + "/product"] = L.Eltwise(apart, target, operation=P.Eltwise.PROD, propagate_down=[True, False])
    each = n[name + "/each"] = L.Reduction(product, axis=1, coeff=tau**2)
    return each


def distance(n, name, student, teacher, elements):
    """The mean squared difference of two maps, or of two FSP matrices, of `elements` numbers, of each image. The
    teacher gets no gradient."""
    apart = n[name + "/difference"] = L.Eltwise(student, teacher, coeff=[1, -1], propagate_down=[True, False])
    each = n[name + "/each"] = L.Reduction(apart, operation=P.Reduction.SUMSQ, axis=1, coeff=1 / elements)
    return each


def instance_weights(n, name, logits, label, each, index, given):
    """The weights of each image's hint losses, a top of N for each of `each`, {hint: its losses}. given: the param_str
    of layers/instance_weights.py. No gradient goes through it."""
    bottoms = (logits, label, *each.values(), index)
    parameters = {
        "module": "hkd.layers.instance_weights", "layer": "InstanceWeights", "param_str": json.dumps(given),
    }  # fmt: skip
    tops = L.Python(
        *bottoms,
        name=name,
        ntop=len(each),
        python_param=parameters,
        propagate_down=[False] * len(bottoms),
        # Its parameters learn by the driver's meta step, not by the solver.
        param=[{"lr_mult": 0, "decay_mult": 0}] * instance_weights_layer.BLOBS,
    )
    for hint, top in zip(each, tops, strict=True):
        n[f"{hint}/weight"] = top
    return tops


def weighted(n, name, each, weight):
    """The mean over the batch of each image's loss times its weight. The weights get no gradient."""
    product = n[name + "/weighted"] = L.Eltwise(each, weight, operation=P.Eltwise.PROD, propagate_down=[True, False])
    loss = n[name] = L.Reduction(product, operation=P.Reduction.MEAN, loss_weight=1)
    return loss


def accuracy(n, logits):
    """The share of the batch whose largest logit is that of its label, blob `accuracy`, in the TEST phase."""
    n.accuracy = L.Accuracy(logits, n.label, include={"phase": caffe.TEST})
