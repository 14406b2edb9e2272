"""What the paper claims of its methods' order, claim by claim, and what the records say of each."""

import csv
import io
import itertools
import statistics
from dataclasses import dataclass

from hkd.results import targets
from hkd.results.rows import PROPOSED
from hkd.results.runs import notes
from hkd.results.tables import DASH, NETS, Line, p_text, p_value
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
        names = [targets.row(self.place, *side).heading for side in (self.better, self.worse)]
        if self.pair:
            return f"loss of hint {self.pair}: {names[0]} < {names[1]}"
        return f"{names[0]} > {names[1]}"


@dataclass(frozen=True)
class Verdict:
    """What came out: differences are better less worse (of losses: worse less better) in the target's unit, so that
    more than 0 is as claimed. p: one-sided Welch test."""

    claim: Claim
    reported: float | None
    measured: float | None
    nets: tuple[int, int]
    p: float | None
    notes: tuple[str, ...] = ()

    @property
    def words(self):
        if self.measured is None:
            return "not run"
        if self.measured <= 0:
            return "not seen: the order is the other one" if self.measured < 0 else "not seen: equal"
        if self.p is None:
            return "same order, no test possible"
        return f"holds (p < {LEVEL})" if self.p < LEVEL else "same order, within the spread"


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


def check(runs):
    """A Verdict for each claim, from `runs` (runs.Runs)."""
    return [(_hint_loss if claim.pair else _accuracy)(claim, runs) for claim in CLAIMS]


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
    return Verdict(
        claim,
        sign * (reported[0] - reported[1]) if None not in reported else None,
        sign * (statistics.mean(better.values()) - statistics.mean(worse.values()))
        if better.done and worse.done
        else None,
        (len(better.done), len(worse.done)),
        p_value(better, worse, "greater" if measure == "Pc" else "less"),
        tuple(notes(better.done + worse.done)),
    )


def _hint_loss(claim, runs):
    """Test losses of one hint at the end of the stage that trained it: one run serves all nets, so there is no test."""
    ends = []
    for side in (claim.better, claim.worse):
        row = targets.row(claim.place, *side)
        stage = next(s for s in row.hint_stages() if claim.pair in s.part.pairs)
        (run,) = runs.cell(f"{TARGETS[claim.place].label}, {row.heading}", [stage])
        if run is not None:
            last = [line for line in run.log() if "test_loss" in line][-1]
            ends.append((run, last.get(f"test_hint{claim.pair}", last["test_loss"])))
    if len(ends) < 2:
        return Verdict(claim, None, None, (0, 0), None)
    return Verdict(claim, None, ends[1][1] - ends[0][1], (1, 1), None, tuple(notes(run for run, _ in ends)))


HEADS = ("claim", "where", "paper", "measured", "nets", "p", "verdict", "made with")


def _cells(verdict):
    number = lambda value, form: DASH if value is None else format(value, form)  # noqa: E731
    run = verdict.measured is not None
    return (
        verdict.claim.text,
        TARGETS[verdict.claim.place].label,
        number(verdict.reported, "+.3f"),
        number(verdict.measured, "+.3f"),
        "+".join(map(str, verdict.nets)) if run else DASH,
        p_text(verdict.p) or DASH,
        verdict.words,
        ", ".join(verdict.notes) or "the paper's settings" if run else DASH,
    )


def markdown(verdicts):
    rows = [HEADS, ["---"] * len(HEADS), *map(_cells, verdicts)]
    run = [v for v in verdicts if v.measured is not None]
    holds = sum(v.words.startswith("holds") for v in run)
    return (
        "### The paper's claims\n\n"
        + "\n".join(f"| {' | '.join(row)} |" for row in rows)
        + f"\n\n{len(verdicts)} claims, {len(run)} of them run, {holds} hold. Paper and measured: the difference of the "
        f"means, in the unit of the table, more than 0 where it is as claimed. p: one-sided Welch t-test over the nets, not corrected for the number of claims: of {len(verdicts)} tests, "
        f"{LEVEL * len(verdicts):.0f} would come below {LEVEL} by chance alone. Losses have one run each, and no test.\n"
    )


def as_csv(verdicts):
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["place", "claim", "reported", "measured", "n_better", "n_worse", "p", "verdict", "conditions"])
    for v in verdicts:
        writer.writerow([v.claim.place, v.claim.text, v.reported, v.measured, *v.nets, v.p, v.words, " ".join(v.notes)])
    return stream.getvalue()
