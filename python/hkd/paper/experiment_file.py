"""An experiment of the user's own in a TOML file: a pair of networks by its name, settings, and the methods to run on it.

    name = "mine"
    dataset = "cifar10"
    teacher = "r20"           # rN or rNwW: N layers, W channels in the first stack
    student = "r8"
    methods = ["kd", "layerwise"]

    [settings]
    lambda_kd = 3
    hint.max_iter = 20000     # of one kind of stage

It is what `--experiment cifar10-r20-r8 --set lambda_kd=3 --set hint.max_iter=20000` says: folders and records are named by these, so that
an edited file makes new stages, and a record is read without the file.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from hkd.base import shapes
from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import shown
from hkd.paper import datasets, experiments
from hkd.paper.methods import METHODS, default_for
from hkd.paper.own_datasets import LONGEST_NAME

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

SUFFIX = ".toml"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NETWORK = re.compile(r"r\d{1,9}(w\d{1,9})?")
_TEXT = {"type": "string"}
_VALUE = {"type": ["string", "number", "boolean", "array"], "items": {"type": ["string", "number"]}}
_SETTING = "a number, a text, true or false, or a list of numbers or texts"
_OF_A_KIND = {"type": "object", "additionalProperties": _VALUE}
SHAPE = shapes.Shape(
    shapes.record(
        {"name": _TEXT, "dataset": _TEXT, "teacher": _TEXT, "student": _TEXT},
        {
            "teacher_dataset": _TEXT,
            "methods": {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True},
            "settings": {
                "type": "object",
                "additionalProperties": {"anyOf": [_VALUE, _OF_A_KIND], "description": _SETTING},
            },
        },
        closed=True,
    )
)


@dataclass(frozen=True)
class ExperimentFile:
    """What a file says. name: its own; experiment: the name of its pair; settings: as --set takes them;
    methods: to be run, without the student alone; of a name, (); path: of the file, None for a name."""

    name: str
    experiment: str
    settings: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)

    def default_method(self, kind):
        """The method that `--stage kind` means without --method: of a file one of its own. Raises UserError where none has it."""
        if self.path is None:
            return default_for(kind)
        own = dict.fromkeys((*self.methods, "baseline"))
        if kind != "teacher" and not any(part.kind == kind for name in own for part in METHODS[name]):
            raise UserError(
                f"{shown(self.path)}: no stage {kind} in its methods, {', '.join(self.methods)}: name another --stage, or a --method"
            )
        return default_for(kind, own)


def named(text, changes=()):
    """The ExperimentFile of a command line's `--experiment TEXT --set CHANGES`, be it a file's path or an experiment's name; what the
    command line sets comes after what the file does. Raises UserError for a file that cannot be read as one, and for an unknown name."""
    if not str(text).endswith(SUFFIX):
        experiments.named(text)
        return ExperimentFile(text, text, tuple(changes))
    found = read(text)
    return replace(found, settings=(*found.settings, *changes))


def read(path):
    """The ExperimentFile at `path`. Raises UserError, naming the file and the key, for one that says no experiment."""
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin with a byte order mark
        _check_keys(content)
        SHAPE.checked(content)
        return replace(_read(content), path=path.absolute())
    except FileNotFoundError:
        raise UserError(f"{shown(path)} is not there: name a TOML file, or an experiment of --list") from None
    except IsADirectoryError:
        raise UserError(f"{shown(path)} is a folder: name a TOML file in it") from None
    except UnicodeDecodeError:
        raise UserError(f"{shown(path)}: not UTF-8, which TOML is: save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{shown(path)}: no TOML: {error}") from None
    except (ValueError, UserError) as error:
        raise UserError(f"{shown(path)}: {error}") from None


def _check_keys(content):
    for key in content:
        if key not in SHAPE.keys:
            raise did_you_mean(key, SHAPE.keys, "key")


def _read(content):
    name = content["name"]
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"name {name[:LONGEST_NAME]!r}: expected small letters, digits and - between them, at most {LONGEST_NAME}: it names files"
        )
    if _is_taken(name):
        raise UserError(f"name {name!r} is an experiment's already: choose another")
    datasets.dataset(content["dataset"])
    for role in ("teacher", "student"):
        if not NETWORK.fullmatch(content[role]):
            raise UserError(
                f"{role} {content[role]!r}: expected r20 or r20w32: layers, and channels of the first stack"
            )
    methods = tuple(content.get("methods", ()))
    for method in methods:
        if method not in METHODS:
            raise did_you_mean(method, list(METHODS), "method")
    pair = f"{content['dataset']}-{content['teacher']}-{content['student']}"
    if "teacher_dataset" in content:
        pair = f"{content['teacher_dataset']}-to-{pair}"
    settings = tuple(_texts(content.get("settings", {})))
    chosen = experiments.experiment(pair, settings)
    return ExperimentFile(name, pair, settings, methods or chosen.methods or experiments.TABLE_METHODS)


def _is_taken(name):
    try:
        experiments.named(name)
    except UserError:
        return False
    return True


def _texts(settings, kind=""):
    """The settings as --set takes them; those of one kind of stage stand in a table of their own."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _texts(value, f"{key}.")
        else:
            yield f"{kind}{key}={_text(value)}"


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
