"""JSON that is read back, each kind against one declared shape (a JSON Schema): a damaged or foreign file is found where it
is read, never where a number of it is used."""

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT = {"type": "integer", "minimum": 0}


def record(required, optional=None, closed=False):
    """The shape of an object: {key: its shape} that it must have and may have; closed: no other key is allowed."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": not closed,
    }


def parse(text, shape):
    """The content of a JSON text (str or bytes) of the given shape. Raises ValueError, in a few words, for anything else: no
    JSON, no UTF-8, NaN, nested too deep, a key that is missing or of another type."""
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None
    return checked(content, shape)


def checked(content, shape):
    """What was read before, where it is of the given shape. Raises ValueError, in a few words, where it is not."""
    error = best_match(Draft202012Validator(shape).iter_errors(content))
    if error is None:
        return content
    where = ".".join(map(str, error.absolute_path))
    if "description" in error.schema:
        raise ValueError(f"{where}: expected {error.schema['description']}")
    said = error.message if len(error.message) <= 100 else f"not of the expected {error.validator}"
    raise ValueError(f"{where}: {said}" if where else said)


def _refuse(constant):
    raise ValueError(f"{constant} is no number")
