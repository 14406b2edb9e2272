"""Figures: what is drawn is what the records have."""

import statistics

import pytest

from hkd.results import canvas, figures, targets
from hkd.results.lines import of_target
from hkd.stages import records


def test_the_bars_are_the_means_of_the_nets(runs):
    figure = figures.draw(targets.TARGETS["figure7"], runs)
    found = of_target(targets.TARGETS["figure7"], runs)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([statistics.mean(line.values()) for line in found])
    assert {"90.79", "88.09"} <= {text.get_text() for text in figure.axes[0].texts}
    canvas.rendered(figure, "png")


def test_figure_9_divides_both_methods_by_one_number_a_hint(runs):
    figure = figures.draw(targets.TARGETS["figure9"], runs)
    drawn = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    folder = runs.folder / "cifar10/scale3e-05-seed1"
    concurrent = records.read_log(folder / "r26-r8-concurrent-hint+batch=8")[0]
    start = 0
    for i in (1, 2, 3):
        log = records.read_log(folder / f"r26-r8-layerwise-hint{i}+batch=8")
        assert drawn[f"hint {i}, concurrent"][0][1] == 1
        x, y = drawn[f"hint {i}, layer-wise"][0]
        assert y == pytest.approx(log[0]["loss"] / concurrent[f"hint{i}"]) and x == start + log[0]["iteration"]
        start += log[-1]["iteration"]
    canvas.rendered(figure, "svg")


def test_figure_4_is_the_mean_of_the_nets(runs):
    figure = figures.draw(targets.TARGETS["figure4"], runs)
    (line,) = (x for x in figure.axes[0].get_lines() if x.get_label() == "Hint-KD: test loss")
    folder = runs.folder / "cifar10/scale3e-05-seed1"
    losses = [records.read_log(folder / f"r14-r8-hint-kd-net{n}+batch=8")[-1]["test_loss"] for n in (1, 2, 3)]
    assert line.get_ydata()[-1] == pytest.approx(statistics.mean(losses))
    canvas.rendered(figure, "png")
