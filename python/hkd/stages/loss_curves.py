"""The losses of one stage in two engines side by side, as `compare_torch.py --losses` writes it and the tables read it."""

import json

from hkd.base import shapes
from hkd.base.cli import UserError
from hkd.base.files import shown, write_whole

ENGINES = ("caffe", "torch")
_LOSSES = {"type": "array", "items": {"type": "number"}, "minItems": 1}
_APART = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": [{"type": "integer", "minimum": 1}, {"type": "number"}],
    },
}
SHAPE = shapes.Shape(
    shapes.record(
        {
            "experiment": {"type": "string"},
            "stage": {"type": "string"},
            "iterations": {"type": "integer", "minimum": 1},  # of the stage; there is a loss for each that was trained
            "losses": shapes.record(dict.fromkeys(ENGINES, _LOSSES), closed=True),
            "apart": _APART,
            "start": shapes.SHA256,
            "pixels": shapes.SHA256,
            "hardware": {"type": "string"},
            "versions": {"type": "object"},
        }
    )
)
"""losses: of each iteration, as the solver weighs and adds them. apart: (iteration, length of the difference of all learned weights
over the length of Caffe's). start: sha256 of the weights that both began with."""


def read(path):
    """The losses in a file. Raises UserError for what is none."""
    try:
        curves = SHAPE.parse(path.read_bytes())
        lengths = {len(curves["losses"][engine]) for engine in ENGINES}
        if len(lengths) > 1 or curves["apart"][-1][0] != max(lengths):
            raise ValueError("losses and apart end at different iterations")
    except ValueError as error:
        raise UserError(f"{shown(path)}: {error}: make it again with compare_torch.py --losses") from None
    return curves


def write(path, curves):
    """Writes them; the same ones make the same bytes."""
    write_whole(path, json.dumps(SHAPE.checked(curves)) + "\n")
