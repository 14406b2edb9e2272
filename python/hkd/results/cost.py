"""What a table or figure costs to make: stages, iterations, multiply-adds, and hours at a speed that is given or measured."""

from dataclasses import dataclass

from hkd.results import targets
from hkd.results.sheet import Sheet
from hkd.stages.stage import lineage


@dataclass(frozen=True)
class Cost:
    """Of a set of stages, each counted once. multiply_adds, hours: of all training iterations, without tests."""

    name: str
    stages: int
    iterations: int
    multiply_adds: int
    hours: float


def multiply_adds(architecture, facts, end=None, classes=None):
    """Of one image forward through the convolutions and the fully connected layer, up to the residual module `end`
    (default: the whole network). What BatchNorm, ReLU and option A's shortcut do is left out: they multiply nothing by a
    weight matrix.
    """
    end = end or architecture.modules[-1]
    size, width = facts.size, architecture.widths[0]
    total = 9 * facts.channels * width * size**2
    for stack, block in architecture.modules[: architecture.modules.index(end) + 1]:
        before, width = width, architecture.widths[stack - 1]
        if stack > 1 and block == 1:
            size = (size + 1) // 2
        total += 9 * (before + width) * width * size**2
    return total + (width * classes if classes else 0)


def of_iteration(stage):
    """Multiply-adds of one training iteration of a stage: what learns runs forward and twice backward (to its weights
    and to its input), a teacher inside runs forward only. With a share of hint-dynamic KD's meta steps: the student
    forward and backward over the batch and over a meta batch, and twice more forward over the batch."""
    e, facts = stage.experiment, stage.experiment.facts
    classes = facts.classes if stage.declared.classifies else None
    total = 3 * multiply_adds(stage.learner, facts, stage.learner_end, classes)
    if stage.declared.taught:
        total += multiply_adds(e.teacher, facts, stage.teacher_end, classes)
    total *= e.batch
    if stage.part.learns_weights:
        meta_step = multiply_adds(e.student, facts, None, classes) * (5 * e.batch + 3 * e.dynamic_batch)
        total += meta_step // e.dynamic_every
    return total


def needed_by(stages):
    """`stages` and all that they need, each once."""
    needed = dict.fromkeys(s for stage in stages for s in lineage(stage))
    return list({(s.group, s.name): s for s in needed}.values())


def of(name, stages, seconds=lambda stage: 0.0):
    """The Cost of `stages` with all that they need. seconds(stage): of an iteration, divided by the jobs at a time."""
    once = needed_by(stages)
    return Cost(
        name,
        len(once),
        sum(s.iterations for s in once),
        sum(s.iterations * of_iteration(s) for s in once),
        sum(s.iterations * seconds(s) for s in once) / 3600,
    )


def of_targets(names, nets, scale):
    """{name: its last stages} of the targets `names`; of all where there are none."""
    return {name: targets.TARGETS[name].stages(nets, scale) for name in names or targets.TARGETS}


def sheet(stages, seconds, at):
    """The costs of some targets (of_targets) as a sheet; of all of them also of those together that `make tables` and
    `all-methods` make. seconds: as in `of`; at: what the hours are at, for the heading."""
    costs = []
    for group, together in (
        ([name for name in stages if name not in targets.ALL_METHODS], "all of the above"),
        ([name for name in stages if name in targets.ALL_METHODS], "all methods on all pairs"),
    ):
        costs += [of(targets.TARGETS[name].label, stages[name], seconds) for name in group]
        if len(group) > 1:
            whole = [stage for name in group for stage in stages[name]]
            costs.append(of(f"{together}, each stage once", whole, seconds))
    if len(stages) == len(targets.TARGETS):
        costs.append(of("both, each stage once", [stage for found in stages.values() for stage in found], seconds))
    heads = ("", "stages", "iterations", "multiply-adds", f"hours at {at}")
    rows = ((c.name, c.stages, f"{c.iterations:,}", f"{c.multiply_adds:.2e}", f"{c.hours:,.1f}") for c in costs)
    return Sheet("", heads, tuple(rows))
