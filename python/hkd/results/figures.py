"""The paper's figures, in its form: what was measured, and the paper's numbers where they are known."""

import functools
import statistics

from hkd.paper import stated
from hkd.results import lines
from hkd.results.canvas import HATCHES, STYLES, empty, rendered
from hkd.results.condition import notes
from hkd.results.rows import PROPOSED

PAPER = {"color": "black", "linewidth": 2}


def sections(target, views):
    """The Views of which a figure (rows.Target) is drawn, see lines.sections."""
    if target.form != "hint losses":
        return [view for view, _ in lines.sections(views, lambda runs: lines.of_target(target, runs))]
    return [view for view in views if _has_hint_losses(target, view)] or views[:1]


def was_run(target, views):
    """Whether anything of a table or figure (rows.Target) was run, beside what it shares with others: the student alone, say."""
    if target.form == "hint losses":
        return any(_has_hint_losses(target, view) for view in views)
    return any(lines.taught(lines.of_target(target, view.runs)) for view in views)


def _has_hint_losses(target, view):
    return any(view.runs.of(stage) for row in target.rows for stage in row.hint_stages())


def draw(target, runs):
    """The matplotlib figure of a target (rows.Target) that is a figure, from `runs` (runs.Runs)."""
    forms = {"bars": _bars, "curves": _curves, "hint losses": _hint_losses, "weights": _weights, "fast": _fast}
    figure, axes = empty(7.5, 4.8)
    made_with = forms[target.form](axes, target, runs)
    title = f"{target.label}. {target.title}"
    axes.set_title(title + (f"\n{', '.join(made_with)}" if made_with else ""), fontsize=11)
    return figure


@functools.cache  # a report shows what stands in files beside it
def picture(target, runs, kind):
    """`draw` as the bytes of a `kind` file."""
    return rendered(draw(target, runs), kind)


def _notes(found):
    return notes(run for line in found for run in line.done)


def _bars(axes, target, runs):
    """Figures 5, 7, 8 and 10: a bar a method, its height the mean of the nets, each net a dot."""
    found = lines.of_target(target, runs)
    reported = []
    for x, line in enumerate(found):
        if line.done:
            _bar(axes, x, line.values())
        if line.row.reported_mean is not None:
            _line_of_paper(axes, x, line.row.reported_mean, label=None if reported else "the paper's")
            reported.append(line.row.reported_mean)
        if not line.done:
            axes.annotate(
                "not run", (x, 0), (0, 6), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center"
            )
    heights = [value for line in found for value in line.values()] + reported
    if heights:
        margin = max(0.15 * (max(heights) - min(heights)), 0.3)
        axes.set_ylim(max(min(heights) - 2 * margin, 0), min(max(heights) + 2 * margin, 101))
    axes.set_xlim(-0.6, len(found) - 0.3)
    axes.set_xticks(range(len(found)), [_folded(line.row.heading) for line in found], fontsize=8)
    axes.set_ylabel(f"{target.measure} (%), mean and sd of the nets")
    axes.grid(axis="y", alpha=0.3)
    if reported:
        axes.legend(loc="upper left", fontsize=8)
    return _notes(found)


def _bar(axes, x, values):
    """The bar of one method at place x, with its nets and their mean."""
    mean = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    axes.bar(x, mean, 0.6, yerr=spread, capsize=5, color=f"C{x}", alpha=0.6, hatch=HATCHES[x], edgecolor="black")
    axes.plot([x] * len(values), values, "o", color="black", markersize=4)
    top = max([*values, mean + (spread or 0)])
    axes.annotate(f"{mean:.2f}", (x, top), (0, 4), textcoords="offset points", ha="center")


def _line_of_paper(axes, x, mean, label):
    """What the paper reports of the method at place x."""
    axes.plot([x - 0.38, x + 0.38], [mean] * 2, **PAPER, label=label)
    axes.annotate(f"{mean:.2f}", (x + 0.38, mean), (2, 0), textcoords="offset points", va="center", fontsize=8)


def _folded(text):
    """A heading on several lines, to stand below a bar."""
    return (
        text.replace(", ", ",\n")
        .replace("KD without", "KD\nwithout")
        .replace(" with ", "\nwith ")
        .replace(" of width", "\nof width")
    )


def _curves(axes, target, runs):
    """Figure 4: test loss (left) and accuracy (right) over the iterations of stage 2, the mean of the nets."""
    found = lines.of_target(target, runs)
    right = axes.twinx()
    alone = next(line for line in found if line.row.method == "baseline")
    right.axhline(
        alone.row.reported_mean,
        **PAPER,
        linestyle=":",
        label=f"student alone, the paper's {alone.row.reported_mean:.2f} %",
    )
    for number, line in enumerate(found):
        for axis, key, style in ((axes, "test_loss", "-"), (right, "Pc", "--")):
            if line is alone and axis is axes:
                continue  # its loss is another one
            xs, ys = _mean_curve(line.done, key)
            words = "test loss" if axis is axes else "Pc"
            axis.plot(xs, ys, linestyle=style, marker="os^"[number], markersize=4, color=f"C{number}",
                      label=f"{line.row.heading}: {words}" + ("" if xs else " (not run)"))  # fmt: skip
    first = next((run for line in found for run in line.done), None)
    if first:
        start, _ = (limit * first.condition.scale for limit in stated.FIGURE_4_WINDOW)
        axes.set_xlim(left=start)
        _fit_to_window(axes, start)
        _fit_to_window(right, start, [alone.row.reported_mean])
    axes.set_xlabel("iteration of stage 2")
    axes.set_ylabel("test loss (solid)")
    right.set_ylabel("test accuracy Pc (%) (dashed)")
    axes.grid(alpha=0.3)
    handles = [part for axis in (axes, right) for part in axis.get_legend_handles_labels()[0]]
    axes.figure.legend(
        handles, [handle.get_label() for handle in handles], fontsize=8, loc="outside lower center", ncols=2
    )
    return _notes(found)


def _fit_to_window(axis, start, more=()):
    """Scales the axis to what is seen of its curves from `start` on: Caffe's first tests would squeeze the rest flat."""
    seen = [
        y for line in axis.get_lines() for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True) if x >= start
    ]
    seen = [*seen, *more]
    if seen:
        margin = 0.08 * (max(seen) - min(seen)) or 0.5
        axis.set_ylim(min(seen) - margin, max(seen) + margin)


def _mean_curve(done, key):
    """([iterations], [mean over the nets]) of a number in the logs' tests, where every net was tested."""
    logs = [{line["iteration"]: line[key] for line in run.log if key in line} for run in done]
    xs = sorted(set.intersection(*map(set, logs))) if logs else []
    return xs, [statistics.mean(log[x] for log in logs) for x in xs]


def _fast(axes, target, runs):
    """FSP's figure 3: accuracy over the iterations of the last stage, the mean of the nets; where a first stage came before it,
    dotted, the same with that one's iterations counted."""
    found, solid = lines.of_target(target, runs), [style for style in STYLES if style != ":"]
    for number, line in enumerate(found):
        xs, ys = _mean_curve(line.done, "Pc")
        style = {"color": f"C{number}", "marker": "os^D"[number], "markersize": 4}
        words = line.row.heading + ("" if xs else " (not run)")
        axes.plot(xs, ys, linestyle=solid[number], label=words, **style)
        before = line.net_iterations - line.done[0].stage.iterations if xs else 0
        if before:
            words = f"the same, with the {before:,} iterations before"
            axes.plot([x + before for x in xs], ys, linestyle=":", label=words, **style | {"fillstyle": "none"})
    axes.set_xlabel("iteration of the last stage (dotted: with those of stage 1)")
    axes.set_ylabel("test accuracy Pc (%)")
    axes.grid(alpha=0.3)
    axes.figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return _notes(found)


def _hint_losses(axes, target, runs):
    """Figure 9: the three hint losses over the iterations of stage 1. The proposed method's steps follow one another.

    Each is divided by the first value that the log of the concurrent training has of it, so that both methods share one
    scale.
    """
    losses, done = {}, []
    for row in target.rows:
        offset = 0
        for stage in row.hint_stages():
            (run,) = runs.cell(f"{target.label}, {row.heading}", [stage])
            if run is None:
                continue
            done.append(run)
            log = [line for line in run.log if "loss" in line]
            for pair in stage.part.pairs:
                key = f"hint{pair}" if len(stage.part.pairs) > 1 else "loss"
                losses[row.method, pair] = [(offset + line["iteration"], line[key]) for line in log]
            offset += run.record["iterations"]
    for (method, pair), points in losses.items():
        unit = losses.get(("concurrent", pair), points)[0][1]
        axes.plot(
            [x for x, _ in points],
            [y / unit for _, y in points],
            linestyle="-" if method == PROPOSED else "--",
            marker="os^"[pair - 1],
            markersize=4,
            color=f"C{pair - 1}",
            label=f"hint {pair}, {'layer-wise' if method == PROPOSED else 'concurrent'}",
        )
    axes.set_xlabel("iteration of stage 1")
    axes.set_ylabel("hint loss / first of the concurrent one")
    axes.grid(alpha=0.3)
    if losses:
        axes.legend(fontsize=8)
    else:
        axes.annotate("not run", (0.5, 0.5), xycoords="axes fraction", ha="center")
    return notes(done)


def _weights(axes, target, runs):
    """Of each hint, the mean over the images (line) and their 10 % and 90 % quantiles (band), each the mean of the
    nets."""
    found = lines.of_target(target, runs)
    for number, line in enumerate(found):
        logs = [[entry for entry in run.log if "weights" in entry] for run in line.done]
        for hint_number, hint in enumerate(logs[0][0]["weights"] if logs else ()):
            xs = [entry["iteration"] for entry in logs[0]]
            mean, low, high = (
                [statistics.mean(entry["weights"][hint][key] for entry in same) for same in zip(*logs, strict=True)]
                for key in ("mean", "q10", "q90")
            )
            color = f"C{hint_number}"
            axes.plot(
                xs, mean, linestyle=STYLES[number], marker="os^"[number], markersize=3, color=color,
                label=f"{hint}, {line.row.heading}",
            )  # fmt: skip
            axes.fill_between(xs, low, high, color=color, alpha=0.12, hatch=HATCHES[number], linewidth=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("weight: mean, 10 % to 90 % of the images")
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize=8)
    else:
        axes.annotate("not run", (0.5, 0.5), xycoords="axes fraction", ha="center")
    return _notes(found)
