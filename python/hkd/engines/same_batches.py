"""Both engines on one network: the same weights to start from, and the very same batches."""

import caffe
import numpy as np
from caffe.proto import caffe_pb2

from hkd.engines.torch import get_solver
from hkd.networks import deploy, prototxt, resnet, solvers

START = "start.caffemodel"


def batch(feed, k):
    """{top: values} of the Data layers' batch k. The index is the place in the LMDB: which image has which is no matter here."""
    images, labels = feed.make(k)
    index = np.arange(k * feed.batch, (k + 1) * feed.batch) % len(feed.images)
    return {"data": images, "label": labels, "index": index}


def batches(feed, iterations):
    """The first of them, one at a time: a batch of CIFAR-10 is 1.5 MB."""
    return (batch(feed, k) for k in range(iterations))


def write(stage, network, feed, manifest, scratch, rate):
    """Solver and network files with Input layers for the Data layers, so that both engines get the very same batches."""
    bare = caffe_pb2.NetParameter(name=network.name)
    for layer in network.layer:
        if layer.type == "Data" and not any(rule.phase == caffe_pb2.TEST for rule in layer.include):
            for top in layer.top:
                # The index is given in training alone; the images are so in both phases.
                made = bare.layer.add(
                    name=top, type="Input", top=[top], include=layer.include if layer.name == "index" else []
                )
                made.input_param.shape.add(dim=feed.shape if top == "data" else (feed.batch,))
    bare.layer.extend(layer for layer in network.layer if layer.type != "Data")
    (scratch / "net.prototxt").write_text(prototxt.text(bare, []))
    solver = stage.solver(str(scratch / "net.prototxt"), str(scratch / "snapshot"), manifest.test_images)
    solver.display = solver.snapshot = 0
    solver.test_interval = 2**31 - 1
    solver.base_lr *= rate
    (scratch / "solver.prototxt").write_text(solvers.text(solver, []))
    return scratch / "solver.prototxt"


def start(solver, stage, weights, images, path):
    """Weights to start both from: `weights`, or the fillers. A teacher of fillers gets the statistics of `images`: it would
    divide by nothing."""
    if weights is not None:
        solver.net.copy_from(str(weights))
    elif stage.declared.taught:
        e = stage.experiment
        network = deploy.network(e, e.teacher)
        network.layer[0].input_param.shape[0].dim[:] = images.shape
        for layer in network.layer:
            if layer.type == "BatchNorm":
                layer.batch_norm_param.use_global_stats = False
        file = path.with_suffix(".prototxt")
        file.write_text(prototxt.text(network, []))
        teacher = caffe.Net(str(file), caffe.TEST)
        teacher.blobs["data"].data[...] = images
        teacher.forward()
        for name, blobs in teacher.params.items():
            if resnet.TEACHER + name in solver.net.params:
                for mine, made in zip(solver.net.params[resnet.TEACHER + name], blobs, strict=True):
                    mine.data[...] = made.data
    solver.net.save(str(path))


def pair(stage, network, feed, manifest, scratch, weights, rate=1.0):
    """(Caffe's solver, the torch engine's) of a stage at `rate` times its own rates, both with the same weights: those of `start`, which
    lie in the folder `scratch` from the first time on (START)."""
    path, begin = write(stage, network, feed, manifest, scratch, rate), scratch / START
    made = caffe.get_solver(str(path)), get_solver(path)
    if not begin.exists():
        start(made[0], stage, weights, batch(feed, 0)["data"], begin)
    for solver in made:
        solver.net.copy_from(str(begin))
    return made


def put(net, batch):
    """Gives a net the blobs of a batch that it has."""
    for name, values in batch.items():
        if name in net.blobs:
            net.blobs[name].data[...] = values


def finite(net):
    """Whether every parameter is."""
    return all(np.isfinite(blob.data).all() for blobs in net.params.values() for blob in blobs)


def relative(a, b):
    """Length of the difference over length of b; inf where a value is not finite, which is no agreement."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (scale or 1.0)
