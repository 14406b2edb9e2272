"""A row of a table and what was measured of it: a run for each net, and what follows from these alone."""

import functools
import statistics
from dataclasses import dataclass

from hkd.results import ensembles
from hkd.results.rows import Row
from hkd.results.runs import Run
from hkd.results.sheet import DASH
from hkd.stages import records, stage

NETS = len(stage.NETS)
"""In a row of the papers' tables."""


@dataclass(frozen=True)
class Line:
    """A Row and what was measured of it: a Run or None for each net."""

    row: Row
    runs: tuple[Run | None, ...]
    measure: str

    @property
    def done(self):
        """The Runs of those nets that were run."""
        return [run for run in self.runs if run is not None]

    def values(self, which="last"):
        """What those nets reached in percent, in the `last` or the `best` test."""
        return [run.value(self.measure, which) for run in self.done]

    @property
    def repeated(self):
        """Whether two of its nets ended in the same weights: nothing random was left in their training, and they are one net."""
        return len({run.record["digests"][records.FINAL] for run in self.done}) < len(self.done)

    @property
    def engine(self):
        """What trained its nets, None where none was run."""
        return self.done[0].condition.engine if self.done else None

    @property
    def difference(self):
        """Measured mean less reported mean, or None."""
        if not self.done or self.row.reported_mean is None:
            return None
        return statistics.mean(self.values()) - self.row.reported_mean

    @property
    def ensemble(self):
        """What all nets answer together, in the measure's unit, or None where one was not run or has kept no answers."""
        if len(self.runs) < NETS or len(self.done) < NETS:
            return None
        Pc = ensembles.together(self.done)
        return Pc if Pc is None or self.measure == "Pc" else round(100 - Pc, 6)

    @property
    def iterations(self):
        """Of all that was run for its nets, each stage once, without the teacher that they learn from; None where nothing was."""
        return all_iterations([run.stage for run in self.done]) if self.done else None

    @property
    def net_iterations(self):
        """The same of one net (the teacher's row: with those of the teacher), None where nothing was run."""
        return all_iterations([self.done[0].stage]) if self.done else None

    @property
    def taught(self):
        """Whether its method needs the experiment's teacher: other rows are shared with what has the same student or teacher."""
        return self.row.method != "" and any(one.kind == "teacher" for one in stage.lineage(self.row.stages(1)[0]))

    @property
    def heading(self):
        """Its row's heading, and how its nets were made otherwise than the paper's."""
        notes = self.done[0].condition.notes() if self.done else []
        return self.row.heading + (f" ({', '.join(notes)})" if notes else "")

    @property
    def short_heading(self):
        """Without scale and settings, where these stand above it."""
        condition = self.done[0].condition if self.done else None
        engine = [f"engine {condition.engine}"] if condition and condition.engine != "caffe" else []
        return ", ".join([self.row.heading, *engine, *(condition.marks() if condition else [])])


@functools.cache  # a report asks for each many times
def of_target(target, runs):
    """The Lines of a target (rows.Target) from `runs` (runs.Runs)."""
    return tuple(
        Line(row, tuple(runs.cell(f"{target.label}, {row.heading}", row.stages(NETS))), target.measure)
        for row in target.rows
    )


def sections(views, lines_of):
    """[(views.View, [Line])] of the lines_of(runs) of each View, in their order: of those in which something was taught by a teacher,
    since what learns alone may belong to other tables, or in which the teacher has the paper's own length; without any, of the first
    in which something was run, or the first. All but the first have only the rows that were run."""
    found = [(view, lines_of(view.runs)) for view in views]
    kept = [(view, same) for view, same in found if taught(same) or (view.scale == 1 and has_teacher(same))]
    if not kept:
        kept = [next(((view, same) for view, same in found if any(line.done for line in same)), found[0])]
    return [kept[0], *((view, [line for line in same if line.done]) for view, same in kept[1:])]


def taught(found):
    """Whether one of some Lines that was run needs its experiment's teacher."""
    return any(line.done and line.taught for line in found)


def has_teacher(found):
    """Whether one of some Lines that was run is its experiment's teacher."""
    return any(line.done and line.row.method == "" for line in found)


def all_iterations(stages):
    """Of the last stages of several nets with all that they need, each once, without the teacher that they learn from."""
    needed = dict.fromkeys(one for last in stages for one in stage.lineage(last))
    return sum(one.iterations for one in needed if one.kind != "teacher" or one in stages)


@functools.cache  # as of_target
def line_of(runs, row):
    """The nets of a row that these runs have."""
    return Line(row, tuple(runs.cell(f"{row.heading} of {row.experiment}", row.stages(NETS))), "Pc")


def nets_text(line):
    """Pc of every net of a line, in words."""
    return ", ".join(f"{value:.2f}" for value in line.values()) or DASH


def seeds_text(found):
    """The same of several Lines, a seed each."""
    return "; ".join(map(nets_text, found))
