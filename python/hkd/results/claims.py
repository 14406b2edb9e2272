"""What the paper claims of its methods' order, claim by claim, and what the records say of each."""

import itertools
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from enum import Enum

from hkd.paper.settings import number_text
from hkd.results import significance, targets
from hkd.results.condition import notes
from hkd.results.differences import PAIRS, p_value, paired
from hkd.results.lines import NETS, Line
from hkd.results.rows import PROPOSED
from hkd.results.sheet import Sheet, number
from hkd.results.significance import Paired, p_text
from hkd.results.tables import DIGITS
from hkd.results.targets import TARGETS

LEVEL = 0.05


@dataclass(frozen=True)
class Claim:
    """`better` beats `worse`, each an (experiment, method) with a row in the target named `place`. pair: 0 where it is of
    accuracy; 1, 2 or 3 where it is of the loss of that hint, which ends lower."""

    place: str
    better: tuple[str, str]
    worse: tuple[str, str]
    pair: int = 0

    @property
    def text(self):
        """The claim as tables show it: the two headings, the better one first."""
        names = [targets.row(self.place, *side).heading for side in (self.better, self.worse)]
        if self.pair:
            return f"loss of hint {self.pair}: {names[0]} < {names[1]}"
        return f"{names[0]} > {names[1]}"


class Outcome(Enum):
    """What the records say of a claim, in words. p is meant after Holm's correction unless it says otherwise."""

    NOT_RUN = "not run"
    HOLDS = f"holds (p < {LEVEL})"
    BEFORE_CORRECTION = f"same order, p < {LEVEL} only before the correction"
    WITHIN_SPREAD = "same order, within the spread"
    NO_TEST = "same order, no test possible"
    EQUAL = "not seen: equal"
    OTHER_ORDER = "not seen: the order is the other one"


@dataclass(frozen=True)
class Verdict:
    """What came out: differences are better less worse (of losses: worse less better) in the target's unit, so that
    more than 0 is as claimed. p: one-sided Welch test; p_holm: corrected for all claims of the same table or figure; paired: the
    difference net by net. scales: of the runs, one but where the two sides differ; notes: how else they were made."""

    claim: Claim
    reported: float | None
    measured: float | None
    nets: tuple[int, int]
    p: float | None
    p_holm: float | None = None
    paired: Paired | None = None
    scales: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def run(self):
        """Whether both sides were run."""
        return self.measured is not None

    @property
    def full_length(self):
        """Whether both sides were run with the paper's number of iterations."""
        return self.run and self.scales == (1,)

    @property
    def outcome(self):
        """The Outcome: what the difference and its p come to."""
        if not self.run:
            return Outcome.NOT_RUN
        if self.measured <= 0:
            return Outcome.OTHER_ORDER if self.measured < 0 else Outcome.EQUAL
        if self.p is None:
            return Outcome.NO_TEST
        if self.p_holm < LEVEL:
            return Outcome.HOLDS
        return Outcome.BEFORE_CORRECTION if self.p < LEVEL else Outcome.WITHIN_SPREAD


def _order(place, experiment, *methods):
    """Each method of the list beats the next one."""
    return [Claim(place, (experiment, better), (experiment, worse)) for better, worse in itertools.pairwise(methods)]


def _beats(place, experiment, better, *worse):
    return [Claim(place, (experiment, better), (experiment, method)) for method in worse]


_MAIN = (PROPOSED, "hint-kd", "kd", "baseline")
CLAIMS = (
    *_order("table1", "cifar10-r26-r14", *_MAIN),
    *_beats("table1", "cifar10-r26-r14", "hint-kd", "hint-kd-plus"),
    *_order("table2", "cifar100-r26-r8", *_MAIN),
    *_beats("table2", "cifar100-r26-r8", "hint-kd", "hint-kd-plus"),
    *_order("table3", "mnist-r32-r8", *_MAIN),
    *_beats("table3", "mnist-r32-r8", "hint-kd", "hint-kd-plus"),
    *_order("table4", "mnist-r32-r8", PROPOSED, "sl-resnet-kd", "sl-resnet", "hint-kd"),
    # Regressors: a wider teacher through a regressor beats one of the student's width without.
    *(Claim("table5", ("cifar10-r26w32-r14", m), ("cifar10-r26-r14", m)) for m in (PROPOSED, "hint-kd")),
    *_beats("table5", "cifar10-r26w32-r14", PROPOSED, "hint-kd"),
    *(Claim("table6", ("cifar100-r14w80-r8", m), ("cifar100-r14-r8", m)) for m in (PROPOSED, "hint-kd")),
    *_beats("table6", "cifar100-r14w80-r8", PROPOSED, "hint-kd"),
    *_beats("figure4", "cifar10-r14-r8", PROPOSED, "hint-kd"),
    *_beats("figure5", "cifar100-r20-r8", PROPOSED, "hint-kd", "hint-kd-plus", "kd", "baseline"),
    *_order("figure7", "cifar10-r14-r8", PROPOSED, "sl-resnet-kd", "hint-kd", "sl-resnet"),
    *_order("figure7", "cifar10-r14-r8", "sl-resnet-kd", "kd", "sl-resnet"),
    *_order("figure7", "cifar10-r14-r8", "hint-kd", "kd", "baseline"),
    *_beats("figure8", "cifar10-r26-r8", PROPOSED, "concurrent", "hint-kd"),
    *(Claim("figure9", ("cifar10-r26-r8", PROPOSED), ("cifar10-r26-r8", "concurrent"), pair) for pair in (1, 2, 3)),
    *_beats("figure10", "cifar100-r14-r8", PROPOSED, "concurrent", "hint-kd"),
    *_beats("fsp-table1", "cifar10-r26-r26-21k", "fsp", "", "baseline", "continued", "fitnet", "fitnet-3"),
    *_order("fsp-table2", "cifar100-r32-r32-noaug-21k", "fsp", "", "fitnet", "baseline"),
    *_order("fsp-table3", "cifar10-r26-r8", "", "fsp", "fitnet", "baseline"),
    *_order("fsp-table4", "cifar100-r32-r14-noaug", "", "fsp", "fitnet", "baseline"),
)
"""ETRI sections 3.1 to 3.4, FSP sections 4.1 and 4.2: the orders that the text states or its tables show."""


def check(views):
    """A Verdict for each claim, from [views.View], the longest first: of the longest that has all nets of both sides, else of the longest
    whose nets allow a test, else of the longest that has both sides: a length that is still under way decides nothing that a whole
    one can. The claims of one table or figure are one family of tests."""
    verdicts = [_longest([_verdict(claim, view.runs) for view in views]) for claim in CLAIMS]
    families = defaultdict(list)
    for verdict in verdicts:
        families[verdict.claim.place].append(verdict.p)
    corrected = {place: iter(significance.holm(ps)) for place, ps in families.items()}
    return [replace(verdict, p_holm=next(corrected[verdict.claim.place])) for verdict in verdicts]


def _longest(verdicts):
    tested = [verdict for verdict in verdicts if verdict.p is not None]
    whole = [verdict for verdict in tested if min(verdict.nets) == NETS]
    return next(iter([*whole, *tested, *(verdict for verdict in verdicts if verdict.run), *verdicts]))


def _verdict(claim, runs):
    return (_hint_loss if claim.pair else _accuracy)(claim, runs)


def _accuracy(claim, runs):
    measure = TARGETS[claim.place].measure
    sign = 1 if measure == "Pc" else -1
    sides = []
    for side in (claim.better, claim.worse):
        row = targets.row(claim.place, *side)
        what = f"{TARGETS[claim.place].label}, {row.heading}"
        sides.append(Line(row, tuple(runs.cell(what, row.stages(NETS))), measure))
    better, worse = sides
    reported = [side.row.reported_mean for side in sides]
    reported = sign * (reported[0] - reported[1]) if None not in reported else None
    if not (better.done and worse.done):
        return Verdict(claim, reported, None, (len(better.done), len(worse.done)), None)
    return Verdict(
        claim,
        reported,
        sign * (statistics.mean(better.values()) - statistics.mean(worse.values())),
        (len(better.done), len(worse.done)),
        p_value(better, worse, "greater" if measure == "Pc" else "less"),
        paired=paired(*(sides if sign > 0 else sides[::-1])),
        **_made_with(better.done + worse.done),
    )


def _hint_loss(claim, runs):
    """Test losses of one hint at the end of the stage that trained it: one run serves all nets, so there is no test."""
    ends = []
    for side in (claim.better, claim.worse):
        row = targets.row(claim.place, *side)
        stage = next(s for s in row.hint_stages() if claim.pair in s.part.pairs)
        (run,) = runs.cell(f"{TARGETS[claim.place].label}, {row.heading}", [stage])
        if run is not None:
            last = [line for line in run.log if "test_loss" in line][-1]
            ends.append((run, last.get(f"test_hint{claim.pair}", last["test_loss"])))
    if len(ends) < 2:
        return Verdict(claim, None, None, (0, 0), None)
    return Verdict(claim, None, ends[1][1] - ends[0][1], (1, 1), None, **_made_with([run for run, _ in ends]))


def _made_with(runs):
    scales = tuple(dict.fromkeys(run.condition.scale for run in runs))
    return {"scales": scales, "notes": tuple(notes(runs, with_scale=False))}


# --- as a table ---------------------------------------------------------------------------------------------------------------


def sheet(verdicts):
    """The claims as a Sheet, with what came of them below."""
    heads = (
        "claim", "where", "paper", "measured", "paired ± sd", "nets", "p", "p, Holm", "verdict", "scale", "made with"
    )  # fmt: skip
    run = [v for v in verdicts if v.run]
    holds, full = sum(v.outcome is Outcome.HOLDS for v in run), sum(v.full_length for v in run)
    counted = (
        f"{len(verdicts)} claims, {len(run)} of them run, {full} at the paper's number of iterations (scale 1); {holds} hold. Paper "
        f"and measured: the difference of the means, in the unit of the table, more than 0 where it is as claimed; paired: the same "
        f"net by net, mean ± standard deviation. Losses have one run each, and no test."
    )
    tested = (
        f"p: one-sided Welch t-test over the nets; p, Holm: corrected for all claims of the same table or figure that were tested, and "
        f"what the verdict goes by. Between tables nothing is corrected. {PAIRS} {significance.sign_flip_bound(NETS)}"
    )
    idle = frozenset(place for place, v in enumerate(verdicts) if v.outcome is Outcome.NOT_RUN)
    return Sheet("The paper's claims", heads, tuple(map(_cells, verdicts)), (counted, tested), idle)


def _cells(verdict):
    target = TARGETS[verdict.claim.place]
    return (
        verdict.claim.text,
        target.label,
        number(verdict.reported, 3, "+"),
        number(verdict.measured, 3, "+"),
        verdict.paired and verdict.paired.text(max(DIGITS.values())),
        "+".join(map(str, verdict.nets)) if verdict.run else None,
        p_text(verdict.p),
        p_text(verdict.p_holm),
        verdict.outcome.value,
        " and ".join(map(number_text, verdict.scales)),
        ", ".join(verdict.notes) or "the paper's settings" if verdict.run else None,
    )


def numbers(verdicts):
    """The same unrounded, for other programs."""
    heads = (
        "place", "claim", "reported", "measured", "paired_mean", "paired_sd", "pairs", "n_better", "n_worse", "p", "p_holm",
        "outcome", "scale", "conditions",
    )  # fmt: skip
    return Sheet("claims", heads, tuple(map(_numbers, verdicts)))


def _numbers(verdict):
    apart = verdict.paired
    return (
        verdict.claim.place, verdict.claim.text, verdict.reported, verdict.measured,
        *((apart.mean, apart.sd, apart.n) if apart else [None] * 3), *verdict.nets, verdict.p, verdict.p_holm,
        verdict.outcome.name.lower(), " ".join(map(number_text, verdict.scales)), " ".join(verdict.notes),
    )  # fmt: skip
