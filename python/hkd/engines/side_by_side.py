"""One stage trained in BVLC Caffe and in the torch engine side by side: the same weights, the same batches, the stage's own rates. Both
compute in float32 and add in another order; training makes that difference grow, and this shows how fast."""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.engines import choice, devices, same_batches
from hkd.engines.torch import data
from hkd.networks import resnet
from hkd.stages import loss_curves


def train(stage, folder, manifest, iterations, weights, said=print):
    """The losses (stages.loss_curves) of the first `iterations` of a stage in both engines. folder: the LMDBs'; weights: a caffemodel, or
    None: Caffe's fillers; said: takes a line about ten times. Raises UserError where a loss is not finite."""
    network = stage.network(folder, manifest.test_images)
    learned = [x.name for x in network.layer if x.type != "BatchNorm" and not x.name.startswith(resnet.TEACHER)]
    feed = data.Feed(network.layer[0], caffe_pb2.TRAIN, stage.random_seed)
    with tempfile.TemporaryDirectory() as scratch:
        made = same_batches.pair(stage, network, feed, manifest, Path(scratch), weights)
        pair = dict(zip(loss_curves.ENGINES, made, strict=True))
        losses, apart = _trained(pair, feed, iterations, learned, lambda line: said(f"{stage.name}: {line}"))
        return {
            "experiment": stage.experiment.name,
            "stage": stage.name,
            "iterations": stage.iterations,
            "losses": losses,
            "apart": apart,
            "start": sha256(Path(scratch) / same_batches.START),
            "pixels": manifest.pixels,
            "hardware": devices.hardware(devices.Device((), 1, "")),
            "versions": {"caffe": devices.caffe_build().get("source"), "torch": choice.version("torch")},
        }


def _trained(pair, feed, iterations, learned, said):
    """({engine: losses}, [(iteration, how far the layers `learned` are apart)]) of the solvers {engine: solver}."""
    losses, apart, looked = {name: [] for name in pair}, [], set(_looks(iterations))
    for done, batch in enumerate(same_batches.batches(feed, iterations), 1):
        for name, solver in pair.items():
            same_batches.put(solver.net, batch)
            solver.step(1)
            losses[name].append(_loss(solver.net, name, done))
        if done in looked:
            ours, theirs = (_weights(pair[name].net, learned) for name in ("torch", "caffe"))
            apart.append([done, float(f"{same_batches.relative(ours, theirs):.4g}")])
        if done % math.ceil(iterations / 10) == 0 or done == iterations:
            now = ", ".join(f"{name} {values[-1]:.5g}" for name, values in losses.items())
            said(f"iteration {done:,} of {iterations:,}: loss {now}")
    return losses, apart


def _looks(iterations):
    """1, 2, 5, 10, 20, 50, ..., and the last."""
    for power in itertools.count():
        for step in (1, 2, 5):
            if step * 10**power >= iterations:
                yield iterations
                return
            yield step * 10**power


def _loss(net, engine, iteration):
    # As the solver weighs and adds them.
    weighed = zip(net._blob_names, net._blob_loss_weights, strict=True)
    loss = sum(weight * float(net.blobs[name].data) for name, weight in weighed if weight)
    if not math.isfinite(loss):
        raise UserError(f"the loss in {engine} is {loss} at iteration {iteration}: try a smaller rate with --set")
    return float(f"{loss:.7g}")


def _weights(net, layers):
    """The parameters of those `layers` that have any, one after another."""
    blobs = [blob.data for name in layers if name in net.params for blob in net.params[name]]
    return np.concatenate([np.asarray(values, np.float64).ravel() for values in blobs])
