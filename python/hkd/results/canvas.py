"""What every picture is drawn on and with: lines and bars that differ without colour, and the same bytes each time."""

import io

STYLES = (
    "-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)), (0, (3, 5, 1, 5)), (0, (1, 1)), (0, (12, 2)),
    (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (8, 2, 1, 2, 1, 2)), (0, (4, 4)), (0, (1, 6)), (0, (12, 6)),
    (0, (6, 6)), (0, (2, 5)), (0, (6, 2, 2, 2, 2, 2)), (0, (10, 4, 1, 4)), (0, (3, 1)), (0, (12, 2, 2, 2)),
    (0, (1, 1, 4, 1)), (0, (9, 1, 3, 1)), (0, (10, 1, 1, 1, 1, 1, 1, 1)),
)  # fmt: skip
HATCHES = (
    "", "//", "..", "xx", "\\\\", "++", "oo", "--", "**", "||", "OO", "////", "....", "xxxx", "||||", "----",
    "++++", "oooo", "////..", "\\\\\\\\", "xx..", "//..", "oo--", "++||", "OOOO",
)  # fmt: skip


def empty(width, height):
    """A figure of so many inches without content, and its axes."""
    # Here, since it takes a second, and most commands draw nothing.
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "hkd-caffe"  # the same records make the same bytes
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def rendered(figure, kind):
    """The figure as the bytes of a `kind` (png or svg) file, without date or version."""
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()
