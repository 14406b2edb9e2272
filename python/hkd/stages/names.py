"""What a stage is called: in folders, in prototxt/ and solvers/; and which changed settings stand in its name."""

import functools
import itertools
from dataclasses import replace
from pathlib import Path

from hkd.base.cli import UserError
from hkd.paper.changes import changed, reset
from hkd.paper.methods import Part
from hkd.paper.settings import number_text, setting_text
from hkd.stages import schedule

TEACHER = Part("teacher", shared=True)


def stem(stage):
    """Networks, method and stage: r26-teacher, r14-baseline, r26-r14-kd, r26-r14-layerwise-hint2."""
    e = stage.experiment
    if stage.part is TEACHER:
        return "-".join(filter(None, (e.teacher.name, e.tag, "teacher")))
    # A stage that no teacher has a part in is the same whichever teacher the experiment has.
    names = [e.pair if stage.taught else e.student.name, e.tag, e.student_tag if stage.trains_student else ""]
    names += [stage.method.removesuffix("-kd") if stage.kind == "kd" else stage.method]
    names += [stage.part.name] if stage.declared.named else []
    return "-".join(dict.fromkeys(filter(None, names)))


def name(stage):
    """The stage's folder: the stem, the net, and every changed setting that reaches it."""
    net = f"-net{stage.net}" if stage.net else ""
    return stage.stem + net + "".join(f"+{setting_text(*item)}" for item in changes(stage).items())


def file_stem(stage):
    """The name of its files in prototxt/ and solvers/: the stem and the iterations at full scale."""
    iterations = schedule.full(stage).max_iter
    return f"{stage.stem}-{iterations // 1000}k" if iterations % 1000 == 0 else f"{stage.stem}-{iterations}"


def group(dataset, scale, seed):
    """The folder under --runs of what was trained with one data set, scale and seed."""
    name = "full" if scale == 1 else f"scale{number_text(scale)}"
    return Path(dataset) / f"{name}-seed{seed}"


def changes(stage):
    """{setting: value} of the changed settings that reach it: those without which it, or a stage before it, would be made from
    something else."""
    asked = changed(stage.experiment)
    return _reaching(of_net_1(stage)) if asked else {}


def of_net_1(stage):
    """The same stage of net 1, or 0 where all nets share it, and of seed 1: its files have other random seeds, and nothing else that
    differs."""
    return replace(stage, net=min(stage.net, 1), seed=1)


@functools.cache
def _reaching(stage):
    asked = changed(stage.experiment)

    def idle(keys):
        return _same(stage, replace(stage, experiment=reset(stage.experiment, keys)))

    kept = {key: value for key, value in asked.items() if not idle([key])}
    # Settings that make a difference only together.
    rest = [key for key in asked if key not in kept]
    return kept if not rest or idle(rest) else asked


def _same(stage, other):
    """Whether two stages, and those before them, are made from the same, but for images. The first difference decides: no network is
    built for what comes after it."""
    pairs = itertools.zip_longest(lineage(stage), lineage(other))
    return all(one and another and _own(one) == _own(another) for one, another in pairs)


@functools.cache
def _own(stage):
    try:
        files = stage.messages()
    except UserError as refused:  # a network that cannot be is one too, when it is compared with others
        return str(refused)
    return files, stage.beside, stage.fresh_fc, stage.given


def lineage(last):
    """Every stage that `last` needs, parents first, `last` at the end, each once."""
    order = []
    for parent in last.parents.values():
        order += [found for found in lineage(parent) if found not in order]
    return [*order, last]
