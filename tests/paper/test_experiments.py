"""Experiments, settings and plans: the paper's numbers, names, seeds, and every refusal."""

import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkd.base.cli import UserError
from hkd.networks import solvers
from hkd.paper import experiments, stated
from hkd.paper.datasets import DATASETS
from hkd.paper.methods import METHODS
from hkd.paper.settings import number_text, setting_text
from hkd.stages import surgery
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lambda=3", "unknown setting 'lambda': did you mean lambda_kd"),
        ("lambda_kd", "expected setting=value"),
        ("lambda_kd=five", "expected a number, for example 5"),
        ("lambda_kd=-1", "0 or more"),
        ("tau=0", "more than 0"),
        ("tau=nan", "a finite number"),
        ("tau=1e39", "0.01 to 10000"),
        ("hard_tau=1e-3", "0.01 to 10000"),
        ("dynamic_tau=1e-46", "0.01 to 10000"),
        ("mirror=yes", "true or false"),
        ("shortcut=B", "A or projection"),
        ("batch=1.5", "a whole number"),
        ("batch=0", "1 or more"),
        ("stepvalue=5,3", "rising positive iterations"),
        ("hint_iterations=5,3", "three positive numbers"),
        ("momentum=1", "less than 1"),
        ("name=x", "unknown setting 'name'"),
    ],
)
def test_settings_that_are_wrong_are_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message):
        experiments.experiment("cifar10-r26-r14", [change])


def test_a_changed_setting_names_the_folders_of_the_stages_that_it_reaches_and_no_other():
    changed = experiments.experiment("cifar10-r26-r14", ["lambda_kd=3"])
    names = [s.name for s in lineage(planned(changed, "layerwise", "kd"))]
    assert names == [*(name for name, _ in plan()[:-1]), "r26-r14-layerwise-kd-net1+lambda_kd=3"]
    changed = experiments.experiment("cifar10-r26-r14", ["hint_lr=0.001"])
    names = [s.name for s in lineage(planned(changed, "layerwise", "kd"))]
    assert names[0] == "r26-teacher" and all(name.endswith("+hint_lr=0.001") for name in names[1:])
    changed = experiments.experiment("cifar10-r26-r14", ["shortcut=projection"])
    assert all(s.name.endswith("+shortcut=projection") for s in lineage(planned(changed, "layerwise", "kd")))


@given(st.floats(1e-6, 1, exclude_max=True))
def test_a_folder_and_a_job_carry_a_number_to_its_last_digit(number):
    """Two scales never share a folder, and the training process gets the very setting that the driver has."""
    assert planned(E, "", "teacher", scale=number).group.name == f"scale{number!r}-seed1"
    changed = experiments.replace(E, base_lr=number)
    (text,) = (
        (setting_text(*item) for item in experiments.changed(changed).items()) if number != 0.1 else ("base_lr=0.1",)
    )
    assert experiments.experiment("cifar10-r26-r14", [text]) == changed


OTHER = {
    int: lambda v: v + 1, float: lambda v: v / 2, bool: lambda v: not v, str: lambda v: v,
    tuple: lambda v: (*v[:-1], v[-1] + 1) if isinstance(v[-1], int) else (*v[:-1], v[-1] / 2),
}  # fmt: skip
WORDS = {
    "hint_layers": "1.end,2.1,3.end", "guided_layers": "1.end,2.1,3.end", "dynamic_hints": "soft,fsp", "bn_fraction": "0.9",
    "dynamic_batch": "50", "dynamic_mu": "0.5", "input_mean": "125.307,122.961,113.8575", "teacher_weights": "0123456789ab",
}  # fmt: skip


def another(e, key, rule):
    """A value of the setting that is not the experiment's, as --set takes it."""
    if key in WORDS:
        return f"{key}={WORDS[key]}"
    value = getattr(e, key.rpartition(".")[2])
    if rule["choices"]:
        return f"{key}={next(c for c in rule['choices'] if c != value)}"
    return setting_text(key, OTHER[type(value)](value))


def made_from(stage):
    """All that decides the weights of a stage and of those before it, but for images."""
    return [decides(each) for each in lineage(stage)]


@functools.cache
def decides(stage):
    """The same of one stage; of one that cannot be, why."""
    try:
        stage.check()
        files = stage.files("STAGE", "DATA", stage.experiment.facts.test_images)
    except UserError as refused:
        return str(refused)
    _, fresh = surgery.declared(stage, lambda parent: Path("RUNS"))
    return files, stage.beside, fresh, stage.random_seed, stage.given


def check_the_name_changes_with_what_it_is_made_from(name):
    e, wrong, checked = experiments.experiment(name), [], 0
    for method, parts in METHODS.items():
        stages = [planned(e, method, part.kind, part.step or None) for part in parts]
        for key, rule in experiments.settings().items():
            changed = experiments.experiment(name, [another(e, key, rule)])
            for stage in stages:
                other = replace(stage, experiment=changed)
                checked += 1
                if (other.name != stage.name) != (made_from(other) != made_from(stage)):
                    wrong.append((stage.name, key))
    assert not wrong and checked > 1000


def test_the_name_changes_if_and_only_if_what_it_is_made_from_changes():
    check_the_name_changes_with_what_it_is_made_from("cifar10-r14-r8")


@pytest.mark.slow
# Two widths, a teacher's schedule of its own, another data set's teacher: the ways in which experiments differ in kind.
@pytest.mark.parametrize("name", ["cifar10-r26w32-r14", "cifar10-r26-r26-21k", "cifar100-to-cifar10-r14-r8"])
def test_the_name_changes_with_what_it_is_made_from_on_other_experiments(name):
    check_the_name_changes_with_what_it_is_made_from(name)


@pytest.mark.parametrize(
    ("method", "kind", "change"),
    [
        ("fitnet", "hint", "fitnet_lambda=4,2"),
        ("hint-kd", "kd", "hint_iterations=9,9,9"),
        ("layerwise", "kd", "hint_kd_iterations=9"),
        ("fsp", "fsp", "flow_iterations=9,9,9"),
        ("sl-resnet", "grow", "base_lr=0.05"),
        ("layerwise", "hint", "kd.base_lr=0.05"),
        ("", "teacher", "lambda_kd=3"),
    ],
)
def test_a_setting_that_reaches_nothing_leaves_the_name(method, kind, change):
    e = experiments.experiment("cifar10-r14-r8", [change])
    assert planned(e, method, kind).name == planned(experiments.named("cifar10-r14-r8"), method, kind).name


def test_a_rate_of_kd_alone_does_not_train_the_teacher_again():
    changed = experiments.experiment("cifar10-r26-r14", ["kd.base_lr=0.05", "kd.stepvalue=9,19", "kd.max_iter=29"])
    stages = lineage(planned(changed, "layerwise", "kd"))
    assert ["+" in s.name for s in stages] == [False, False, False, False, True]
    assert stages[-1].schedule == stated.Schedule(0.05, (9, 19), 29)
    assert stages[-1].name.endswith("+kd.base_lr=0.05+kd.stepvalue=9,19+kd.max_iter=29")
    assert planned(changed, "baseline", "baseline").name == "r14-baseline-net1"


def test_the_old_names_reach_every_stage_that_they_did():
    changed = experiments.experiment("cifar10-r26-r14", ["base_lr=0.05"])
    assert ["+base_lr=0.05" in s.name for s in lineage(planned(changed, "kd", "kd"))] == [True, True]


@pytest.mark.parametrize(
    ("method", "kind", "changes", "said"),
    [
        ("kd", "kd", ["max_iter=1000"], "fall at iteration 32,000, and the last one is 1,000"),
        ("fsp", "fsp", ["fsp_iterations=9"], "fall at iteration 11,000, and the last one is 9"),
        ("dense-flow", "fsp", ["fsp_iterations=9"], "and the last one is 2,520"),
        ("kd", "kd", ["kd.stepvalue=70000"], "--set, for example kd.stepvalue=32000"),
        ("layerwise", "hint", ["hint.stepvalue=8,15000"], "and the last one is 3,000"),
    ],
)
def test_a_step_beyond_the_last_iteration_is_refused(method, kind, changes, said):
    with pytest.raises(UserError, match=re.escape(said)):
        [s.schedule for s in lineage(planned(experiments.experiment("cifar10-r14-r8", changes), method, kind))]


@pytest.mark.parametrize(
    ("method", "change", "own"),
    [("sl-resnet-kd", "lambda_kd=3", "sl_lambda_kd"), ("fitnet", "lambda_kd=3", "fitnet_lambda")],
)
def test_a_weight_that_the_method_does_not_have_is_refused_with_its_own(method, change, own):
    with pytest.raises(
        UserError, match=f"{change}: method {method} has a setting of its own for that: use --set {own}="
    ):
        planned(experiments.experiment("cifar10-r14-r8", [change]), method, "kd")


def test_setting_the_default_changes_nothing():
    same = experiments.experiment("cifar10-r26-r14", ["lambda_kd=5", "tau=3.0"])
    assert same == E


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match="did you mean cifar10-r26-r14"):
        experiments.experiment("cifar10-r26-14")


@given(st.integers(1, 100_000))
def test_a_test_sees_every_image_exactly_once(images):
    assert solvers.test_iter(images) * solvers.test_batch(images) == images
    assert 1 <= solvers.test_batch(images) <= 100


def test_the_data_sets_of_the_experiments_are_known():
    assert {e.dataset for e in experiments.EXPERIMENTS.values()} <= set(DATASETS)


class TestHintLayers:
    def modules(self, *changes):
        e = experiments.experiment("cifar10-r26-r14", changes)
        return e.hint_modules, e.guided_modules

    def test_the_ends_of_the_stacks_unless_told_otherwise(self):
        assert self.modules() == (((1, 4), (2, 4), (3, 4)), ((1, 2), (2, 2), (3, 2)))

    def test_any_block_can_be_named_and_an_end_has_one_name(self):
        assert self.modules("hint_layers=1.1,1.3,3.4", "guided_layers=1.1,1.2,3.end")[0] == ((1, 1), (1, 3), (3, 4))
        assert experiments.changed(experiments.experiment("cifar10-r26-r14", ["hint_layers=1.4,2.4,3.4"])) == {}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("hint_layers=1.2,2.9,3.4", "2.9: r26 has blocks 1 to 4"),
            ("guided_layers=1.1,2.1,3.3", "3.3: r14 has blocks 1 to 2"),
            ("hint_layers=1.2,1.2,3.1", "each above the one before"),
            ("hint_layers=2.1,1.1,3.1", "each above the one before"),
            ("hint_layers=1.1,1.3,3.4", "pair 2: maps of different stacks differ in size"),
            ("hint_layers=1.1,2.1", "three layers as stack.block"),
            ("hint_layers=0.1,2.1,3.1", "three layers as stack.block"),
            ("hint_layers=1,2,3", "three layers as stack.block"),
            ("hint_relu=during", "after or before"),
        ],
    )
    def test_what_is_no_layer_is_refused(self, change, message):
        with pytest.raises(UserError, match=re.escape(message)):
            self.modules(change)

    def test_they_reach_the_hints_and_what_follows_and_nothing_else(self):
        e = experiments.experiment("cifar10-r26-r14", ["hint_relu=before"])
        names = [s.name for s in lineage(planned(e, "layerwise", "kd"))]
        assert ["+hint_relu=before" in name for name in names] == [False, True, True, True, True]
        assert "+" not in planned(e, "kd", "kd").name


class TestAnyPair:
    """An experiment that no paper has, named by its data set and its two networks."""

    @pytest.mark.parametrize(
        ("name", "teacher", "student"),
        [
            ("cifar10-r56-r20", (56, 16), (20, 16)),
            ("cifar100-r32w64-r14w32", (32, 64), (14, 32)),
            ("mnist-r14-r8", (14, 16), (8, 16)),
        ],
    )
    def test_its_networks_and_the_settings_of_its_data_set(self, name, teacher, student):
        found = experiments.experiment(name, ["lambda_kd=3"])
        assert ((found.teacher.depth, found.teacher.width), (found.student.depth, found.student.width)) == (
            teacher,
            student,
        )
        assert found.max_iter == experiments.experiment(f"{found.dataset}-r8").max_iter and found.lambda_kd == 3
        assert found.regressed_pairs == ([1, 2, 3] if teacher[1] != student[1] else [])

    def test_its_stages_are_those_of_an_experiment_with_the_same_networks(self):
        one, other = experiments.experiment("cifar10-r26-r20"), experiments.experiment("cifar10-r26-r14")
        assert planned(one, "", "teacher").name == planned(other, "", "teacher").name
        named = experiments.experiment("cifar10-r14w16-r8")
        known = experiments.experiment("cifar10-r14-r8")
        for kind in ("baseline", "kd"):
            assert planned(named, kind, kind).name == planned(known, kind, kind).name

    def test_a_teacher_of_another_data_set(self):
        found = experiments.experiment("svhn-to-cifar10-r20-r8")
        assert (found.teacher_dataset, found.teacher.depth, found.pair) == ("svhn", 20, "svhn.r20-r8")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("cifar10-r21-r8", ["depth 21", "6n+2", "20, 26"]),
            ("cifar10-r20-r2", ["depth 2:"]),
            ("cifar10-r2000-r8", ["depth 2,000", "at most 1,202"]),
            ("cifar10-r20w5000-r8", ["width 5,000", "1,024"]),
            ("cifar10-r20w0-r8", ["width 0"]),
            ("cifar10-r14-r8-r8", ["unknown experiment 'cifar10-r14-r8-r8'", "did you mean cifar10-r14-r8"]),
            ("cifar11-r14-r8", ["unknown data set 'cifar11'", "did you mean cifar10?"]),
            (f"cifar10-r{20 * '9'}-r8", ["unknown experiment"]),
            ("", ["unknown experiment ''"]),
        ],
    )
    def test_a_name_that_cannot_be(self, name, words):
        with pytest.raises(UserError) as refused:
            experiments.experiment(name)
        assert all(word in str(refused.value) for word in words)


class TestNamesOfPairs:
    @pytest.mark.parametrize(
        ("name", "same"),
        [
            ("cifar10-r014-r8", "cifar10-r14-r8"),
            ("cifar10-r26w16-r14w016", "cifar10-r26-r14"),
            ("cifar10-r56w16-r020", "cifar10-r56-r20"),
            ("cifar100-to-cifar10-r14w16-r8", "cifar100-to-cifar10-r14-r8"),
        ],
    )
    def test_one_pair_has_one_name(self, name, same):
        """In records too, by which tables find them."""
        assert experiments.named(name) == experiments.named(same) and experiments.named(name).name == same

    def test_a_width_that_is_named_is_kept_where_the_papers_pair_has_another(self):
        narrow, paper = experiments.named("cifar100-r26w16-r8w16"), experiments.named("cifar100-r26-r8")
        assert (narrow.teacher.width, paper.teacher.width) == (16, 64)
        assert experiments.named(narrow.name) == narrow

    def test_a_pair_narrower_than_all_known_ones_is_said(self):
        said = lambda name: experiments.width_note(experiments.named(name))  # noqa: E731
        assert "cifar100-r32w64-r14w64" in said("cifar100-r32-r14")
        for name in ("cifar100-r26-r8", "cifar100-r32w64-r14w64", "cifar10-r56-r20", "mnist-r14-r8"):
            assert said(name) == ""

    def test_a_teacher_alone_has_no_student_to_train(self):
        alone = experiments.named("cifar10-r14")
        assert planned(alone, "", "teacher").name == "r14-teacher"
        with pytest.raises(UserError, match="add a student, as cifar10-r14-r8"):
            planned(alone, "kd", "kd")
