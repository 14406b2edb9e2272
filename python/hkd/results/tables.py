"""From records to tables: what the paper reports beside what was measured. The last iterate first, the best beside it;
nothing is interpolated, and nothing is chosen by its result."""

import statistics
from dataclasses import dataclass

from hkd.paper import experiments
from hkd.paper.settings import number_text
from hkd.results import ensembles, significance, targets
from hkd.results.rows import PROPOSED, TITLES, Row
from hkd.results.runs import ELSEWHERE, Run
from hkd.results.sheet import DASH, Sheet
from hkd.results.significance import Paired, p_text
from hkd.stages import records
from hkd.stages.stage import lineage

NETS = 3
DIGITS = {"Pc": 2, "Pe": 3}  # of means: the paper's
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
    def taught(self):
        """Whether its method needs the experiment's teacher: other rows are shared with what has the same student or teacher."""
        return self.row.method != "" and any(stage.kind == "teacher" for stage in lineage(self.row.stages(1)[0]))

    @property
    def heading(self):
        notes = self.done[0].condition.notes() if self.done else []
        return self.row.heading + (f" ({', '.join(notes)})" if notes else "")

    @property
    def short_heading(self):
        """Without scale and settings, where these stand above it."""
        condition = self.done[0].condition if self.done else None
        engine = [f"engine {condition.engine}"] if condition and condition.engine != "caffe" else []
        return ", ".join([self.row.heading, *engine, *(condition.marks() if condition else [])])


def lines(target, runs):
    """The Lines of a target (rows.Target) from `runs` (runs.Runs)."""
    return [
        Line(row, tuple(runs.cell(f"{target.label}, {row.heading}", row.stages(NETS))), target.measure)
        for row in target.rows
    ]


def sections(views, lines_of):
    """[(runs.View, [Line])] of the lines_of(runs) of each View, in their order: of those in which something was taught by a teacher,
    since what learns alone may belong to other tables; without any, of the first in which something was run, or the first. All but
    the first have only the rows that were run."""
    found = [(view, lines_of(view.runs)) for view in views]
    kept = [(view, same) for view, same in found if taught(same)]
    if not kept:
        kept = [next(((view, same) for view, same in found if any(line.done for line in same)), found[0])]
    return [kept[0], *((view, [line for line in same if line.done]) for view, same in kept[1:])]


def taught(found):
    """Whether one of some Lines that was run needs its experiment's teacher."""
    return any(line.done and line.taught for line in found)


def comparable(one, other):
    """Whether two Lines were made alike, so that their difference is that of the methods: scale, engine and images."""
    return len({(r.condition.scale, r.condition.engine, r.condition.images) for r in one.done + other.done}) == 1


def p_value(better, worse, alternative="two-sided"):
    """Welch's t-test between two Lines' last iterates, or None where it says nothing: fewer than two nets, or two that are
    one; no spread at all; or runs of another scale, engine or data set."""
    if better.repeated or worse.repeated or not comparable(better, worse):
        return None
    return significance.welch(better.values(), worse.values(), alternative)


def paired(one, other):
    """The significance.Paired of two Lines, `one` less `other`, over the nets that both have; None without any, and where one has a
    single net for all of the other's, as the teacher."""
    if len(one.runs) != len(other.runs) or not comparable(one, other):
        return None
    both = zip(one.runs, other.runs, strict=True)
    return significance.paired([(a.value(one.measure), b.value(one.measure)) for a, b in both if a and b])


def proposed(found):
    """The Line of the proposed method that the others are tested against: the last one; in a table without it, FSP's."""
    last_first = found[::-1]
    return next((line for method in (PROPOSED, "fsp") for line in last_first if line.row.method == method), None)


@dataclass(frozen=True)
class Against:
    """A Line against the proposed method's: p of Welch's two-sided test, alone and corrected for the tests of the table, and the
    Line's values less the proposed method's, net by net."""

    p: float | None = None
    p_holm: float | None = None
    less_proposed: Paired | None = None


def against_proposed(found):
    """An Against for each Line; an empty one for the proposed method and for the teacher."""
    best = proposed(found)
    others = [bool(best) and line is not best and line.row.method != "" for line in found]
    ps = [p_value(best, line) if other else None for line, other in zip(found, others, strict=True)]
    apart = [paired(line, best) if other else None for line, other in zip(found, others, strict=True)]
    return list(map(Against, ps, significance.holm(ps), apart))


# --- the paper's tables -----------------------------------------------------------------------------------------------------


def sheet(target, found, words=""):
    """A target in the paper's shape; words: what its title says of its length. A dash stands where nothing was run or reported."""
    heads = (
        f"{target.measure} (%)",
        "paper, nets 1, 2, 3",
        "paper, mean",
        "measured, nets 1, 2, 3",
        "measured, mean ± sd (n)",
        "difference",
        "best, mean ± sd",
        "less proposed, paired",
        "p",
        "p, Holm",
        *(ENSEMBLE_HEADS if target.ensembles else ()),
    )
    tests = against_proposed(found)
    rows = tuple(_columns(target, line, test) for line, test in zip(found, tests, strict=True))
    idle = frozenset(place for place, line in enumerate(found) if not line.done)
    return Sheet(_titled(f"{target.label}. {target.title}", words), heads, rows, tuple(foot(target, found)), idle)


def _titled(title, words):
    return f"{title}: {words}" if words else title


def _columns(target, line, test):
    digits, row, best = DIGITS[target.measure], line.row, line.values("best")
    return (
        line.heading,
        ", ".join(f"{value:.2f}" for value in row.reported),
        _number(row.reported_mean, digits if row.reported else 2),
        ", ".join(_number(run and run.value(target.measure), 2) or DASH for run in line.runs) if line.done else "",
        f"{mean_sd(line.values(), digits)} ({len(line.done)})" if line.done else "",
        _number(line.difference, digits, "+"),
        mean_sd(best, digits) if best else "",
        test.less_proposed and test.less_proposed.text(digits),
        p_text(test.p),
        p_text(test.p_holm),
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
    """What a reader has to know about the numbers above, a paragraph each."""
    done = [run for line in found for run in line.done]
    left_out = [f"Left out: {reason}." for reason in target.left_out] + elsewhere(found)
    if not done:
        return ["Nothing of it was run.", *left_out]
    best = proposed(found)
    engines = sorted({engine(run.record) for run in done})
    hardware = sorted({run.record.get("hardware", "not recorded") for run in done})
    ensembles = f" {ENSEMBLES}" if target.ensembles else ""
    measured = (
        f"Measured: {target.measure} of the last iterate on the test set, mean, standard deviation and number of nets; the best "
        f"test beside it was used for nothing. Engine: {'; '.join(engines)}. Hardware: {'; '.join(hardware)}.{ensembles}"
    )
    tested = (
        f"Against the proposed method, {TITLES[best.row.method]}: less proposed is the difference net by net, mean ± standard "
        f"deviation of the pairs; p is that of a two-sided Welch t-test of the last iterates; p, Holm is corrected for all tests of "
        f"this table. {PAIRS} {significance.sign_flip_bound(NETS)}"
    )
    repeated = ", ".join(line.row.heading for line in found if line.repeated)
    said = [
        f"{repeated}: nets with the same weights, since nothing in their training is random; they are one net, and have no p."
    ]
    return [measured, *([tested] if best else []), *(said if repeated else []), *left_out]


def elsewhere(found):
    """A paragraph on each teacher from elsewhere of some Lines."""
    conditions = [run.condition for line in found for run in line.done]
    return [
        f"{ELSEWHERE.capitalize()}, {origin}: its weights were given, not trained here. The paper's numbers are of a teacher that its "
        f"authors trained."
        for origin in dict.fromkeys(condition.origin for condition in conditions)
        if origin
    ]


PAIRS = "Nets are paired by their number; crops and fresh weights are drawn for each stage and net anew."
ENSEMBLES = (
    "Ensemble: the class of the largest mean of the three nets' softmax outputs. Iterations: of all nets, stages that they share "
    "once, without the teacher's."
)


def engine(record):
    versions, name = record["versions"], records.engine(record)
    if "torch" in name:
        return f"{name} (PyTorch {versions.get('torch', 'unknown')})"
    return f"{name} ({versions['caffe'].get('source', 'unknown build')})"


def numbers(name, measure, found, with_ensembles=True):
    """The numbers unrounded, one line a row, for other programs. with_ensembles: those that the nets' answers give too."""
    nets = range(1, NETS + 1)
    heads = (
        "target", "row", "experiment", "method", "measure",
        *(f"paper_net{n}" for n in nets), "paper_mean",
        *(f"net{n}_last" for n in nets), *(f"net{n}_best" for n in nets),
        "n", "mean_last", "sd_last", "difference", "mean_best", "sd_best",
        "p_welch", "p_holm", "less_proposed_mean", "less_proposed_sd", "pairs",
        "paper_ensemble", "ensemble", "paper_iterations", "iterations",
        "scale", "seed", "engine", "settings", "official_images", "folders",
    )  # fmt: skip
    tests = against_proposed(found)
    rows = (_numbers(name, measure, *one, with_ensembles) for one in zip(found, tests, strict=True))
    return Sheet(name, heads, tuple(rows))


def _numbers(name, measure, line, test, with_ensembles):
    row = line.row
    reported = [*row.reported, *[None] * (NETS - len(row.reported))]
    last, best = ([run and run.value(measure, which) for run in line.runs] for which in ("last", "best"))
    pad = [None] * (NETS - len(line.runs))  # the teacher is one for all nets
    apart = test.less_proposed
    return (
        name, row.heading, row.experiment, row.method or "teacher", measure,
        *reported, row.reported_mean, *last, *pad, *best, *pad,
        len(line.done), *_mean_and_sd(line.values()), line.difference, *_mean_and_sd(line.values("best")),
        test.p, test.p_holm, *((apart.mean, apart.sd, apart.n) if apart else [None] * 3),
        row.ensemble, line.ensemble if with_ensembles else None, row.iterations, line.iterations,
        *(_made_with(line.done[0].condition) if line.done else [None] * 5),
        " ".join("/".join(run.folder.parts[-3:]) for run in line.done),
    )  # fmt: skip


def _made_with(condition):
    settings, official = " ".join(condition.settings), "yes" if condition.official else "no"
    return condition.scale, condition.seed, condition.engine, settings, official


def _mean_and_sd(values):
    return (
        statistics.mean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
    )


def _number(value, digits, sign=""):
    return "" if value is None else f"{value:{sign}.{digits}f}"


def mean_sd(values, digits=2):
    if not values:
        return DASH
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


# --- the methods of one experiment side by side -------------------------------------------------------------------------------


def comparison(experiment, runs, methods=()):
    """The Lines of every method of one experiment, by name; the seldom ones only where they were run. methods: of these, the teacher and
    the student alone."""
    found = []
    for method, title in TITLES.items():
        if methods and method not in ("", "baseline", *methods):
            continue
        reported = targets.reported_pc(experiment, method)
        row = Row(title, experiment, method, (), reported)
        line = Line(row, tuple(runs.cell(title, row.stages(NETS))), "Pc")
        if line.done or method in methods or (method in ALWAYS and not targets.why_not(experiment, method)):
            found.append(line)
    return found


def comparison_title(experiment, found):
    """The heading of a comparison, and what it has to say of its length or ''."""
    e = experiments.experiment(experiment)
    scales = dict.fromkeys(run.condition.scale for line in found for run in line.done if run.condition.scale != 1)
    transferred = f", teacher of {e.teacher_facts.title}" if e.teacher_dataset else ""
    words = f"every number of iterations x {' and '.join(map(number_text, scales))}: not comparable with the paper's"
    return f"{e.facts.title}, {e.teacher.depth} -> {e.student.depth} layers{transferred}", words if scales else ""


def comparison_sheet(experiment, found, words=""):
    """The comparison as a Sheet; words: what its title says of its length. A dash stands where nothing was run or reported."""
    e = experiments.experiment(experiment)
    rows = []
    for line in found:
        rows.append((
            line.short_heading,
            e.student.depth if line.row.method else e.teacher.depth,
            f"{iterations(line):,}" if line.done else None,
            mean_sd(line.values()),
            mean_sd(line.values("best")),
            len(line.done) or None,
            _number(line.row.reported_mean, 2),
        ))  # fmt: skip
    heads = ("method", "layers", "iterations", "Pc last (%)", "Pc best (%)", "n", "paper (%)")
    title, length = comparison_title(experiment, found)
    heading = _titled(title, words) if words else ", ".join(filter(None, (title, length)))
    return Sheet(heading, heads, tuple(rows), tuple(elsewhere(found)))


def iterations(line):
    """What one net of a Line that was run costs, without the teacher's training (the teacher's row: with it)."""
    return all_iterations([line.done[0].stage])


def all_iterations(stages):
    """Of the last stages of several nets with all that they need, each once, without the teacher that they learn from."""
    needed = dict.fromkeys(one for last in stages for one in lineage(last))
    return sum(one.iterations for one in needed if one.kind != "teacher" or one in stages)
