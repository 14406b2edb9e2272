"""What the nets of two rows say of their difference: tests of the last iterates, the difference net by net, and every row of a
table against the proposed method's."""

from dataclasses import dataclass

from hkd.results import significance
from hkd.results.rows import PROPOSED
from hkd.results.significance import Paired

PAIRS = "Nets are paired by their number; crops and fresh weights are drawn for each stage and net anew."


def comparable(one, other):
    """Whether two Lines were made alike, so that their difference is that of the methods: scale, engine and images."""
    return len({(r.condition.scale, r.condition.engine, r.condition.images) for r in one.done + other.done}) == 1


def p_value(better, worse, alternative="two-sided"):
    """Welch's t-test between two Lines' last iterates, or None where it says nothing: fewer than two nets, or two that are
    one; no spread at all; or runs of another scale, engine or data set."""
    if better.repeated or worse.repeated or not comparable(better, worse):
        return None
    return significance.welch(better.values(), worse.values(), alternative)


def net_by_net(one, other):
    """[(value, value)] of the nets that both of two Lines have, in percent, in their last test."""
    both = zip(one.runs, other.runs, strict=True)
    return [(a.value(one.measure), b.value(one.measure)) for a, b in both if a and b]


def paired(one, other):
    """The significance.Paired of two Lines, `one` less `other`, over the nets that both have; None without any, and where one has a
    single net for all of the other's, as the teacher."""
    if len(one.runs) != len(other.runs) or not comparable(one, other):
        return None
    return significance.paired(net_by_net(one, other))


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
