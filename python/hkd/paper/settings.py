"""The values of settings: what is allowed, how --set reads them, and how folders are named by them."""

import dataclasses
import math
import re
from dataclasses import field

from hkd.base.cli import UserError

HINTS = ("soft", "feature", "fsp")
"""The hints that hint-dynamic KD can weigh: softened outputs, maps of the last stack, FSP matrix of the last stack."""

OF_DATA_SET, TRAINED = "dataset", "trained"
"""What input_mean and teacher_weights are in the papers: the data set's own mean, a teacher that is trained here."""

TAUS = (0.01, 1e4)
"""Temperatures that mean something in float32. Softmax of logits / tau underflows to 0 where two logits are more than 87 tau
apart, and the softened term has no gradient there: below 0.01 that is nearly every image. Above 1e4 the softened outputs
are alike to a thousandth, and their differences, the gradient (tau in its divisor too), drown in rounding."""

MOST_WHOLE, MOST_FLOAT = 2**31 - 1, 3.4e38
"""What fits the fields of Caffe's files: int32, and float32."""


def setting(default=dataclasses.MISSING, everywhere=False, choices=None, above=None, least=None):
    """A setting that --set may change. `everywhere`: it is the teacher's too where that is trained on another data set;
    `above` and `least` bound a number from below."""
    metadata = {"everywhere": everywhere, "choices": choices, "above": above, "least": least}
    return field(default=default, metadata=metadata)


def read(key, text, example):
    """The value that --set key=text names, of the kind of `example`. Raises UserError."""
    try:
        if isinstance(example, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(example, tuple):
            return tuple(type(example[0])(part) for part in text.split(","))
        return type(example)(text)
    except (ValueError, KeyError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "whole numbers with commas"}
        if isinstance(example, tuple) and isinstance(example[0], float):
            kinds[tuple] = "numbers with commas"
        raise UserError(
            f"--set {key}={text}: expected {kinds[type(example)]}, for example {text_of(example)}"
        ) from None


def checked(key, value, rule):
    """The value, where the setting (its metadata: `rule`) may have it. Raises UserError."""
    bad = None
    numbers = [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, int | float)]
    if any(isinstance(x, int) and x > MOST_WHOLE for x in numbers):
        bad = f"at most {MOST_WHOLE}, Caffe's largest whole number"
    elif isinstance(value, float) and not math.isfinite(value):
        bad = "a finite number"
    elif rule["choices"] and value not in rule["choices"]:
        bad = " or ".join(rule["choices"])
    elif rule["above"] is not None and not value > rule["above"]:
        bad = f"more than {rule['above']}"
    elif rule["least"] is not None and not value >= rule["least"]:
        bad = f"{rule['least']} or more"
    elif key in ("momentum", "bn_fraction", "dynamic_mu") and value >= 1:
        bad = "less than 1"
    elif key.endswith("tau") and not TAUS[0] <= value <= TAUS[1]:
        bad = f"{number_text(TAUS[0])} to {number_text(TAUS[1])}: float32 holds no softened outputs of use beyond"
    elif any(isinstance(x, float) and MOST_FLOAT < abs(x) < math.inf for x in numbers):
        bad = f"at most {MOST_FLOAT:g}, the largest number in float32"
    elif key == "teacher_weights" and value != TRAINED and not re.fullmatch(r"[0-9a-f]{12}", value):
        bad = f"{TRAINED}, or the 12 digits that --teacher-weights FILE names a file's weights by"
    elif key == "input_mean" and value != (OF_DATA_SET,) and not all(map(_is_pixel, value)):
        bad = f"{OF_DATA_SET}, or the mean of each channel, 0 to 255, for example 125.307,122.961,113.8575"
    elif key == "dynamic_u" and value > 1:
        bad = "0 to 1"
    elif key == "dynamic_hints" and (len(value) < 2 or [h for h in HINTS if h in value] != list(value)):
        bad = f"two or three of {','.join(HINTS)}, in that order"
    elif key == "dynamic_scales" and (len(value) != len(HINTS) or not all(0 < v < math.inf for v in value)):
        bad = f"three positive numbers, of {', '.join(HINTS)}"
    elif key in ("hint_layers", "guided_layers") and (
        len(value) != 3 or not all(re.fullmatch(r"[123]\.(end|[1-9]\d?)", place) for place in value)
    ):
        bad = "three layers as stack.block, for example 1.end,2.1,3.end"
    elif key in ("hint_iterations", "flow_iterations") and (len(value) != 3 or min(value) < 1):
        bad = "three positive numbers, one a step"
    elif key == "fitnet_lambda" and (len(value) != 2 or not all(math.isfinite(x) and x >= 0 for x in value)):
        bad = "two numbers, 0 or more"
    elif key.endswith("stepvalue") and (min(value) < 1 or list(value) != sorted(set(value))):
        bad = "rising positive iterations"
    if bad:
        raise UserError(f"--set {key}={text_of(value)}: expected {bad}")
    return value


def _is_pixel(text):
    """Whether a text is a number of 0 to 255."""
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,12})?", text)) and float(text) <= 255


def text_of(value):
    """A value as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(text_of, value))
    if isinstance(value, float):
        return number_text(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def number_text(number):
    """A number in as few digits as give the very same number back: what names a folder must tell any two apart."""
    return repr(float(number)).removesuffix(".0")


def setting_text(key, value):
    """`key=value` as --set takes it, short enough for a folder name."""
    return f"{key}={text_of(value)}"
