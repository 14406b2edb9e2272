"""Runs of one length of training beside those of others: what a table of each is called, and which experiments they are of."""

from dataclasses import dataclass

from hkd.paper import experiments
from hkd.paper.settings import number_text
from hkd.results.runs import Runs
from hkd.stages.stage import group


@dataclass(frozen=True)
class View:
    """Runs that stand in one table. scale, seed: theirs, where runs of other lengths stand beside them."""

    runs: Runs
    scale: float | None = None
    seed: int | None = None

    @property
    def words(self):
        """What a heading says of it; '' where nothing stands beside it."""
        if self.scale is None:
            return ""
        shorter = f"every number of iterations x {number_text(self.scale)}, not comparable with the paper's"
        return ("full length" if self.scale == 1 else shorter) + ("" if self.seed == 1 else f", seed {self.seed}")

    @property
    def name(self):
        """The same in the name of a file."""
        return group("", self.scale, self.seed).name


def names_of(name, views):
    """[(name, View)] of what is made of several Views: the first has the name alone, the others that of their length too."""
    return [(f"{name}-{view.name}" if number else name, view) for number, view in enumerate(views)]


def every_experiment(views):
    """The experiments of EXPERIMENTS, and those on data sets of the user's own that something was run of in some Views."""
    names = (*experiments.EXPERIMENTS, *(name for view in views for name in view.runs.own))
    return [experiments.named(name) for name in dict.fromkeys(names)]
