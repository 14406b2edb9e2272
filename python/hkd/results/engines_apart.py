"""Where Caffe and the torch engine part on the same batches: the losses that are kept (stages.loss_curves) as a table and a picture."""

import statistics

from hkd.results.canvas import STYLES, empty, rendered
from hkd.results.sheet import DASH, sheet_of
from hkd.stages import loss_curves

FOLDER = "side-by-side"
"""Where compare_torch.py --losses FILE is to write what is to be kept: records/FOLDER/ANY-NAME.json."""


def kept_curves(kept):
    """[losses of a stage] of a Kept, in the order of their files' names."""
    return [loss_curves.read(path) for path in sorted((kept.folder / FOLDER).glob("*.json"))]


def engines_apart(kept):
    """A row for each tenfold of iterations of each stage, as a Sheet."""
    rows = []
    for curves in kept_curves(kept):
        apart, differences = dict(curves["apart"]), _differences(curves)
        for first, last in _tenfolds(len(curves["losses"]["caffe"])):
            caffe, torch = (statistics.mean(curves["losses"][name][first - 1 : last]) for name in loss_curves.ENGINES)
            iterations = f"{first:,} to {last:,}" if first < last else f"{first:,}"
            largest = max(differences[first - 1 : last])
            cells = (
                f"{caffe:.5g}",
                f"{torch:.5g}",
                f"{round(torch / caffe - 1, 4) + 0.0:+.2%}",
                f"{largest:.2g}",
                f"{apart[last]:.2g}" if last in apart else DASH,
            )
            rows.append((curves["experiment"], curves["stage"], f"{iterations} of {curves['iterations']:,}", *cells))
    return sheet_of(
        "One stage in both engines, from the same weights on the same batches",
        (
            "experiment", "stage", "iterations", "mean loss, Caffe", "mean loss, torch", "difference", "largest of one iteration",
            "weights apart",
        ),
        rows,
        "Both in float32, at the stage's own rates. Largest of one iteration: of the loss, over Caffe's. Weights apart: after the last of "
        "these iterations, the length of the difference of all weights that are learned over the length of Caffe's.",
    )  # fmt: skip


def picture(kept):
    """The same as an SVG, iteration by iteration: how far losses and weights are apart, both axes logarithmic."""
    figure, axes = empty(7.5, 4.8)
    for number, curves in enumerate(kept_curves(kept)):
        differences = _differences(curves)
        losses = [(k, value) for k, value in enumerate(_running(differences), 1) if value > 0]
        axes.plot(*zip(*losses, strict=True), color=f"C{number}", linestyle=STYLES[1], label=f"{curves['stage']}: loss")
        axes.plot(
            *zip(*curves["apart"], strict=True),
            color=f"C{number}",
            marker="o",
            markersize=3,
            label=f"{curves['stage']}: weights",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("difference over Caffe's own")
    of = ", ".join(dict.fromkeys(curves["experiment"] for curves in kept_curves(kept)))
    axes.set_title(f"Caffe and torch from the same weights, on the same batches: {of}", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower right")
    return rendered(figure, "svg")


def _tenfolds(count):
    """(1, 1), (2, 10), (11, 100), ... up to `count`."""
    first, last = 1, 1
    while first <= count:
        yield first, min(last, count)
        first, last = last + 1, last * 10


def _differences(curves):
    """Of each iteration's losses, over Caffe's."""
    pairs = zip(*(curves["losses"][name] for name in loss_curves.ENGINES), strict=True)
    return [abs(torch - caffe) / abs(caffe) if caffe else abs(torch) for caffe, torch in pairs]


def _running(values):
    """The mean of each and those before it, as many as a tenth of its place: from one batch to the next the losses jump."""
    return [statistics.mean(values[k - max(1, k // 10) : k]) for k in range(1, len(values) + 1)]
