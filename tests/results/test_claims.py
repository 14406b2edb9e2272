"""What the papers claim against what the records say."""

import statistics
import warnings

import pytest
from scipy import stats

from conftest import MAKE, command
from hkd.results import claims, significance, targets
from hkd.results.claims import Outcome
from hkd.results.lines import line_of, of_target
from hkd.results.runs import Runs
from hkd.results.views import View
from hkd.stages import records


def verdict(found, text):
    return next(v for v in found if v.claim.place + ": " + v.claim.text == text)


def test_what_was_measured_is_signed_as_the_claim(runs):
    found = claims.check([View(runs)])
    v = verdict(found, "table4: SL-ResNet > Hint-KD")  # of errors: the smaller one is better
    assert v.paired.mean == pytest.approx(v.measured) and v.paired.n == 3 and v.scales == (3e-05,)
    lines = {x.row.method: x for x in of_target(targets.TARGETS["table4"], runs)}
    sl, hint = lines["sl-resnet"].values(), lines["hint-kd"].values()
    assert v.measured == pytest.approx(statistics.mean(hint) - statistics.mean(sl))
    assert v.reported == pytest.approx(0.56 - 0.49667, abs=1e-4) and v.nets == (3, 3)
    kd = lines["kd"].values()
    for text, better, worse in (
        ("table4: SL-ResNet > Hint-KD", sl, hint),
        ("table3: Hint-KD > KD without hints", hint, kd),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where one of the two has no spread
            p = stats.ttest_ind(better, worse, equal_var=False, alternative="less").pvalue
        none = len({*better}) == len({*worse}) == 1
        assert verdict(found, text).p == (None if none else pytest.approx(p))


def test_hint_losses_are_compared_one_by_one(runs):
    folder = runs.folder / "cifar10/scale3e-05-seed1"
    concurrent = records.read_log(folder / "r26-r8-concurrent-hint+batch=8")[-1]
    own = records.read_log(folder / "r26-r8-layerwise-hint2+batch=8")[-1]
    (v,) = (v for v in claims.check([View(runs)]) if v.claim.pair == 2)
    assert v.measured == pytest.approx(concurrent["test_hint2"] - own["test_loss"]) and v.p is None


@pytest.mark.parametrize(
    ("measured", "p", "corrected", "outcome"),
    [
        (None, None, None, Outcome.NOT_RUN),
        (0.5, 0.01, 0.04, Outcome.HOLDS),
        (0.5, 0.01, 0.06, Outcome.BEFORE_CORRECTION),
        (0.5, 0.3, 0.6, Outcome.WITHIN_SPREAD),
        (0.5, None, None, Outcome.NO_TEST),
        (-0.5, 0.9, 1.0, Outcome.OTHER_ORDER),
        (0.0, None, None, Outcome.EQUAL),
    ],
)
def test_the_outcome(measured, p, corrected, outcome):
    assert claims.Verdict(claims.CLAIMS[0], None, measured, (3, 3), p, corrected).outcome is outcome


def test_the_claims_of_one_table_are_one_family_of_tests(runs):
    found = claims.check([View(runs)])
    for place in {v.claim.place for v in found}:
        same = [v for v in found if v.claim.place == place]
        assert [v.p_holm for v in same] == significance.holm([v.p for v in same]), place
    tested = [v for v in found if v.p is not None]
    assert tested and any(v.p_holm > v.p for v in tested)


def test_what_is_counted_below_is_what_stands_above(runs):
    found = claims.check([View(runs)])
    holds, run = (sum(f(v) for v in found) for f in (lambda v: v.outcome is Outcome.HOLDS, lambda v: v.run))
    below = " ".join(claims.sheet(found).foot)
    assert f"{len(found)} claims, {run} of them run, 0 at the paper's number" in below and f"; {holds} hold" in below


def test_where_the_papers_own_numbers_say_otherwise_it_shows():
    """Table 1: KD without hints ends below the student alone in the paper too."""
    row = targets.row("table1", "cifar10-r26-r14", "kd")
    assert row.reported_mean < targets.row("table1", "cifar10-r26-r14", "baseline").reported_mean


def test_the_command(paper_runs):
    done = command(MAKE, "--check", "--runs", paper_runs[0] / "runs", check=0)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    runs = Runs(paper_runs[0] / "runs")
    sides = [
        [targets.row(one.place, *side) for side in (one.better, one.worse)] for one in claims.CLAIMS if not one.pair
    ]
    not_run = [pair for pair in sides if not all(line_of(runs, row).done for row in pair)]
    assert len(rows) == len(claims.CLAIMS) and sum("not run" in row for row in rows) == len(not_run) > 0
    assert "| 3e-05 | batch=8, not the official images |" in done.stdout and "cannot give p below 0.125" in done.stdout
