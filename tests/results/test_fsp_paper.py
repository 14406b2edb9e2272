"""The FSP paper's own experiments: schedules and bookkeeping, names that never collide, FitNets and their falling weight, its
teachers, and every one of its methods trained."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import layers as L

from conftest import ROOT, RUN, command, one_line
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.engines import parallel
from hkd.networks import losses, prototxt, solvers
from hkd.paper import experiments, methods, stated
from hkd.stages import committed, finals, snapshots, surgery
from hkd.stages.stage import NETS, Stage, lineage, planned
from nets import ENGINES, build

FAST, SMALL = "cifar10-r26-r26-21k", "cifar10-r26-r8"


def stage(name, method, kind, changes=(), **options):
    return planned(experiments.experiment(name, changes), method, kind, **options)


class TestSchedules:
    def test_of_the_fast_optimisation(self):
        plan = [(s.name, s.schedule) for s in lineage(stage(FAST, "fsp", "finetune"))]
        assert plan == [
            ("r26-teacher", stated.Schedule(0.1, (32_000, 48_000), 64_000)),
            ("r26-r26-fsp", stated.Schedule(1e-3, (11_000, 16_000), 21_000)),
            ("r26-r26-21k-fsp-finetune-net1", stated.Schedule(0.1, (11_000, 16_000), 21_000)),
        ]
        assert stage(FAST, "baseline", "baseline").name == "r26-21k-baseline-net1"
        wide = lineage(stage("cifar100-r32-r32-noaug-21k", "fsp", "finetune"))
        assert [s.schedule.stepvalue for s in wide] == [(32_000, 48_000), (16_000, 24_000), (11_000, 16_000)]

    def test_of_small_networks(self):
        for name, first in ((SMALL, 21_000), ("cifar100-r32-r14-noaug", 32_000)):
            assert [s.iterations for s in lineage(stage(name, "fsp", "finetune"))] == [64_000, first, 64_000]

    @pytest.mark.parametrize("method", ["fitnet", "fitnet-3"])
    def test_of_fitnets(self, method):
        hints = stage(FAST, method, "hint")
        assert hints.schedule == stated.FITNET_SCHEDULE == stated.Schedule(1e-4, (25_000,), 35_000)
        assert hints.part.pairs == ((2,) if method == "fitnet" else (1, 2, 3))
        assert stage(FAST, method, "kd").schedule == stage(FAST, "fsp", "finetune").schedule
        assert stage(SMALL, method, "kd").iterations == 64_000

    def test_a_setting_changes_the_stages_that_it_reaches_alone(self):
        def changed(*change):
            found = lineage(stage(FAST, "fitnet", "kd", change))
            return [s.kind for s in found if "+" in s.name]

        assert changed("max_iter=1000") == ["kd"]  # the teacher has a schedule of its own
        assert changed("fitnet_iterations=100") == changed("fitnet_stepvalue=5,6") == ["hint", "kd"]
        assert changed("fitnet_lambda=2,0.5") == ["kd"]
        assert changed("augment=false") == ["teacher", "hint", "kd"]
        assert "fitnet_lambda=2,0.5" in stage(FAST, "fitnet", "kd", ["fitnet_lambda=2,0.5"]).name
        assert "+" not in stage(FAST, "fsp", "finetune", ["fitnet_lambda=2,0.5"]).name

    @pytest.mark.parametrize("value", ["4", "4,-1", "4,1,1", "four,1", "4,nan"])
    def test_a_weight_that_is_none_is_refused(self, value):
        with pytest.raises(UserError, match="fitnet_lambda"):
            experiments.experiment(FAST, [f"fitnet_lambda={value}"])


def every_stage():
    """Every stage of every method on every experiment, nets 1 to 3, that can be trained."""
    for e in experiments.EXPERIMENTS.values():
        for net in NETS:
            yield planned(e, "", "teacher", net=net)
        for method, parts in methods.METHODS.items():
            for part, net in itertools.product(parts, NETS):
                yield planned(e, method, part.kind, part.step or None, net=net)


@pytest.mark.slow
def test_no_two_stages_of_one_name_differ():
    """The same folder, whichever experiment asked for it: the same network, solver, and stages before it."""
    found, refused = {}, set()
    for one in dict.fromkeys(every_stage()):
        try:
            made = one.files("STAGE", "DATA", one.experiment.facts.test_images)
        except UserError as error:
            refused.add(str(error).split(":")[0])
            continue
        made["parents"] = {role: str(parent.folder("runs")) for role, parent in one.parents.items()}
        folder = one.folder("runs")
        assert found.setdefault(folder, made) == made, folder
        stem = committed.stage_files(Stage(one.experiment, one.method, one.part_index, min(one.net, 1), 1.0, 1))
        for path, text in stem.items():
            # A further teacher's files are not committed; they differ from the first's in the seed.
            if one.kind != "teacher" or one.net == 0:
                assert found.setdefault(path, text) == text, path
    assert len(found) > 500 and refused == set(experiments.EXPERIMENTS) - {
        "cifar10-r26-r26",
        FAST,
        "cifar100-r32-r32-noaug-21k",
    }


class TestTeachers:
    def test_nets_2_and_3_are_teachers_of_their_own_that_teach_nobody(self):
        nets = [stage(FAST, "", "teacher", net=net) for net in NETS]
        assert [s.name for s in nets] == ["r26-teacher", "r26-teacher-net2", "r26-teacher-net3"]
        assert len({s.random_seed for s in nets}) == 3
        for net in NETS:
            assert stage(FAST, "fsp", "finetune", net=net).parents["student"].parents["teacher"] == nets[0]

    def test_a_teacher_trained_on_starts_from_its_whole_self(self):
        last = stage(FAST, "continued", "finetune", net=2)
        assert last.name == "r26-21k-continued-finetune-net2" and last.parents == {
            "student": stage(FAST, "", "teacher")
        }
        sources, fresh = surgery.declared(last, lambda parent: Path(parent.name))
        assert [str(s.path) for s in sources] == ["r26-teacher/final.caffemodel"] and fresh == ()

    def test_it_cannot_be_trained_on_as_a_smaller_student(self):
        words = ("--experiment", "cifar10-r26-r14", "--method", "continued", "--stage", "finetune", "--dry-run")
        one_line(command(RUN, *words), "the same layers in both", "not r26 and r14")


def test_several_gpus_without_augmentation_are_refused():
    """Caffe's Data layer gives every process each image where it computes as in the TEST phase."""
    for name in (FAST, "mnist-r32-r8"):
        parallel.check_crops(experiments.experiment(name))
    parallel.check_crops(experiments.experiment("mnist-r32-r8", ["augment=false"]))
    with pytest.raises(UserError, match="--gpu N, or --set augment=true"):
        parallel.check_crops(experiments.experiment("cifar100-r32-r14-noaug"))


class TestFallingWeight:
    def net(self, tmp_path):
        n = caffe.NetSpec()
        for name in ("student", "teacher"):
            n[name] = L.Input(shape={"dim": [2, 4]})
        losses.soft_cross_entropy(n, "soft", n.student, n.teacher, 3.0, losses.Falling(4.0, 1.0, 60), 4)
        net = build(n, tmp_path)
        rng = np.random.default_rng(1)
        for name in ("student", "teacher"):
            net.blobs[name].data[...] = rng.normal(size=(2, 4))
        return net

    def test_value_and_gradient_fall_linearly(self, tmp_path):
        net = self.net(tmp_path)
        seen = []
        for _ in range(60):
            net.forward()
            net.backward()
            seen.append([float(net.blobs[x].data) for x in ("lambda", "soft", "soft/unweighted")])
            weight = seen[-1][0]
            target, made = (net.blobs[f"soft/{x}"].data for x in ("teacher", "student"))
            np.testing.assert_allclose(net.blobs["student"].diff, weight * (made - target) / (3 * 2), atol=1e-6)
        values, weighted, unweighted = np.array(seen).T
        np.testing.assert_allclose(values, 4 - 3 * np.arange(60) / 60, rtol=1e-6)
        np.testing.assert_allclose(weighted, values * unweighted, rtol=1e-6)
        assert unweighted.min() == unweighted.max() > 0

    def test_the_count_is_kept_with_the_weights(self, tmp_path):
        net = self.net(tmp_path)
        for _ in range(7):
            net.forward()
        net.save(str(tmp_path / "saved.caffemodel"))
        again = self.net(tmp_path)
        again.copy_from(str(tmp_path / "saved.caffemodel"))
        again.forward()
        assert float(again.blobs["lambda"].data) == pytest.approx(4 - 3 * 7 / 60)

    def test_the_papers_weight_stands_in_the_prototxt(self):
        for name, iterations in ((FAST, 21_000), (SMALL, 64_000)):
            found = {x.name: x for x in stage(name, "fitnet", "kd").network("D", 100).layer}
            p = found["lambda/line"].power_param
            assert (p.shift, p.shift + iterations * p.scale) == pytest.approx((4, 1))
            assert not found["soft/unweighted"].loss_weight and list(found["soft"].loss_weight) == [1]
            assert not prototxt.without_cuda(stage(name, "fitnet", "kd").network("D", 100))

    def test_multiplied_by_tau_squared_where_that_is_asked_for(self):
        found = {x.name: x for x in stage(FAST, "fitnet", "kd", ["kd_tau_squared=true"]).network("D", 100).layer}
        assert found["lambda/line"].power_param.shift == 36


# --- trained ------------------------------------------------------------------------------------------------------------------


def words_of(fashion, runs, *more):
    """Of stages of a few iterations, with rates at which a teacher of as few and pixels of 0 to 255 do not drive them to
    infinity."""
    rates = ("--set", "batch=16", "--set", "fsp_lr=1e-9", "--set", "hint_lr=1e-9")
    words = ("--experiment", "fashion-mnist-r14-r8", "--scale", 0.0005, *rates, "--data", fashion, "--runs", runs)
    return tuple(map(str, (*words, "--snapshot-seconds", 0, *more)))


def folder(runs, start):
    (found,) = (path.parent for path in Path(runs).rglob("record.json") if path.parent.name.partition("+")[0] == start)
    return found


@pytest.fixture(scope="module")
def fitnet(fashion, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    command(RUN, *words_of(fashion, runs, "--method", "fitnet"), check=0)
    return runs


class TestTrained:
    def blob(self, place, name, index):
        layer = next(x for x in surgery.read(place / "final.caffemodel").layer if x.name == name)
        return list(layer.blobs[index].data)

    def test_fitnet_has_counted_its_iterations_and_a_test_counts_none(self, fitnet):
        place = folder(fitnet, "r14-r8-fitnet-kd-net1")
        assert self.blob(place, "lambda/counter", 2) == self.blob(place, "lambda/iteration", 0) == [18]
        tests = [x for x in map(json.loads, (place / "log.jsonl").read_text().splitlines()) if "test_loss" in x]
        assert tests and tests[-1]["test_loss"] == pytest.approx(tests[-1]["test_hard"] + tests[-1]["test_soft"])

    def without_the_last_stage(self, fitnet, runs):
        """The stages before FitNet's KD copied to `runs`; returns (KD's folder there, the whole one)."""
        whole = folder(fitnet, "r14-r8-fitnet-kd-net1")
        for before in whole.parent.iterdir():
            if before != whole:
                shutil.copytree(before, runs / before.relative_to(fitnet))
        return runs / whole.relative_to(fitnet), whole

    def killed_after(self, iterations, place, words):
        process = subprocess.Popen([sys.executable, ROOT / RUN, *words], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while snapshots.iteration(place / "snapshots") < iterations:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()

    @pytest.mark.slow
    @pytest.mark.parametrize("engine", ENGINES)
    def test_killed_and_gone_on_with_it_ends_in_the_same_bytes(self, engine, fitnet, fashion, tmp_path):
        killed, whole = self.without_the_last_stage(fitnet, tmp_path / "killed")
        words = words_of(fashion, tmp_path / "killed", "--method", "fitnet", "--engine", engine)
        if engine == "torch":
            whole, _ = self.without_the_last_stage(fitnet, tmp_path / "whole")
            command(RUN, *words_of(fashion, tmp_path / "whole", "--method", "fitnet", "--engine", engine), check=0)
        for least in (3, 9):
            self.killed_after(least, killed, words)
        command(RUN, *words, check=0)
        assert json.loads((killed / "record.json").read_text())["sessions"] == 3
        for name in ("final.caffemodel", "log.jsonl"):
            assert sha256(killed / name) == sha256(whole / name), name

    @pytest.mark.parametrize("engine", ENGINES[1:])
    def test_begun_in_caffe_and_gone_on_with_elsewhere_it_counts_on(self, engine, fitnet, fashion, tmp_path):
        begun, _ = self.without_the_last_stage(fitnet, tmp_path)
        self.killed_after(5, begun, words_of(fashion, tmp_path, "--method", "fitnet"))
        command(RUN, *words_of(fashion, tmp_path, "--method", "fitnet", "--engine", engine), check=0)
        assert json.loads((begun / "record.json").read_text())["engine"] == f"caffe+{engine}"
        assert self.blob(begun, "lambda/counter", 2) == self.blob(begun, "lambda/iteration", 0) == [18]

    def test_a_stock_caffe_train_does_the_same(self, fitnet, tmp_path):
        place = folder(fitnet, "r14-r8-fitnet-kd-net1")
        solver = solvers.parse((place / "solver.prototxt").read_text())
        solver.net, solver.snapshot_prefix = str(place / "net.prototxt"), str(tmp_path / "x")
        (tmp_path / "solver.prototxt").write_text(solvers.text(solver, []))
        binary = Path(sys.executable).with_name("caffe")
        words = ("-solver", tmp_path / "solver.prototxt", "-weights", place / "init.caffemodel")
        subprocess.run([binary, "train", *words], cwd=ROOT, check=True, capture_output=True)
        # But for the folder of the images, which final.caffemodel does not name.
        theirs = finals.weights((tmp_path / f"x_iter_{solver.max_iter}.caffemodel").read_bytes(), "fashion-mnist")
        assert theirs == (place / "final.caffemodel").read_bytes()

    def test_fitnet_with_three_hints(self, fitnet, fashion):
        command(RUN, *words_of(fashion, fitnet, "--method", "fitnet-3"), check=0)
        losses_of = json.loads((folder(fitnet, "r14-r8-fitnet-3-hint") / "log.jsonl").read_text().splitlines()[0])
        assert {"hint1", "hint2", "hint3"} < set(losses_of)
        assert folder(fitnet, "r14-r8-fitnet-3-kd-net1")

    def test_the_teacher_trained_on_and_another_teacher(self, colour, tmp_path):
        """Both on the fast optimisation's own experiment, on colour images."""
        words = ("--experiment", FAST, "--data", colour, "--runs", tmp_path, "--scale", 0.00003, "--set", "batch=8")
        command(RUN, *words, "--method", "continued", "--stage", "finetune", check=0)
        command(RUN, *words, "--stage", "teacher", "--net", 2, check=0)
        teacher, other = folder(tmp_path, "r26-teacher"), folder(tmp_path, "r26-teacher-net2")
        assert sha256(teacher / "final.caffemodel") != sha256(other / "final.caffemodel")
        init = (folder(tmp_path, "r26-21k-continued-finetune-net1") / "init.txt").read_text()
        assert "copied   fc " in init and "filler" not in init and "dropped" not in init

    @pytest.mark.parametrize("method", ["baseline", "fsp"])
    def test_without_augmentation(self, method, colour, tmp_path):
        words = ("--experiment", "cifar10-r14-r8", "--data", colour, "--runs", tmp_path, "--scale", 0.00003)
        settings = ("--set", "batch=8", "--set", "augment=false", "--set", "fsp_lr=1e-9")
        kind = "baseline" if method == "baseline" else "finetune"
        command(RUN, *words, *settings, "--method", method, "--stage", kind, check=0)
        for place in (path.parent for path in tmp_path.rglob("record.json")):
            assert (
                "augment=false" in place.name
                and "  phase: TEST\n  transform_param" in (place / "net.prototxt").read_text()
            )
