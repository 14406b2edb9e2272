"""The arguments of a command that takes a file of weights, which say what the file does not."""

import math
from dataclasses import replace
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.paper.settings import OF_DATA_SET, TRAINED, setting_text
from hkd.stages.given.normalised import LARGEST, ORDERS, Input
from hkd.stages.given.pytorch import PADDINGS
from hkd.stages.given.teacher import EXAMPLE, Given, take

OF = ("mean", "std", "pixels", "channels", "padding")


def add(parser):
    """Adds them to a Parser, in a group of their own."""
    group = parser.add_argument_group(
        "what a file of weights from elsewhere does not say",
        f"of PyTorch's files --mean and --std are needed: {EXAMPLE}",
    )
    group.add_argument("--mean", metavar="R,G,B", help="what was subtracted from each channel of its images")
    group.add_argument("--std", metavar="R,G,B", help="what they were divided by then")
    group.add_argument(
        "--pixels", type=int, choices=(1, LARGEST), help="the largest pixel that --mean and --std are of; default 1"
    )
    group.add_argument("--channels", choices=ORDERS, help="in which order it reads them; default rgb")
    group.add_argument(
        "--padding",
        choices=PADDINGS,
        help=f"where its option A has zeros beside the old channels; default {PADDINGS[0]}",
    )


def read(options, path):
    """The Given of a path and these arguments. Raises UserError for numbers that cannot be."""
    white = options.pixels or 1
    if (options.mean is None) != (options.std is None):
        there, other = ("--mean", "--std") if options.std is None else ("--std", "--mean")
        raise UserError(f"{there} {options.mean or options.std}: give {other} too (1,1,1 and 0,0,0 change nothing)")
    if options.pixels and options.mean is None:
        raise UserError(f"--pixels {options.pixels} is of --mean and --std: give them, or leave it out")
    mean, std = _numbers("--mean", options.mean), _numbers("--std", options.std)
    for name, values in (("--mean", mean), ("--std", std)):
        bad = next((x for x in values or () if not (0 < x <= white or (x == 0 and name == "--mean"))), None)
        if bad is not None:
            more = f", or add --pixels {LARGEST}" if white == 1 and 1 < bad <= LARGEST else ""
            what = "0" if name == "--mean" else "more than 0"
            raise UserError(
                f"{name} {getattr(options, name[2:])}: {bad:g}: expected {what} to {white}, the largest pixel{more}"
            )
    given = Input(mean, std, white, options.channels or "rgb")
    return Given(str(Path(path).absolute()), given, options.padding or PADDINGS[0])


def _numbers(name, text):
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)) or len(values) not in (1, 3):
        raise UserError(f"{name} {text}: expected a number for each channel, with commas, {EXAMPLE}")
    return values


def taught_by(given, chosen):
    """The Experiment `chosen` with the teacher of a Given. Raises UserError where the weights do not fit it, or it has others."""
    settings = take(given, chosen).settings
    for key, value in settings.items():
        own = getattr(chosen, key)
        if own not in (value, TRAINED, (OF_DATA_SET,)):
            raise UserError(
                f"--set {setting_text(key, own)}: the weights of {shown(given.path)} come to {setting_text(key, value)}: leave --set {key} out"
            )
    return replace(chosen, **settings)


def stray(options):
    """Raises UserError where one of them is given and no file of weights is."""
    for name in OF:
        if (value := getattr(options, name)) is not None:
            raise UserError(
                f"--{name} {value} is of a file of weights: give --teacher-weights FILE too, or leave it out"
            )
