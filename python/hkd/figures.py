"""Figures from the logs of finished stages."""

import matplotlib

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt

from hkd import records

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 5, 1, 5)), (0, (1, 1)))


def accuracy_curves(title, rows, path):
    """Test accuracy over iterations, a line a row of tables.comparison; writes `path` (PNG or SVG by its name).

    Lines differ in style as well as in colour, and are named at their ends.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for row, style in zip(rows, STYLES, strict=False):
        for number, folder in enumerate(row.folders):
            tests = [line for line in records.read_log(folder) if "Pc" in line]
            label = f"{row.heading} ({row.layers} layers): {tests[-1]['Pc']:.2f} %" if number == 0 else None
            axes.plot(
                [line["iteration"] for line in tests],
                [line["Pc"] for line in tests],
                style,
                marker="o",
                markersize=3,
                color=f"C{list(rows).index(row)}",
                label=label,
            )
    axes.set_xlabel("iteration of the last stage")
    axes.set_ylabel("test accuracy Pc (%)")
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend(fontsize=9, loc="lower right")
    # No date and no version in the file: the same records make the same bytes.
    metadata = {"Software": None} if str(path).endswith(".png") else {"Date": None, "Creator": None}
    figure.savefig(path, dpi=150, metadata=metadata)
    plt.close(figure)
