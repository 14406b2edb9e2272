"""One network in BVLC Caffe and in the torch engine: same weights, same batches, every blob and gradient compared."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2

from hkd.engines.torch import data, get_solver
from hkd.networks import deploy, losses, prototxt, resnet, solvers

TOLERANCES = {
    "forward": 1e-4, "gradient": 2e-2, "statistics": 1e-4, "test": 1e-4, "steps": 2e-2, "meta": 2e-2, "run": 5e-2,
}  # fmt: skip
"""Of the length of the difference of two blobs over the length of Caffe's. Both engines compute in float32 and add in different orders; that
grows through the layers, and a value near 0 may fall on the other side of a ReLU, which changes a gradient by a step: a few
in a thousand of a small batch. `steps`: each iteration of the stage's solver from Caffe's own weights and momentum. `run`: as many
iterations without coming together, at GENTLE times the learning rate: at the paper's 0.1 the last bits have grown to a tenth
after 20 iterations (8 layers, batch 64). `meta`: the gradient of a meta batch's cross entropy for each hint's weight of each image
(hint-dynamic KD)."""
GENTLE = 0.01


@dataclass(frozen=True)
class Difference:
    """The largest relative difference of one layer in one part of the comparison."""

    part: str
    layer: str
    relative: float

    @property
    def passes(self):
        """Whether the largest difference is within the tolerance."""
        return self.relative <= TOLERANCES[self.part]


def compare(stage, folder, manifest, iterations=20, weights=None, beside=None):
    """[Difference] of a stage's network: forward blobs, gradients and BatchNorm statistics of one batch, the TEST phase's
    blobs, and the parameter blobs after each and after all of `iterations`.

    folder: the LMDBs'. weights: a caffemodel, or None: Caffe's fillers. beside(net, engine): of a stage that trains something
    beside the solver, what does so (hint_dynamic.Session).
    """
    network = stage.network(folder, manifest.test_images)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        feed = data.Feed(network.layer[0], caffe_pb2.TRAIN, stage.random_seed)
        batches = [_batch(feed, k) for k in range(iterations)]
        begin = scratch / "start.caffemodel"

        def both(rate):
            path = _write(stage, network, feed, manifest, scratch, rate)
            pair = caffe.get_solver(str(path)), get_solver(path)
            if not begin.exists():
                start(pair[0], stage, weights, batches[0]["data"], begin)
            for solver in pair:
                solver.net.copy_from(str(begin))
            return pair

        pair = both(1.0)
        found = _one_batch(*pair, batches[0]) + _test_phase(*pair, batches[0])
        return found + _steps(*both(1.0), batches) + _run(*both(GENTLE), batches, beside)


def _batch(feed, k):
    """{top: values} of the Data layers' batch k. The index is the place in the LMDB: which image has which is no matter here."""
    images, labels = feed.make(k)
    index = np.arange(k * feed.batch, (k + 1) * feed.batch) % len(feed.images)
    return {"data": images, "label": labels, "index": index}


def _steps(theirs, ours, batches):
    largest = {}
    for batch in batches:
        theirs.snapshot()
        ours.restore(f"{ours.parameter.snapshot_prefix}_iter_{theirs.iter}.solverstate")
        for solver in (theirs, ours):
            _put(solver.net, batch)
            solver.step(1)
        for d in _apart("steps", theirs, ours):
            largest[d.layer] = max(d, largest.get(d.layer, d), key=lambda d: d.relative)
    return list(largest.values())


def _run(theirs, ours, batches, beside):
    sessions = [beside(solver.net, engine) for solver, engine in ((theirs, "caffe"), (ours, "torch"))] if beside else []
    rate, slopes = ours.parameter.base_lr, []
    for batch in batches:
        for i, solver in enumerate((theirs, ours)):
            _put(solver.net, batch)
            solver.step(1)
            if sessions:
                slopes += [sessions[i].meta_gradient(1, rate)[0]] if sessions[i].learns and solver.iter == 1 else []
                sessions[i].after_iteration(solver.iter, rate)
    found = [Difference("meta", losses.WEIGHTS, _relative(slopes[1], slopes[0]))] if slopes else []
    return found + _apart("run", theirs, ours)


def _apart(part, theirs, ours):
    own = ours.net.params
    return [
        Difference(part, name, max(_relative(a.data, b.data) for a, b in zip(own[name], blobs, strict=True)))
        for name, blobs in theirs.net.params.items()
    ]


def _write(stage, network, feed, manifest, scratch, rate):
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


def _put(net, batch):
    for name, values in batch.items():
        if name in net.blobs:
            net.blobs[name].data[...] = values


def _one_batch(theirs, ours, batch):
    for net in (theirs.net, ours.net):
        _put(net, batch)
    theirs.net.clear_param_diffs()
    theirs.net.forward()
    theirs.net.backward()
    ours.gradients.zero_()
    ours.net.forward()
    ours.net.total_loss().backward()
    found = _blobs("forward", theirs.net, ours.net)
    statistics = {x.name for x in ours.net.network.layer if x.type == "BatchNorm"}
    for name, blobs in theirs.net.params.items():
        own = ours.net.params[name]
        if name in statistics:
            pairs, part = [(a.data, b.data) for a, b in zip(own, blobs, strict=True)], "statistics"
        else:
            pairs, part = (
                [(a.diff, b.diff) for a, b in zip(own, blobs, strict=True) if a.tensor.requires_grad],
                "gradient",
            )
        found += [Difference(part, name, max(_relative(a, b) for a, b in pairs))] if pairs else []
    return found


def _test_phase(theirs, ours, batch):
    nets = theirs.test_nets[0], ours.test_nets[0]
    nets[0].share_with(theirs.net)
    nets[1].changed()
    for net in nets:
        _put(net, {name: values for name, values in batch.items() if name != "index"})
        net.forward()
    return _blobs("test", *nets)


def _blobs(part, theirs, ours):
    """Of every blob that both have; Caffe's copies for several readers (InsertSplits) are the same values again."""
    theirs_now, ours_now = theirs.blobs, ours.blobs
    common = [name for name in ours_now if name in theirs_now]
    return [Difference(part, name, _relative(ours_now[name].data, theirs_now[name].data)) for name in common]


def _relative(a, b):
    """Length of the difference over length of b."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    scale = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (scale or 1.0)


WORDS = {
    "forward": "blobs, TRAIN phase",
    "gradient": "gradients",
    "statistics": "BatchNorm statistics",
    "test": "blobs, TEST phase",
    "meta": "gradients of the hints' weights, first meta batch",
    "steps": "parameters after each iteration from one state",
    "run": f"parameters after all iterations, {GENTLE:g} x the learning rate",
}


def markdown(stage, found):
    """A line a layer with its largest relative difference in each part, and below it the verdicts."""
    layers = list(dict.fromkeys(d.layer for d in found))
    by = {(d.part, d.layer): d for d in found}
    parts = list(TOLERANCES)
    cell = lambda d: "-" if d is None else f"{d.relative:.1e}" + ("" if d.passes else " FAILS")  # noqa: E731
    rows = [f"| {layer} | " + " | ".join(cell(by.get((part, layer))) for part in parts) + " |" for layer in layers]
    lines = [
        f"### {stage.stem}: torch against Caffe",
        "",
        f"| layer | {' | '.join(parts)} |",
        "|---" * (len(parts) + 1) + "|",
        *rows,
        "",
    ]
    for part in parts:
        here = [d for d in found if d.part == part]
        if here:
            worst = max(here, key=lambda d: d.relative)
            verdict = "pass" if all(d.passes for d in here) else "FAIL"
            lines.append(
                f"{verdict}  {part}: at most {worst.relative:.1e} ({worst.layer}), tolerance {TOLERANCES[part]:g}; {WORDS[part]}"
            )
    return "\n".join(lines) + "\n"


def as_json(stage, found):
    """What compare_torch.py --json prints: the stage and each Difference."""
    whole = {
        "stage": stage.name,
        "tolerances": TOLERANCES,
        "passes": all(d.passes for d in found),
        "differences": [{**asdict(d), "passes": d.passes} for d in found],
    }
    return json.dumps(whole, indent=1) + "\n"
