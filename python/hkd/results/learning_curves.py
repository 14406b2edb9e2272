"""Learning curves: test accuracy over the iterations, a curve a net."""

from hkd.results.canvas import STYLES, empty
from hkd.results.sheet import mean_sd


def accuracy_curves(title, found, wide=False):
    """Test accuracy over the iterations of the last stage, a curve a net, of Lines (lines.Line).

    Lines differ in style as well as in colour, and are named with what they ended at.
    """
    figure, axes = empty(*((11, 6) if wide else (7.5, 4.5)))
    for number, line in enumerate(found):
        for run in line.done:
            tests = [entry for entry in run.log if "Pc" in entry]
            label = f"{line.short_heading}: {mean_sd(line.values())} %" if run is line.done[0] else None
            axes.plot(
                [entry["iteration"] for entry in tests],
                [entry["Pc"] for entry in tests],
                linestyle=STYLES[number],
                marker="o",
                markersize=3,
                color=f"C{number}",
                label=label,
            )
    axes.set_xlabel("iteration of the last stage")
    axes.set_ylabel("test accuracy Pc (%)")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize=9, loc="lower right")
    return figure
