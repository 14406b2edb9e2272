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
    bad = _beyond_bounds(value, rule)
    if bad is None:
        may_be, expected = _own_rule(key)
        bad = None if may_be(value) else expected
    if bad is None and any(isinstance(x, float) and MOST_FLOAT < abs(x) < math.inf for x in _numbers(value)):
        bad = f"at most {MOST_FLOAT:g}, the largest number in float32"
    if bad is not None:
        raise UserError(f"--set {key}={text_of(value)}: expected {bad}")
    return value


def _numbers(value):
    return [x for x in (value if isinstance(value, tuple) else (value,)) if isinstance(x, int | float)]


def _beyond_bounds(value, rule):
    """What is expected in place of a value that Caffe's files or the setting's own bounds do not hold, or None."""
    if any(isinstance(x, int) and x > MOST_WHOLE for x in _numbers(value)):
        return f"at most {MOST_WHOLE}, Caffe's largest whole number"
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if rule["choices"] and value not in rule["choices"]:
        return " or ".join(rule["choices"])
    if rule["above"] is not None and not value > rule["above"]:
        return f"more than {rule['above']}"
    if rule["least"] is not None and not value >= rule["least"]:
        return f"{rule['least']} or more"
    return None


def _own_rule(key):
    """(whether a value may be, what is expected otherwise) of a setting that bounds do not say all of."""
    if key.endswith("tau"):
        return OWN_RULES["tau"]
    if key.endswith("stepvalue"):
        return OWN_RULES["stepvalue"]
    return OWN_RULES.get(key, (lambda value: True, ""))


def _below_one(value):
    return value < 1


def _three_counts(value):
    return len(value) == 3 and min(value) >= 1


def _three_layers(value):
    return len(value) == 3 and all(re.fullmatch(r"[123]\.(end|[1-9]\d?)", place) for place in value)


def _is_pixel(text):
    """Whether a text is a number of 0 to 255."""
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,12})?", text)) and float(text) <= 255


OWN_RULES = {
    "tau": (
        lambda value: TAUS[0] <= value <= TAUS[1],
        f"{TAUS[0]:g} to {TAUS[1]:g}: float32 holds no softened outputs of use beyond",
    ),
    "stepvalue": (lambda value: min(value) >= 1 and list(value) == sorted(set(value)), "rising positive iterations"),
    "momentum": (_below_one, "less than 1"),
    "bn_fraction": (_below_one, "less than 1"),
    "hint_layers": (_three_layers, "three layers as stack.block, for example 1.end,2.1,3.end"),
    "guided_layers": (_three_layers, "three layers as stack.block, for example 1.end,2.1,3.end"),
    "hint_iterations": (_three_counts, "three positive numbers, one a step"),
    "flow_iterations": (_three_counts, "three positive numbers, one a step"),
    "fitnet_lambda": (
        lambda value: len(value) == 2 and all(math.isfinite(x) and x >= 0 for x in value),
        "two numbers, 0 or more",
    ),
    "teacher_weights": (
        lambda value: value == TRAINED or re.fullmatch(r"[0-9a-f]{12}", value),
        f"{TRAINED}, or the 12 digits that --teacher-weights FILE names a file's weights by",
    ),
    "input_mean": (
        lambda value: value == (OF_DATA_SET,) or all(map(_is_pixel, value)),
        f"{OF_DATA_SET}, or the mean of each channel, 0 to 255, for example 125.307,122.961,113.8575",
    ),
    "dynamic_hints": (
        lambda value: len(value) >= 2 and [hint for hint in HINTS if hint in value] == list(value),
        f"two or three of {','.join(HINTS)}, in that order",
    ),
    "dynamic_scales": (
        lambda value: len(value) == len(HINTS) and all(0 < x < math.inf for x in value),
        f"three positive numbers, of {', '.join(HINTS)}",
    ),
    "dynamic_mu": (_below_one, "less than 1"),
    "dynamic_u": (lambda value: value <= 1, "0 to 1"),
}
"""{setting: (whether a value may be, what is expected otherwise)} where a bound is not enough; those of `tau` and `stepvalue` are of every
setting whose name ends so."""


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
