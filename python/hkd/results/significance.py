"""What few nets can say of a difference: Welch's test and Student's, the difference net by net, and Holm's correction for several tests."""

import statistics
import warnings
from dataclasses import dataclass


def _stats():
    """scipy.stats, imported when a p is asked for: that takes a second, and most commands need none."""
    from scipy import stats

    return stats


@dataclass(frozen=True)
class Paired:
    """A difference net by net: mean, standard deviation (None of a single pair), number of pairs."""

    mean: float
    sd: float | None
    n: int

    def text(self, digits):
        """+0.12 ± 0.05, the mean alone of a single pair."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:+.{digits}f}{spread}"


def paired(pairs):
    """Paired of [(a, b)], a less b; None without a pair."""
    apart = [a - b for a, b in pairs]
    if not apart:
        return None
    return Paired(statistics.mean(apart), statistics.stdev(apart) if len(apart) > 1 else None, len(apart))


def welch(a, b, alternative="two-sided"):
    """p of Welch's t-test, None where it says nothing: fewer than two numbers on a side, or no spread at all."""
    if min(len(a), len(b)) < 2 or len({*a}) == len({*b}) == 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy's, where one of the two has no spread
        return float(_stats().ttest_ind(a, b, equal_var=False, alternative=alternative).pvalue)


def student(a, b):
    """p of a two-sided Student's t-test with one variance for both, which takes a single number on a side too (SciPy's own does not);
    None without any spread."""
    spreads = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (a, b)]
    if not any(spreads):
        return None
    of_a, of_b = ((statistics.mean(values), sd, len(values)) for values, sd in zip((a, b), spreads, strict=True))
    return float(_stats().ttest_ind_from_stats(*of_a, *of_b).pvalue)


def of_f(F, between, inside):
    """p of an analysis of variance: that F, of so many degrees of freedom between the groups and inside them, is not chance."""
    return float(_stats().f.sf(F, between, inside))


def holm(ps):
    """The p of one family of tests by Holm's step-down correction, in their order; None, for no test, stays None."""
    order = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found, least = [None] * len(ps), 0.0
    for rank, (p, place) in enumerate(order):
        least = found[place] = max(least, min(1.0, (len(order) - rank) * p))
    return found


def p_text(p):
    """p in three digits, '' for None. Where these would say 0 or 1: that it is more or less."""
    return "" if p is None else "< 0.001" if p < 0.0005 else "> 0.999" if p > 0.9995 else f"{p:.3f}"


def sign_flip_bound(nets):
    """The sentence that says what no test of so few pairs can find."""
    return (
        f"With {nets} pairs a sign-flip test cannot give p below {0.5**nets:g} one-sided ({2 * 0.5**nets:g} two-sided), whatever "
        f"the differences are."
    )
