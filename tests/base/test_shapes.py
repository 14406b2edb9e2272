"""What is read back as JSON: what of it is refused, and in which words."""

import json

import pytest

from hkd.base import shapes

SHAPE = shapes.Shape(
    shapes.record(
        {"name": {"type": "string", "pattern": "^[a-z]+$"}, "sizes": shapes.record({"train": shapes.COUNT})},
        {"note": {"type": ["number", "null"], "description": "a number, or nothing"}},
        closed=True,
    )
)
GOOD = {"name": "a", "sizes": {"train": 3}}


@pytest.mark.parametrize("more", [{}, {"note": None}, {"note": 1.5}, {"sizes": {"train": 3.0, "other": "x"}}])
def test_what_fits_is_given_back(more):
    assert SHAPE.parse(json.dumps(GOOD | more)) == GOOD | more
    assert SHAPE.keys == ["name", "sizes", "note"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON: "),
        (b"\xff\xfe\x00", "no JSON: "),
        ("[" * 100_000, "nested too deep"),
        (json.dumps(GOOD | {"note": float("nan")}), "no JSON: NaN is no number"),
        ("[]", "[] must be object"),
        ('{"name": "a"}', "'sizes' is a required property"),
        (json.dumps(GOOD | {"sizes": {}}), "sizes: 'train' is a required property"),
        (json.dumps(GOOD | {"sizes": {"train": "3"}}), "sizes.train: '3' must be integer"),
        (json.dumps(GOOD | {"sizes": {"train": True}}), "sizes.train: True must be integer"),
        (json.dumps(GOOD | {"sizes": {"train": -1}}), "sizes.train: -1 must be bigger than or equal to 0"),
        (json.dumps(GOOD | {"name": "{x}"}), "name: '{x}' must match pattern ^[a-z]+$"),
        (json.dumps(GOOD | {"name": "a\n"}), r"name: 'a\n' must match pattern ^[a-z]+$"),
        (json.dumps(GOOD | {"name": 1000 * "A"}), "name: must match pattern ^[a-z]+$"),
        (json.dumps(GOOD | {"{0.__class__}": 1}), "must not contain {'{0.__class__}'} properties"),
        (json.dumps(GOOD | {"note": "x"}), "note: expected a number, or nothing"),
    ],
)
def test_what_does_not_is_refused_in_a_few_words(text, said):
    with pytest.raises(ValueError) as refused:
        SHAPE.parse(text)
    words = str(refused.value)
    assert words.startswith(said) if said.endswith(": ") else said in words
    assert len(words) <= 120 and "\n" not in words
