"""How much of a spread is that of the nets and of the seeds: the analysis of variance, and its table."""

import numpy as np
import pytest
from scipy import stats

from conftest import MAKE, command
from hkd.results.variation import analysed
from run_folders import SHORT, as_if


def test_f_and_p_are_scipys():
    groups = [[1.0, 2.0, 4.0], [3.0, 5.0], [9.0, 7.0, 8.0, 8.5]]
    found, expected = analysed(groups), stats.f_oneway(*groups)
    assert (found.F, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_two_variances_are_those_that_made_the_numbers():
    rng = np.random.default_rng(5)
    found = [analysed((rng.normal(0, 2, (3, 1)) + rng.normal(0, 1, (3, 3))).tolist()) for _ in range(4000)]
    assert np.mean([one.inside for one in found]) == pytest.approx(1, rel=0.05)
    # What is below 0 is set to 0: a little more than 4.
    assert np.mean([one.between for one in found]) == pytest.approx(4, rel=0.1)


def test_groups_that_differ_by_no_more_than_their_nets_add_nothing():
    found = analysed([[1.0, 2.0, 3.0], [1.1, 2.0, 2.9]])
    assert found.between == 0 and found.share == 0 and found.p > 0.9


def test_without_any_spread_there_is_no_share():
    found = analysed([[2.0, 2.0], [2.0, 2.0]])
    assert (found.share, found.F, found.p) == (None, None, None)


@pytest.mark.parametrize("groups", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [3.0]]])
def test_one_seed_or_one_net_says_nothing(groups):
    assert analysed(groups) is None


def seeds_of_short_runs(folder, *seeds):
    """All of SHORT with the paper's settings for each (seed, engine, what is added to Pc)."""
    for seed, engine, more in seeds:
        for path in SHORT.iterdir():
            if "+" not in path.name:
                as_if(folder, path.name, seed, engine, add=more)


def test_the_table_of_three_seeds(tmp_path):
    folder = tmp_path / "measured"
    seeds_of_short_runs(folder, (1, "torch", 0.0), (2, "torch", 0.5), (3, "torch", -0.25))
    command(MAKE, "--measured", folder, check=0)
    lines = (folder / "variation.md").read_text().splitlines()
    (kd,) = (line for line in lines if "| KD without hints |" in line)
    nets = "98.44, 98.31, 98.25; 98.94, 98.81, 98.75; 98.19, 98.06, 98.00"
    assert kd.startswith(
        f"| mnist-r32-r8 | 0.015625 | KD without hints | torch | teacher | {nets} | 0.10 | 0.38 | 94% |"
    )
    shared = {line.split(" | ")[2]: line.split(" | ")[4] for line in lines if line.startswith("| mnist")}
    assert shared["student alone"] == "nothing" and shared["SL-ResNet"] == "stage 1"
    assert shared["layer-wise hints, then KD"] == "teacher and stage 1"


def test_seeds_of_two_engines_are_not_one_sample(tmp_path):
    folder = tmp_path / "measured"
    seeds_of_short_runs(folder, (1, "torch", 0.0), (2, "torch-bf16", 0.5))
    command(MAKE, "--measured", folder, check=0)
    assert "Nothing of it was run." in (folder / "variation.md").read_text()
