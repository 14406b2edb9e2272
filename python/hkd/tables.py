"""From records to tables: what was measured, by method, beside what the paper reports where that is the same run."""

import statistics
from dataclasses import dataclass

from hkd import paper, plans, records

ROWS = {
    "teacher": ("", "teacher"),
    "student alone": ("baseline", "baseline"),
    "KD without hints": ("kd", "kd"),
    "Hint-KD": ("hint-kd", "kd"),
    "Hint-KD+": ("hint-kd-plus", "kd"),
    "concurrent hints, then KD": ("concurrent", "kd"),
    "SL-ResNet": ("sl-resnet", "finetune"),
    "SL-ResNet with KD": ("sl-resnet-kd", "kd"),
    "layer-wise hints, then KD": ("layerwise", "kd"),
}
"""Heading of a row -> (method, kind) of the stage whose Pc stands in it."""
ALWAYS = ("", "baseline", "kd", "layerwise")  # the other methods have a row once they were run


@dataclass(frozen=True)
class Row:
    """One row of the comparison. Pc in percent, one number a net that was run; `reported`: the paper's mean or None."""

    heading: str
    layers: int
    last: tuple[float, ...]
    best: tuple[float, ...]
    iterations: int
    seconds: float
    reported: float | None
    folders: tuple


def comparison(experiment, scale, seed, runs):
    """Rows for one experiment at one scale and seed, from finished stages alone; a row without a run has no numbers."""
    rows = []
    for heading, (method, kind) in ROWS.items():
        nets = [plans.stage(experiment, method, kind, net=net, scale=scale, seed=seed) for net in (1, 2, 3)]
        stages = list(dict.fromkeys(nets))  # the teacher is the same stage for all three
        found = [(s, r) for s in stages if (r := records.read_record(s.folder(runs))) is not None]
        if not found and method not in ALWAYS:
            continue
        architecture = experiment.teacher if kind == "teacher" else experiment.student
        reported = _reported(experiment, method, architecture)
        rows.append(
            Row(
                heading,
                architecture.depth,
                tuple(r["Pc"]["last"] for _, r in found),
                tuple(r["Pc"]["best"] for _, r in found),
                sum(s.iterations for s in plans.lineage(nets[0]) if s.kind != "teacher" or kind == "teacher"),
                sum(r["seconds"] for _, r in found),
                reported,
                tuple(s.folder(runs) for s, _ in found),
            )
        )
    return rows


def _reported(experiment, method, architecture):
    if method in ("", "baseline"):
        return paper.BASELINE_PC.get((experiment.dataset, architecture.depth, architecture.width))
    if experiment.name == "cifar10-r26-r14":
        return statistics.mean(paper.TABLE_1[method]) if method in paper.TABLE_1 else None
    return None


def markdown(experiment, scale, rows):
    """The comparison as a Markdown table. A dash stands where nothing was run or reported."""
    title = f"{experiment.facts.title}, {experiment.teacher.depth} -> {experiment.student.depth} layers"
    scaled = "" if scale == 1 else f", every number of iterations x {scale:g}: not comparable with the paper's"
    lines = [
        f"### {title}{scaled}",
        "",
        "| | layers | iterations | Pc last (%) | Pc best (%) | n | paper (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        reported = f"{row.reported:.2f}" if row.reported is not None else "-"
        lines.append(
            f"| {row.heading} | {row.layers} | {row.iterations:,} | {mean_sd(row.last)} | {mean_sd(row.best)} | {len(row.last)} | {reported} |"
        )
    return "\n".join(lines) + "\n"


def mean_sd(values):
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean
