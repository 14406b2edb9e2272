"""One network in BVLC Caffe and in the torch engine: same weights, same batches, every blob and gradient compared."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from caffe.proto import caffe_pb2

from hkd.engines import same_batches
from hkd.engines.torch import data
from hkd.networks import losses

TOLERANCES = {
    "forward": 2e-5, "gradient": 2e-2, "statistics": 2e-5, "test": 2e-5, "steps": 2e-2, "meta": 2e-2, "run": 5e-2,
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
        first = same_batches.batch(feed, 0)

        def both(rate):
            return same_batches.pair(stage, network, feed, manifest, scratch, weights, rate)

        pair = both(1.0)
        found = _one_batch(*pair, first) + _test_phase(*pair, first)
        found += _steps(*both(1.0), same_batches.batches(feed, iterations))
        return found + _run(*both(GENTLE), same_batches.batches(feed, iterations), beside)


def _steps(theirs, ours, batches):
    largest = {}
    for batch in batches:
        theirs.snapshot()
        state = Path(f"{ours.parameter.snapshot_prefix}_iter_{theirs.iter}.solverstate")
        ours.restore(str(state))
        state.unlink()
        state.with_suffix(".caffemodel").unlink()
        for solver in (theirs, ours):
            same_batches.put(solver.net, batch)
            solver.step(1)
        if not any(map(same_batches.finite, (theirs.net, ours.net))):
            break  # both diverge, as a stage may from random weights
        for d in _apart("steps", theirs, ours):
            largest[d.layer] = max(d, largest.get(d.layer, d), key=lambda d: d.relative)
    return list(largest.values())


def _run(theirs, ours, batches, beside):
    sessions = [beside(solver.net, engine) for solver, engine in ((theirs, "caffe"), (ours, "torch"))] if beside else []
    rate, slopes = ours.parameter.base_lr, []
    for batch in batches:
        for i, solver in enumerate((theirs, ours)):
            same_batches.put(solver.net, batch)
            solver.step(1)
            if sessions:
                slopes += [sessions[i].meta_gradient(1, rate)[0]] if sessions[i].learns and solver.iter == 1 else []
                sessions[i].after_iteration(solver.iter, rate)
    found = [Difference("meta", losses.WEIGHTS, same_batches.relative(slopes[1], slopes[0]))] if slopes else []
    return found + _apart("run", theirs, ours)


def _apart(part, theirs, ours):
    own = ours.net.params
    return [
        Difference(
            part, name, max(same_batches.relative(a.data, b.data) for a, b in zip(own[name], blobs, strict=True))
        )
        for name, blobs in theirs.net.params.items()
    ]


def _one_batch(theirs, ours, batch):
    for net in (theirs.net, ours.net):
        same_batches.put(net, batch)
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
        found += [Difference(part, name, max(same_batches.relative(a, b) for a, b in pairs))] if pairs else []
    return found


def _test_phase(theirs, ours, batch):
    nets = theirs.test_nets[0], ours.test_nets[0]
    nets[0].share_with(theirs.net)
    nets[1].changed()
    for net in nets:
        same_batches.put(net, {name: values for name, values in batch.items() if name != "index"})
        net.forward()
    return _blobs("test", *nets)


def _blobs(part, theirs, ours):
    """Of every blob that both have; Caffe's copies for several readers (InsertSplits) are the same values again."""
    theirs_now, ours_now = theirs.blobs, ours.blobs
    common = [name for name in ours_now if name in theirs_now]
    return [
        Difference(part, name, same_batches.relative(ours_now[name].data, theirs_now[name].data)) for name in common
    ]


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
