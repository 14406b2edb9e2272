"""From records to tables: what the paper reports beside what was measured. The last iterate first, the best beside it;
nothing is interpolated, and nothing is chosen by its result."""

import csv
import io
import statistics
import warnings
from dataclasses import dataclass

from scipy import stats

from hkd.paper import experiments
from hkd.results import ensembles, targets
from hkd.results.rows import PROPOSED, TITLES, Row
from hkd.results.runs import Run
from hkd.stages import records
from hkd.stages.stage import lineage

NETS = 3
DIGITS = {"Pc": 2, "Pe": 3}  # of means: the paper's
DASH = "-"
ALWAYS = ("", "baseline", "kd", PROPOSED)  # the other methods have a row of a comparison once they were run


@dataclass(frozen=True)
class Line:
    """A Row and what was measured of it: a Run or None for each net."""

    row: Row
    runs: tuple[Run | None, ...]
    measure: str

    @property
    def done(self):
        return [run for run in self.runs if run is not None]

    def values(self, which="last"):
        return [run.value(self.measure, which) for run in self.done]

    @property
    def repeated(self):
        """Whether two of its nets ended in the same weights: nothing random was left in their training, and they are one net."""
        return len({run.record["digests"][records.FINAL] for run in self.done}) < len(self.done)

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
    def heading(self):
        notes = self.done[0].condition.notes() if self.done else []
        return self.row.heading + (f" ({', '.join(notes)})" if notes else "")


def lines(target, runs):
    """The Lines of a target (rows.Target) from `runs` (runs.Runs)."""
    return [
        Line(row, tuple(runs.cell(f"{target.label}, {row.heading}", row.stages(NETS))), target.measure)
        for row in target.rows
    ]


def p_value(better, worse, alternative="two-sided"):
    """Welch's t-test between two Lines' last iterates, or None where it says nothing: fewer than two nets, or two that are
    one; no spread at all; or runs of another scale, engine or data set."""
    a, b = better.values(), worse.values()
    if min(len(a), len(b)) < 2 or better.repeated or worse.repeated or len({*a}) == len({*b}) == 1:
        return None
    conditions = {(r.condition.scale, r.condition.engine, r.condition.images) for r in better.done + worse.done}
    if len(conditions) > 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's, where one of the two has no spread
        return float(stats.ttest_ind(a, b, equal_var=False, alternative=alternative).pvalue)


def proposed(found):
    """The Line of the proposed method that the others are tested against: the last one; in a table without it, FSP's."""
    last_first = found[::-1]
    return next((line for method in (PROPOSED, "fsp") for line in last_first if line.row.method == method), None)


# --- the paper's tables -----------------------------------------------------------------------------------------------------


def markdown(target, found):
    """A target in the paper's shape. A dash stands where nothing was run or reported."""
    heads = (
        f"{target.measure} (%)",
        "paper, nets 1, 2, 3",
        "paper, mean",
        "measured, nets 1, 2, 3",
        "measured, mean ± sd (n)",
        "difference",
        "best, mean ± sd",
        "p",
        *(ENSEMBLE_HEADS if target.ensembles else ()),
    )
    rows = [[_cell(column) for column in _columns(target, line, found)] for line in found]
    body = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([f"### {target.label}. {target.title}", "", *body, "", *foot(target, found)]) + "\n"


def _columns(target, line, found):
    digits, row, best = DIGITS[target.measure], line.row, line.values("best")
    p = _p_against_proposed(line, found)
    return (
        line.heading,
        ", ".join(f"{value:.2f}" for value in row.reported),
        _number(row.reported_mean, digits if row.reported else 2),
        ", ".join(_number(run and run.value(target.measure), 2) or DASH for run in line.runs) if line.done else "",
        f"{mean_sd(line.values(), digits)} ({len(line.done)})" if line.done else "",
        _number(line.difference, digits, "+"),
        mean_sd(best, digits) if best else "",
        p_text(p),
        *(_ensemble_columns(target, line) if target.ensembles else ()),
    )


ENSEMBLE_HEADS = ("paper, ensemble", "ensemble", "paper, iterations", "iterations")


def _ensemble_columns(target, line):
    row = line.row
    return (
        _number(row.ensemble, DIGITS[target.measure]),
        _number(line.ensemble, DIGITS[target.measure]),
        *(f"{count:,}" if count else "" for count in (row.iterations, line.iterations)),
    )


def foot(target, found):
    """What a reader has to know about the numbers above."""
    done = [run for line in found for run in line.done]
    left_out = [words for reason in target.left_out for words in ("", f"Left out: {reason}.")]
    if not done:
        return ["Nothing of it was run.", *left_out]
    best = proposed(found)
    engines = sorted({engine(run.record) for run in done})
    hardware = sorted({run.record.get("hardware", "not recorded") for run in done})
    tested = (
        f" p: two-sided Welch t-test of the last iterates against the proposed method, {TITLES[best.row.method]}."
        if best
        else ""
    )
    ensembles = f" {ENSEMBLES}" if target.ensembles else ""
    repeated = ", ".join(line.row.heading for line in found if line.repeated)
    if repeated:
        left_out = [
            "",
            f"{repeated}: nets with the same weights, since nothing in their training is random; they are one net, and have no p.",
            *left_out,
        ]
    return [
        f"Measured: {target.measure} of the last iterate on the test set, mean, standard deviation and number of nets; the best "
        f"test beside it was used for nothing.{tested} Engine: {'; '.join(engines)}. Hardware: {'; '.join(hardware)}.{ensembles}",
        *left_out,
    ]


ENSEMBLES = (
    "Ensemble: the class of the largest mean of the three nets' softmax outputs. Iterations: of all nets, stages that they share "
    "once, without the teacher's."
)


def engine(record):
    versions, name = record["versions"], records.engine(record)
    if "torch" in name:
        return f"{name} (PyTorch {versions['torch']})"
    return f"{name} ({versions['caffe'].get('source', 'unknown build')})"


def as_csv(name, measure, found, with_ensembles=True):
    """The numbers unrounded, one line a row, for other programs. with_ensembles: those that the nets' answers give too."""
    nets = range(1, NETS + 1)
    heads = (
        "target", "row", "experiment", "method", "measure",
        *(f"paper_net{n}" for n in nets), "paper_mean",
        *(f"net{n}_last" for n in nets), *(f"net{n}_best" for n in nets),
        "n", "mean_last", "sd_last", "difference", "mean_best", "sd_best", "p_welch",
        "paper_ensemble", "ensemble", "paper_iterations", "iterations",
        "scale", "seed", "engine", "settings", "folders",
    )  # fmt: skip
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heads)
    for line in found:
        row, condition = line.row, line.done[0].condition if line.done else None
        reported = [*row.reported, *[None] * (NETS - len(row.reported))]
        last, best = ([run and run.value(measure, which) for run in line.runs] for which in ("last", "best"))
        pad = [None] * (NETS - len(line.runs))  # the teacher is one for all nets
        writer.writerow(
            [
                name, row.heading, row.experiment, row.method or "teacher", measure,
                *reported, row.reported_mean, *last, *pad, *best, *pad,
                len(line.done), *_mean_and_sd(line.values()), line.difference, *_mean_and_sd(line.values("best")),
                _p_against_proposed(line, found),
                row.ensemble, line.ensemble if with_ensembles else None, row.iterations, line.iterations,
                *((condition.scale, condition.seed, condition.engine, " ".join(condition.settings)) if condition else [None] * 4),
                " ".join("/".join(run.folder.parts[-3:]) for run in line.done),
            ]
        )  # fmt: skip
    return stream.getvalue()


def p_text(p):
    """p in three digits, '' for None. Where these would say 0 or 1: that it is more or less."""
    return "" if p is None else "< 0.001" if p < 0.0005 else "> 0.999" if p > 0.9995 else f"{p:.3f}"


def _p_against_proposed(line, found):
    best = proposed(found)
    if best is None or line is best or not line.row.method:
        return None
    return p_value(best, line)


def _mean_and_sd(values):
    return (
        statistics.mean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
    )


def _number(value, digits, sign=""):
    return "" if value is None else f"{value:{sign}.{digits}f}"


def _cell(text):
    return text or DASH


def mean_sd(values, digits=2):
    if not values:
        return DASH
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


# --- the methods of one experiment side by side -------------------------------------------------------------------------------


def comparison(experiment, runs):
    """The Lines of every method of one experiment, by name; the seldom ones only where they were run."""
    found = []
    for method, title in TITLES.items():
        reported = targets.reported_pc(experiment, method)
        row = Row(title, experiment, method, (), reported)
        line = Line(row, tuple(runs.cell(title, row.stages(NETS))), "Pc")
        if line.done or (method in ALWAYS and not targets.why_not(experiment, method)):
            found.append(line)
    return found


def comparison_markdown(experiment, found):
    """The comparison as a Markdown table. A dash stands where nothing was run or reported."""
    e = experiments.experiment(experiment)
    notes = [note for line in found for run in line.done for note in run.condition.notes()]
    scales = [note.removeprefix("scale ") for note in dict.fromkeys(notes) if note.startswith("scale ")]
    scaled = f", every number of iterations x {' and '.join(scales)}: not comparable with the paper's" if scales else ""
    transferred = f", teacher of {e.of_teacher.facts.title}" if e.teacher_dataset else ""
    rows = [
        f"### {e.facts.title}, {e.teacher.depth} -> {e.student.depth} layers{transferred}{scaled}",
        "",
        "| | layers | iterations | Pc last (%) | Pc best (%) | n | paper (%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in found:
        layers = e.student.depth if line.row.method else e.teacher.depth
        last, best = mean_sd(line.values()), mean_sd(line.values("best"))
        reported = _number(line.row.reported_mean, 2) or DASH
        engine = [note for run in line.done for note in run.condition.notes() if note.startswith("engine ")]
        heading = ", ".join([line.row.heading, *dict.fromkeys(engine)])
        rows.append(
            f"| {heading} | {layers} | {iterations(line):,} | {last} | {best} | {len(line.done)} | {reported} |"
        )
    return "\n".join(rows) + "\n"


def iterations(line):
    """What one net costs, without the teacher's training (the teacher's row: with it); unscaled where it was not run."""
    stage = line.done[0].stage if line.done else line.row.stages(1)[0]
    return all_iterations([stage])


def all_iterations(stages):
    """Of the last stages of several nets with all that they need, each once, without the teacher that they learn from."""
    needed = dict.fromkeys(one for last in stages for one in lineage(last))
    return sum(one.iterations for one in needed if one.kind != "teacher" or one in stages)
