"""The records that are kept with the project: which of them stand in one table, and which beside it.

records/ENGINE is a folder of runs as run_stage.py leaves it. A table has one length (scale and seed) and, of each data set, one
engine: the one that finished most stages of that length, so that nothing is chosen by its result. What other engines made of the
same stages is compared with it (ablations.engines).
"""

from collections import defaultdict
from functools import cached_property
from pathlib import Path

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.results.runs import SET_ASIDE, Choice, Runs
from hkd.results.views import View
from hkd.stages import records

FIRST = "torch"  # of several engines with as many stages
AFTER = "-after-"
"""Between the engine of a stage and the other one of the stage that it started from, in the name of their folder."""


class Kept:
    """engine: the one that stands in the tables wherever it has a run; None: see above."""

    def __init__(self, folder, engine=None):
        self.folder, self.preferred, self._read, self._views = Path(folder), engine, {}, {}
        if not self._groups:
            raise UserError(f"no record in {shown(self.folder)}: make some with --collect RUNS")

    @cached_property
    def _groups(self):
        """{(scale, seed): {data set: {engine: (folder, number of records)}}}"""
        found = defaultdict(lambda: defaultdict(dict))
        for group in sorted(self.folder.glob("*/*/*")):
            stages = sorted(p.parent for p in group.glob("*/record.json") if not SET_ASIDE.search(p.parent.name))
            if stages:
                record = records.read_record(stages[0])  # each run's is compared with its folder where it is used
                engine, dataset, _ = group.parts[-3:]
                found[float(record["scale"]), record["seed"]][dataset][engine] = group, len(stages)
        return found

    @property
    def lengths(self):
        """[(scale, seed)], the longest first."""
        return sorted(self._groups, key=lambda length: (-length[0], length[1]))

    def _shown(self, engines):
        """Of the engines of a group the one that stands in the tables; None where each has only what it made after another."""
        own = [name for name in engines if AFTER not in name]
        if self.preferred in own:
            return self.preferred
        return min(own, key=lambda name: (-engines[name][1], name != FIRST, name), default=None)

    def view(self, length, *changes):
        """The View of what stands in the tables, with the paper's settings but for `changes`, as --set takes them."""
        if (length, changes) not in self._views:
            groups = [
                engines[shown_one][0]
                for engines in self._groups[length].values()
                if (shown_one := self._shown(engines))
            ]
            self._views[length, changes] = View(self._runs(groups, changes), *length)
        return self._views[length, changes]

    @property
    def views(self):
        """A View for each length, the longest first."""
        return [self.view(length) for length in self.lengths]

    def engine(self, length, dataset):
        """The engine that stands in the tables of a data set."""
        return self._shown(self._groups[length][dataset])

    def others(self, length):
        """[(engine, Runs)] of what does not stand in the tables."""
        found = defaultdict(list)
        for engines in self._groups[length].values():
            for name, (group, _) in engines.items():
                if name != self._shown(engines):
                    found[name].append(group)
        return [(name, self._runs(groups)) for name, groups in sorted(found.items())]

    def of_engine(self, name, length):
        """The Runs of one folder of records/."""
        return self._runs([engines[name][0] for engines in self._groups[length].values() if name in engines])

    def _runs(self, groups, changes=()):
        return Runs(self.folder, Choice(settings=changes), groups, self._read)
