"""A table or figure (rows.Target) as a table: what the paper reports beside what was measured, for readers and for programs. The last
iterate first, the best beside it; nothing is interpolated, and nothing is chosen by its result."""

import statistics

from hkd.results import significance
from hkd.results.condition import ELSEWHERE
from hkd.results.differences import PAIRS, against_proposed, proposed
from hkd.results.lines import NETS
from hkd.results.rows import TITLES
from hkd.results.sheet import DASH, Sheet, mean_sd, number, titled
from hkd.results.significance import p_text
from hkd.stages import records

DIGITS = {"Pc": 2, "Pe": 3}  # of means: the paper's


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
    return Sheet(titled(f"{target.label}. {target.title}", words), heads, rows, tuple(foot(target, found)), idle)


def _columns(target, line, test):
    digits, row, best = DIGITS[target.measure], line.row, line.values("best")
    return (
        line.heading,
        ", ".join(f"{value:.2f}" for value in row.reported),
        number(row.reported_mean, digits if row.reported else 2),
        ", ".join(number(run and run.value(target.measure), 2) or DASH for run in line.runs) if line.done else "",
        f"{mean_sd(line.values(), digits)} ({len(line.done)})" if line.done else "",
        number(line.difference, digits, "+"),
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
        number(row.ensemble, DIGITS[target.measure]),
        number(line.ensemble, DIGITS[target.measure]),
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
    of_ensembles = f" {ENSEMBLES}" if target.ensembles else ""
    measured = (
        f"Measured: {target.measure} of the last iterate on the test set, mean, standard deviation and number of nets; the best "
        f"test beside it was used for nothing. Engine: {'; '.join(engines)}. Hardware: {'; '.join(hardware)}.{of_ensembles}"
    )
    repeated = ", ".join(line.row.heading for line in found if line.repeated)
    said = [
        f"{repeated}: nets with the same weights, since nothing in their training is random; they are one net, and have no p."
    ]
    return [measured, *([_tested(best)] if best else []), *(said if repeated else []), *left_out]


def _tested(best):
    """The paragraph on what stands beside the proposed method's Line."""
    return (
        f"Against the proposed method, {TITLES[best.row.method]}: less proposed is the difference net by net, mean ± standard "
        f"deviation of the pairs; p is that of a two-sided Welch t-test of the last iterates; p, Holm is corrected for all tests of "
        f"this table. {PAIRS} {significance.sign_flip_bound(NETS)}"
    )


def elsewhere(found):
    """A paragraph on each teacher from elsewhere of some Lines."""
    conditions = [run.condition for line in found for run in line.done]
    return [
        f"{ELSEWHERE.capitalize()}, {origin}: its weights were given, not trained here. The paper's numbers are of a teacher that its "
        f"authors trained."
        for origin in dict.fromkeys(condition.origin for condition in conditions)
        if origin
    ]


ENSEMBLES = (
    "Ensemble: the class of the largest mean of the three nets' softmax outputs. Iterations: of all nets, stages that they share "
    "once, without the teacher's."
)


def engine(record):
    """The engine of a record and what it was built from, in words."""
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
