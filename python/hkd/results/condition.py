"""What must be equal for numbers to stand together: scale, seed, engine, settings and images, as a stage's record has them."""

from dataclasses import dataclass, field, fields, replace

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.paper import experiments
from hkd.paper.changes import restored
from hkd.paper.datasets import DATASETS
from hkd.paper.experiment import settings
from hkd.paper.settings import TRAINED, checked, number_text, setting_text
from hkd.stages import records

NOT_OFFICIAL = "not the official images"
ELSEWHERE = "teacher from elsewhere"


@dataclass(frozen=True)
class Condition:
    """What must be equal for numbers to be averaged or tested against each other. settings: those that differ from the
    experiment's, as --set takes them; images: the sha256 of the data set's pixels; official: whether they, and those that a
    teacher before was trained on, are the published data set. origin: of a teacher from elsewhere, its own or before it, what its
    file is called; the setting teacher_weights tells any two apart."""

    scale: float
    seed: int
    engine: str
    settings: tuple[str, ...]
    images: str
    official: bool
    origin: str = field(default="", compare=False)

    def notes(self, with_scale=True):
        """What a row has to say of itself: how it was made otherwise than the paper's."""
        scale = [f"scale {number_text(self.scale)}"] if with_scale and self.scale != 1 else []
        engine = [] if self.engine == "caffe" else [f"engine {self.engine}"]
        return [*scale, *self.settings, *engine, *self.marks()]

    def marks(self):
        """What has to be said wherever its number stands, also where scale and settings stand above it."""
        elsewhere = [f"{ELSEWHERE}: {self.origin}"] if self.origin else []
        return [*elsewhere, *([] if self.official else [NOT_OFFICIAL])]


def notes(runs, with_scale=True):
    """What has to be said of some runs, each thing once, in order (Condition.notes)."""
    return list(dict.fromkeys(note for run in runs for note in run.condition.notes(with_scale)))


def refuse_mixed(what, one, other):
    """Raises UserError, naming both, where two runs were made under different conditions."""
    ways = {
        "scale": "choose one with --scale",
        "seed": "choose one with --seed",
        "engine": "choose one with --engine",
        "settings": "choose one with --set",
        "images": "move one of them to another --runs folder",
        "official": "move one of them to another --runs folder",
    }
    for key in (f.name for f in fields(Condition) if f.compare):
        a, b = getattr(one.condition, key), getattr(other.condition, key)
        if a != b:
            raise UserError(
                f"{what}: {shown(one.folder)} and {shown(other.folder)} differ in {key} ({_words(a)}; {_words(b)}): {ways[key]}"
            )


def _words(value):
    """A value as an error names it: settings as --set takes them, the head of a digest."""
    if isinstance(value, tuple):
        return ", ".join(value) or "the paper's"
    return number_text(value) if isinstance(value, float) else str(value)[:12]


def of_record(record, parents, stage):
    """The Condition of a record of `stage` (stage.Stage), with the records of the stages before it. Only the settings that reach the
    stage count: a stage may be shared by experiments that differ in others. Raises UserError for a setting that --set would not take."""
    written = _settings(record, experiments.named(stage.experiment.name))
    trained = restored(stage.experiment.name, written)
    scale, seed = float(record["scale"]), record["seed"]
    reaching = changed_settings(replace(stage, experiment=trained, scale=scale, seed=seed))
    given = any(text.startswith("teacher_weights=") for text in reaching)
    return Condition(
        scale,
        seed,
        records.engine(record),
        reaching,
        images=record["digests"]["pixels"],
        official=all(_is_official(one) for one in (record, *parents)),
        origin=_origin(record, parents) if given else "",
    )


def _settings(record, default):
    """{setting: value} of a record, of those that --set knows. Raises UserError for a value that --set would not take."""
    found, rules = {}, settings()
    for key, value in record["settings"].items():
        if key not in rules:
            continue
        value = tuple(value) if isinstance(value, list) else value
        if not _alike(value, getattr(default, key.rpartition(".")[2])):
            raise UserError(f"{key} is {value!r}")
        found[key] = checked(key, value, rules[key])
    return found


def _alike(value, example):
    """Whether a value read from JSON is of the type of `example`, a setting's."""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and bool(value) and all(_alike(one, example[0]) for one in value)
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(example) and (type(value) is not int or abs(value) < 2**31)


def changed_settings(stage):
    """The changed settings that reach a stage, as --set takes them."""
    return tuple(setting_text(*change) for change in stage.changes.items())


def _is_official(record):
    """Whether the images of a record are those that its data set has; of one of the user's own none were published."""
    return record.get("official_data", True) or record["dataset"] not in DATASETS


def _origin(record, parents):
    """What the file of a teacher from elsewhere is called, or its weights where its record is not here; '' of one trained here."""
    found = [one["origin"]["file"] for one in (record, *parents) if one.get("origin")]
    return next(iter(found), record["settings"].get("teacher_weights", TRAINED).removeprefix(TRAINED))
