"""How long a stage trains and at which rates: what the paper states, what was set, and all of it scaled."""

from dataclasses import replace

from hkd.base.cli import UserError
from hkd.paper.stated import Schedule

EVERY = 1000  # iterations between two tests, and between two snapshots of `caffe train`, at full scale
LEAST_EVERY = 100  # a test of 10,000 images costs about as much as 25 iterations: scaled runs test less often
DISPLAY = 100  # iterations between two lines of log.jsonl, at full scale
LEAST_DISPLAY = 10


def full(stage):
    """The Schedule at the paper's length. Raises UserError for a step at or beyond the last iteration."""
    own = {
        name.partition(".")[2]: value for name, value in stage.experiment.schedules if name.startswith(f"{stage.kind}.")
    }
    found = replace(stage.declared.schedule(stage.settled, stage.part), **own)
    beyond = [step for step in found.stepvalue if step >= found.max_iter]
    if beyond:
        raise UserError(
            f"{stage.stem}: the rate is to fall at iteration {beyond[0]:,}, and the last one is {found.max_iter:,}: name both with "
            f"--set, for example {stage.kind}.stepvalue={found.max_iter // 2} and {stage.kind}.max_iter={found.max_iter}"
        )
    return found


def scaled(stage):
    """The Schedule with every count of iterations multiplied by the scale; none at all for weights that are given."""
    if stage.given:
        return Schedule(full(stage).base_lr, (), 0)
    return full(stage).scaled(stage.scale)


def intervals(stage):
    """Iterations between two tests, and between two lines of the log."""
    most = max(stage.iterations, 1)
    every = min(max(round(EVERY * stage.scale), LEAST_EVERY), most)
    return every, min(max(round(DISPLAY * stage.scale), LEAST_DISPLAY), most)


def scaled_fraction(fraction, scale):
    """BatchNorm's moving average reaches back about 1 / (1 - fraction) iterations; a scaled run scales that count too,
    down to 10. Unscaled, the stored statistics of a short run would be those of its first, wild iterations.
    """
    shortest = min(fraction, 0.9)
    return max(shortest, round(1 - (1 - fraction) / scale, 6))
