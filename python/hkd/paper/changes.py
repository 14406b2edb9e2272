"""What is changed in an experiment, beside the one of the same name without changes: told apart, kept as JSON and read back, taken
back, and handed on to the experiment of its teacher."""

from dataclasses import replace

from hkd.paper.experiment import SCHEDULES, settings, unchecked
from hkd.paper.experiments import named


def changed(chosen):
    """{setting: value} of what differs from the experiment of that name, in the order of the fields."""
    default = named(chosen.name)
    fields = [k for k in settings() if k not in SCHEDULES]
    return {k: getattr(chosen, k) for k in fields if getattr(chosen, k) != getattr(default, k)} | dict(chosen.schedules)


def restored(name, values):
    """The experiment `name` with {setting: value} as `changed` gave it, and as JSON keeps it: lists for tuples. What was checked on
    its way in is not checked again."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    schedules = tuple((key, values.pop(key)) for key in SCHEDULES if key in values)
    return unchecked(named(name), **values, schedules=schedules)


def reset(chosen, keys):
    """`chosen` with the settings `keys` as the experiment of its name has them; see `unchecked`."""
    default = named(chosen.name)
    values = {key: getattr(default, key) for key in keys if key not in SCHEDULES}
    return unchecked(chosen, **values, schedules=tuple(item for item in chosen.schedules if item[0] not in keys))


def of_teacher(chosen):
    """The experiment that the teacher of `chosen` is trained in: itself, or in a transfer the teacher alone on its own data set. What
    was changed for all stages is changed there too."""
    if chosen.teacher_dataset is None:
        return chosen
    everywhere = {key: value for key, value in changed(chosen).items() if settings()[key]["everywhere"]}
    return replace(named(f"{chosen.teacher_dataset}-{chosen.teacher.name}"), **everywhere)
