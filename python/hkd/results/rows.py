"""What tables and figures are made of: a row is a method of an experiment, a target is a table or a figure of rows. Each
knows the stages that it is measured on."""

import functools
import re
import statistics
from dataclasses import dataclass

from hkd.paper import experiments, stated
from hkd.paper.changes import of_teacher
from hkd.paper.methods import METHODS
from hkd.stages.stage import planned

PROPOSED = "layerwise"
TITLES = {"": "teacher", **{name: method.title for name, method in METHODS.items()}}
"""What tables and figures call a method; '' is the teacher."""


@dataclass(frozen=True)
class Row:
    """One row of a table, one bar or curve of a figure: a method of an experiment.

    reported: what the paper states of nets 1 to 3, () where it states none; reported_mean: their mean, or the only number
    that it states, or None. In the unit of the target; as is ensemble, of the three nets together. iterations: what it states
    of all three.
    """

    heading: str
    experiment: str
    method: str
    reported: tuple[float, ...] = ()
    reported_mean: float | None = None
    ensemble: float | None = None
    iterations: int | None = None

    def stages(self, nets, scale=1.0, seed=1):
        """The last stage of the method for nets 1 to `nets`: what Pc is measured on. The teacher is one for all; where the paper
        reports three, the second and third are further ones, which teach nobody."""
        chosen = experiments.experiment(self.experiment)
        several = range(1, nets + 1) if self.method or self.reported else (1,)
        return [_last_stage(chosen, self.method, net, scale, seed) for net in several]

    def hint_stages(self, scale=1.0, seed=1):
        """The stages that train its hints, one for all nets."""
        chosen = experiments.experiment(self.experiment)
        return [
            planned(chosen, self.method, part.kind, part.step or None, scale=scale, seed=seed)
            for part in METHODS[self.method]
            if part.kind == "hint"
        ]


@functools.cache  # a report asks for each hundreds of times
def _last_stage(experiment, method, net, scale, seed):
    if not method:
        return planned(experiment, "", "teacher", net=net, scale=scale, seed=seed)
    last = METHODS[method][-1]
    return planned(experiment, method, last.kind, last.step or None, net=net, scale=scale, seed=seed)


def rows_of(*methods):
    """The methods of every experiment; what several share, since no teacher has a part in it, once."""
    found = {}
    for name in experiments.EXPERIMENTS:
        for method in methods:
            row = Row(TITLES[method], name, method)
            last = row.stages(1)[0]
            found.setdefault((last.experiment.dataset, last.stem), row)
    return found.values()


@dataclass(frozen=True)
class Target:
    """A table or figure. measure: Pc (accuracy) or Pe (error = 100 - Pc), in percent. form: table, bars, curves (test loss
    and accuracy of stage 2), hint losses, weights (of hint-dynamic KD) or fast (accuracy over the iterations of two schedules).
    ensembles: whether it reports them, with the iterations of all nets. called: its name in words, where no paper has it.
    left_out: which methods are not in it, and why."""

    name: str
    title: str
    measure: str
    form: str
    rows: tuple[Row, ...]
    ensembles: bool = False
    called: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def label(self):
        """Table 1, Figure 4; FSP Table 1 where it is not the ETRI paper's; a figure that no paper has by its name."""
        if self.called or self.form == "weights":
            return self.called or self.name
        *paper_of, name = re.sub(r"(\d+)", r" \1", self.name).split("-")
        return " ".join([*map(str.upper, paper_of), name.capitalize()])

    def stages(self, nets, scale=1.0, seed=1):
        """The stages that it is measured on; each needs its stage.lineage too."""
        rows = [
            r.hint_stages(scale, seed) if self.form == "hint losses" else r.stages(nets, scale, seed) for r in self.rows
        ]
        return list(dict.fromkeys(stage for row in rows for stage in row))


def alone(experiment, method, measure):
    """The row of the teacher (method '') or of the student alone ('baseline')."""
    e = experiments.experiment(experiment)
    e, architecture = (e, e.student) if method else (of_teacher(e), e.teacher)
    Pc = stated.BASELINE_PC.get((e.dataset, architecture.depth, architecture.width))
    value = Pc if Pc is None or measure == "Pc" else round(100 - Pc, 2)
    width = "" if architecture.width == stated.STACK_WIDTHS[0] else f" of width {architecture.width}"
    return Row(f"{TITLES[method]}, {architecture.depth} layers{width}", experiment, method, (), value)


def reported_row(experiment, method, reported, heading=None):
    """The row of a method; reported: {method: what the paper states of nets 1 to 3, or one number}, in the unit of the target."""
    nets = reported.get(method, ())
    nets = nets if isinstance(nets, tuple) else (nets,)
    return Row(
        heading or TITLES[method],
        experiment,
        method,
        nets if len(nets) > 1 else (),
        round(statistics.mean(nets), 4) if nets else None,
    )


def figure(name, title, experiment, methods, reported=None, form="bars", teacher=False):
    """A target of bars or curves, which are the methods of one experiment; teacher: whether it has the teacher too."""
    first = [alone(experiment, "", "Pc")] if teacher else []
    rows = [
        alone(experiment, m, "Pc") if m == "baseline" else reported_row(experiment, m, reported or {}) for m in methods
    ]
    return Target(name, title, "Pc", form, (*first, *rows))
