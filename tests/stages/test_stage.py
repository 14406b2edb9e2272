"""Plans: the paper's iterations and solvers, seeds, scales, and every refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkd.base.cli import UserError
from hkd.networks import solvers
from hkd.paper import experiments, stated
from hkd.paper.settings import number_text
from hkd.stages.schedule import scaled_fraction
from hkd.stages.stage import lineage, planned

E = experiments.experiment("cifar10-r26-r14")


def plan(**options):
    return [(s.name, s.iterations) for s in lineage(planned(E, "layerwise", "kd", **options))]


def test_the_papers_iterations():
    assert plan() == [
        ("r26-teacher", 64_000),
        ("r26-r14-layerwise-hint1", 3_000),
        ("r26-r14-layerwise-hint2", 7_000),
        ("r26-r14-layerwise-hint3", 15_000),
        ("r26-r14-layerwise-kd-net1", 64_000),
    ]


def test_the_papers_solver():
    kd = planned(E, "layerwise", "kd").solver("n", "s", 10_000)
    assert (kd.base_lr, kd.momentum, kd.weight_decay) == pytest.approx((0.1, 0.9, 1e-4))
    assert (kd.lr_policy, list(kd.stepvalue), kd.gamma) == ("multistep", [32_000, 48_000], pytest.approx(0.1))
    assert kd.test_iter[0] * solvers.test_batch(10_000) == 10_000
    hint = planned(E, "layerwise", "hint", 2).solver("n", "s", 10_000)
    assert (hint.base_lr, hint.lr_policy, hint.max_iter) == (pytest.approx(1e-4), "fixed", 7_000)
    assert stated.TAU == 3 and stated.LAMBDA_KD == 5


def test_nets_share_the_hint_steps_and_differ_in_the_seed():
    nets = [planned(E, "layerwise", "kd", net=net) for net in (1, 2, 3)]
    assert len({s.random_seed for s in nets}) == len({s.name for s in nets}) == 3
    assert len({s.parents["student"] for s in nets}) == len({s.parents["teacher"] for s in nets}) == 1
    assert planned(E, "layerwise", "hint", 2, net=3) == planned(E, "layerwise", "hint", 2, net=1)


def test_every_stage_has_a_seed_of_its_own():
    seeds = [s.random_seed for m in ("kd", "layerwise") for s in lineage(planned(E, m, "kd"))]
    assert len(set(seeds)) == len({s.name for m in ("kd", "layerwise") for s in lineage(planned(E, m, "kd"))})
    assert planned(E, "kd", "kd", seed=2).random_seed != planned(E, "kd", "kd", seed=1).random_seed


@given(st.floats(1e-6, 1, exclude_min=True))
def test_a_scale_multiplies_every_count_and_keeps_the_order(scale):
    for stage in lineage(planned(E, "layerwise", "kd", scale=scale)):
        full = planned(E, stage.method, stage.kind, stage.part.step or None).iterations
        assert stage.iterations == max(1, round(full * scale))
        solver = stage.solver("n", "s", 10_000)
        assert list(solver.stepvalue) == sorted(set(solver.stepvalue)) and all(
            0 < s < stage.iterations for s in solver.stepvalue
        )
        assert 0 < solver.display <= stage.iterations and 0 < solver.test_interval <= stage.iterations
        assert 0.9 <= scaled_fraction(0.999, scale) <= 0.999
        if scale != 1:
            assert number_text(scale) in str(stage.group) and "NOT the paper's" in " ".join(stage.header())


@pytest.mark.parametrize("scale", [0, -1, 1.5, float("nan"), float("inf")])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(UserError, match="--scale"):
        plan(scale=scale)


@pytest.mark.parametrize("options", [{"net": 0}, {"net": 4}, {"seed": -1}, {"seed": 2**31}])
def test_nets_and_seeds_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=r"--net|--seed"):
        plan(**options)


@pytest.mark.parametrize(
    ("method", "kind", "step", "message"),
    [
        ("layerwise", "hint", 4, "steps 1 to 3"),
        ("layerwise", "kd", 1, "has no steps"),
        ("kd", "hint", 1, "has no stage hint"),
        ("layerwize", "kd", None, "did you mean layerwise"),
        ("", "teacher", 2, "has no steps"),
        ("layerwise", "baseline", None, "has no stage baseline"),
    ],
)
def test_stages_that_do_not_exist_are_refused(method, kind, step, message):
    with pytest.raises(UserError, match=message):
        planned(E, method, kind, step)


@given(st.integers(1, 100_000))
def test_a_test_sees_every_image_exactly_once(images):
    assert solvers.test_iter(images) * solvers.test_batch(images) == images
    assert 1 <= solvers.test_batch(images) <= 100
