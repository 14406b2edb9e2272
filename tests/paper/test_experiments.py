"""Experiments by name: those of the papers, any other pair, and every refusal."""

import pytest

from hkd.base.cli import UserError
from hkd.paper import experiments
from hkd.paper.datasets import DATASETS
from hkd.stages.stage import planned


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UserError, match="did you mean cifar10-r26-r14"):
        experiments.experiment("cifar10-r26-14")


def test_the_data_sets_of_the_experiments_are_known():
    assert {e.dataset for e in experiments.EXPERIMENTS.values()} <= set(DATASETS)


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
        said = lambda name: " ".join(experiments.notes(experiments.named(name)))  # noqa: E731
        assert "cifar100-r32w64-r14w64" in said("cifar100-r32-r14")
        for name in ("cifar100-r26-r8", "cifar100-r32w64-r14w64", "cifar10-r56-r20", "mnist-r14-r8"):
            assert said(name) == ""

    def test_a_student_deeper_than_its_teacher_is_said(self):
        (note,) = experiments.notes(experiments.named("cifar10-r14-r26"))
        assert "more layers than its teacher, 26 and 14" in note
        assert not [name for name in experiments.EXPERIMENTS if experiments.notes(experiments.named(name))]

    def test_a_teacher_alone_has_no_student_to_train(self):
        alone = experiments.named("cifar10-r14")
        assert planned(alone, "", "teacher").name == "r14-teacher"
        with pytest.raises(UserError, match="add a student, as cifar10-r14-r8"):
            planned(alone, "kd", "kd")
