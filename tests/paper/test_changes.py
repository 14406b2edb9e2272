"""Settings that --set changes: what they may be, and which stages they reach."""

import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkd.base.cli import UserError
from hkd.paper import experiments, stated
from hkd.paper.changes import changed
from hkd.paper.experiment import settings
from hkd.paper.methods import METHODS
from hkd.paper.settings import setting_text
from hkd.stages import surgery
from hkd.stages.stage import lineage, planned

E = experiments.experiment("cifar10-r26-r14")


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
    other = experiments.experiment("cifar10-r26-r14", ["lambda_kd=3"])
    names = [s.name for s in lineage(planned(other, "layerwise", "kd"))]
    before = [s.name for s in lineage(planned(E, "layerwise", "kd"))[:-1]]
    assert names == [*before, "r26-r14-layerwise-kd-net1+lambda_kd=3"]
    other = experiments.experiment("cifar10-r26-r14", ["hint_lr=0.001"])
    names = [s.name for s in lineage(planned(other, "layerwise", "kd"))]
    assert names[0] == "r26-teacher" and all(name.endswith("+hint_lr=0.001") for name in names[1:])
    other = experiments.experiment("cifar10-r26-r14", ["shortcut=projection"])
    assert all(s.name.endswith("+shortcut=projection") for s in lineage(planned(other, "layerwise", "kd")))


@given(st.floats(1e-6, 1, exclude_max=True))
def test_a_folder_and_a_job_carry_a_number_to_its_last_digit(number):
    """Two scales never share a folder, and the training process gets the very setting that the driver has."""
    assert planned(E, "", "teacher", scale=number).group.name == f"scale{number!r}-seed1"
    other = replace(E, base_lr=number)
    (text,) = (setting_text(*item) for item in changed(other).items()) if number != 0.1 else ("base_lr=0.1",)
    assert experiments.experiment("cifar10-r26-r14", [text]) == other


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
        for key, rule in settings().items():
            other = experiments.experiment(name, [another(e, key, rule)])
            for stage in stages:
                with_it = replace(stage, experiment=other)
                checked += 1
                if (with_it.name != stage.name) != (made_from(with_it) != made_from(stage)):
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
    other = experiments.experiment("cifar10-r26-r14", ["kd.base_lr=0.05", "kd.stepvalue=9,19", "kd.max_iter=29"])
    stages = lineage(planned(other, "layerwise", "kd"))
    assert ["+" in s.name for s in stages] == [False, False, False, False, True]
    assert stages[-1].schedule == stated.Schedule(0.05, (9, 19), 29)
    assert stages[-1].name.endswith("+kd.base_lr=0.05+kd.stepvalue=9,19+kd.max_iter=29")
    assert planned(other, "baseline", "baseline").name == "r14-baseline-net1"


def test_the_old_names_reach_every_stage_that_they_did():
    other = experiments.experiment("cifar10-r26-r14", ["base_lr=0.05"])
    assert ["+base_lr=0.05" in s.name for s in lineage(planned(other, "kd", "kd"))] == [True, True]


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


class TestHintLayers:
    def modules(self, *changes):
        e = experiments.experiment("cifar10-r26-r14", changes)
        return e.hint_modules, e.guided_modules

    def test_the_ends_of_the_stacks_unless_told_otherwise(self):
        assert self.modules() == (((1, 4), (2, 4), (3, 4)), ((1, 2), (2, 2), (3, 2)))

    def test_any_block_can_be_named_and_an_end_has_one_name(self):
        assert self.modules("hint_layers=1.1,1.3,3.4", "guided_layers=1.1,1.2,3.end")[0] == ((1, 1), (1, 3), (3, 4))
        assert changed(experiments.experiment("cifar10-r26-r14", ["hint_layers=1.4,2.4,3.4"])) == {}

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
