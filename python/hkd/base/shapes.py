"""JSON that is read back, each kind against one declared shape (a JSON Schema): a damaged or foreign file is found where it
is read, never where a number of it is used."""

import json
from functools import cached_property

import fastjsonschema

SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
COUNT = {"type": "integer", "minimum": 0}


def record(required, optional=None, closed=False):
    """The schema of an object: {key: its schema} that it must have and may have; closed: no other key is allowed."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": not closed,
    }


class Shape:
    """What a kind of JSON is to look like. schema: a JSON Schema of draft 7, as a dict."""

    def __init__(self, schema):
        self.schema = schema

    @property
    def keys(self):
        """The keys that an object of this shape is known to have."""
        return list(self.schema["properties"])

    def parse(self, text):
        """The content of a JSON text (str or bytes) of this shape. Raises ValueError, in a few words, for anything else: no
        JSON, no UTF-8, NaN, nested too deep, a key that is missing or of another type."""
        try:
            content = json.loads(text, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("nested too deep") from None
        except ValueError as error:
            raise ValueError(f"no JSON: {error}") from None
        return self.checked(content)

    def checked(self, content):
        """What was read before, where it is of this shape. Raises ValueError, in a few words, where it is not."""
        try:
            self._check(content)
        except fastjsonschema.JsonSchemaValueException as error:
            raise ValueError(_in_words(error)) from None
        return content

    @cached_property
    def _check(self):
        # Compiled where the first file of its kind is read: most commands read few kinds.
        draft = {"$schema": "http://json-schema.org/draft-07/schema#"}
        return fastjsonschema.compile({**draft, **self.schema}, use_default=False, use_formats=False)


def _in_words(error):
    where = ".".join(error.path[1:])
    if "description" in error.definition:
        return f"{where}: expected {error.definition['description']}"
    if error.rule == "required":
        said = f"{next(key for key in error.rule_definition if key not in error.value)!r} is a required property"
    else:
        rule = error.message.removeprefix(error.name)
        said = next(
            x for x in (f"{error.value!r}{rule}", rule.strip(), f"not of the expected {error.rule}") if len(x) <= 100
        )
    return f"{where}: {said}" if where else said


def _refuse(constant):
    raise ValueError(f"{constant} is no number")
