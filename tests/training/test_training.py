"""Stages trained for real: Caffe, LMDBs of real images, processes, signals, through the command line."""

import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import EXPERIMENT, ROOT, RUN, SCALE, command, group, one_line, run_stage
from drivers import CHAIN, blobs, log, record
from hkd.base.files import sha256
from hkd.base.locks import only_one
from hkd.networks import prototxt, solvers
from hkd.paper import contents, datasets, experiments
from hkd.stages import surgery
from hkd.stages.stage import lineage, planned


class TestTheChain:
    def test_the_plan_comes_first_and_every_stage_ends(self, chain):
        folder, said = chain
        plan = [line.split() for line in said.splitlines() if " iterations   lr " in line]
        assert [(words[0], words[1]) for words in plan] == list(zip(CHAIN, ["18", "2", "4", "8", "18"], strict=True))
        for name in CHAIN:
            kept = {p.name for p in (folder / name).iterdir()}
            assert {
                "net.prototxt",
                "solver.prototxt",
                "init.caffemodel",
                "final.caffemodel",
                "record.json",
                "caffe.log",
            } <= kept
            assert "snapshots" not in kept

    @pytest.mark.parametrize("name", CHAIN[1:])
    def test_the_teacher_is_byte_identical_after_the_stage(self, chain, name):
        folder, _ = chain
        before, after = blobs(folder / "r14w4-teacher/final.caffemodel"), blobs(folder / name / "final.caffemodel")
        inside = {k.removeprefix("teacher/"): v for k, v in after.items() if k.startswith("teacher/")}
        assert inside
        for layer, arrays in inside.items():
            assert [a.tobytes() for a in arrays] == [b.tobytes() for b in before[layer]], layer

    @pytest.mark.parametrize("name", CHAIN[1:])
    def test_every_layer_of_the_student_is_trained_and_its_statistics_change(self, chain, name):
        folder, _ = chain
        before, after = blobs(folder / name / "init.caffemodel"), blobs(folder / name / "final.caffemodel")
        own = [layer for layer in before if not layer.startswith("teacher/")]
        for layer in own:
            assert not all(np.array_equal(a, b) for a, b in zip(before[layer], after[layer], strict=True)), layer
        for layer in (x for x in after if x.split("/")[-1].startswith("bn") and not x.startswith("teacher/")):
            assert after[layer][2] > 0 and after[layer][1].any()

    def test_each_step_starts_from_the_one_before(self, chain):
        folder, _ = chain
        for earlier, later in itertools.pairwise(CHAIN[1:]):
            trained, start = blobs(folder / earlier / "final.caffemodel"), blobs(folder / later / "init.caffemodel")
            own = {k for k in trained if not k.startswith("teacher/")}
            assert own and own == {k for k in start if not k.startswith("teacher/")}
            for layer in own:
                assert all(np.array_equal(a, b) for a, b in zip(trained[layer], start[layer], strict=True)), layer

    def test_the_record_names_all_that_decided_the_result(self, chain):
        folder, _ = chain
        kd = record(folder / CHAIN[-1])
        assert (kd["scale"], kd["iterations"], kd["net"], kd["seed"]) == (SCALE, 18, 1, 1)
        assert 0 <= kd["Pc"]["last"] <= kd["Pc"]["best"] <= 100
        assert kd["settings"]["lambda_kd"] == 5 and kd["settings"]["tau"] == 3
        assert kd["versions"]["caffe"]["source"].startswith("BVLC/caffe@9b89154")
        assert kd["digests"]["final.caffemodel"] == sha256(folder / CHAIN[-1] / "final.caffemodel")
        assert kd["device"].startswith("CPU") and kd["seconds"] > 0 and not kd["official_data"]
        hint = record(folder / CHAIN[1])
        assert hint["Pc"] is None and hint["test_loss"] > 0 and hint["net"] is None

    def test_the_log_has_every_loss_and_they_add_up(self, chain):
        folder, _ = chain
        lines = log(folder / CHAIN[-1])
        trained = [x for x in lines if "lr" in x]
        assert [x["iteration"] for x in trained] == [10, 18]
        for line in trained:
            assert line["loss"] == pytest.approx(line["hard"] + 5 * line["soft"], rel=1e-6)
        assert [x["lr"] for x in trained] == pytest.approx([0.01, 0.001])  # divided at 9 and at 14 of 18
        (test,) = [x for x in lines if "Pc" in x]
        assert test["test_loss"] == pytest.approx(test["test_hard"] + 5 * test["test_soft"], rel=1e-6)

    def test_the_accuracy_is_that_of_the_deploy_network_image_by_image(self, chain, fashion, tmp_path):
        import caffe

        from hkd.networks import deploy
        from lmdbs import read_lmdb

        e = experiments.experiment(EXPERIMENT)
        path = tmp_path / "deploy.prototxt"
        path.write_text(prototxt.text(deploy.network(e, e.student), []))
        net = caffe.Net(str(path), str(chain[0] / CHAIN[-1] / "final.caffemodel"), caffe.TEST)
        images, labels = read_lmdb(fashion / "test_lmdb")
        net.blobs["data"].reshape(*images.shape)
        net.blobs["data"].data[...] = images
        right = (net.forward()["prob"].argmax(axis=1) == labels).sum()
        assert record(chain[0] / CHAIN[-1])["Pc"]["last"] == pytest.approx(100 * right / len(labels))

    def test_a_second_command_uses_everything_again(self, chain, fashion):
        folder, _ = chain
        before = {name: (folder / name / "record.json").stat().st_mtime_ns for name in CHAIN}
        done = run_stage(fashion, folder.parent.parent, "--stage", "kd", check=0)
        assert done.stdout.count("finished, used again") == 5
        assert before == {name: (folder / name / "record.json").stat().st_mtime_ns for name in CHAIN}

    def test_net_2_shares_the_hints_and_ends_elsewhere(self, copy, fashion):
        done = run_stage(fashion, copy, "--stage", "kd", "--net", 2, check=0)
        assert done.stdout.count("finished, used again") == 4
        one, two = (blobs(group(copy) / f"r14w4-r8w4-layerwise-kd-net{k}/final.caffemodel") for k in (1, 2))
        assert not np.array_equal(one["fc"][0], two["fc"][0])

    def test_all_nets_one_after_another_end_as_each_alone(self, copy, fashion):
        done = run_stage(fashion, copy, "--stage", "kd", "--net", "all", check=0)
        nets = [group(copy) / f"r14w4-r8w4-layerwise-kd-net{k}" for k in (1, 2, 3)]
        assert done.stdout.count("layerwise-kd-net1: Pc") == done.stdout.count("layerwise-kd-net3: Pc") == 1
        together = [sha256(folder / "final.caffemodel") for folder in nets]
        assert len(set(together)) == 3
        shutil.rmtree(nets[1])
        run_stage(fashion, copy, "--stage", "kd", "--net", 2, check=0)
        assert sha256(nets[1] / "final.caffemodel") == together[1]

    def test_the_same_command_elsewhere_ends_in_the_same_bytes(self, chain, fashion, tmp_path):
        """Another folder, and one thread in place of two."""
        run_stage(fashion, tmp_path / "other", "--stage", "hint", "--step", 2, "--threads", 1, check=0)
        for name in CHAIN[:3]:
            assert sha256(group(tmp_path / "other") / name / "final.caffemodel") == sha256(
                chain[0] / name / "final.caffemodel"
            )

    def test_the_status(self, copy, fashion):
        shutil.rmtree(group(copy) / CHAIN[-1])
        done = command(RUN, "--status", "--runs", copy, check=0)
        for name in CHAIN[:-1]:
            assert name in done.stdout
        assert done.stdout.count("finished") == 4 and "scale0.0005-seed1" in done.stdout
        assert "no stage" in command(RUN, "--status", "--runs", copy / "none", check=0).stdout

    def test_a_moved_runs_folder_is_still_good(self, copy, fashion, tmp_path):
        copy.rename(tmp_path / "moved")
        assert (
            run_stage(fashion, tmp_path / "moved", "--stage", "kd", check=0).stdout.count("finished, used again") == 5
        )

    def test_stock_caffe_trains_the_three_files_to_the_same_bytes(self, chain, tmp_path):
        """`caffe train -solver ... -weights ...`, without a line of ours."""
        stage = chain[0] / CHAIN[2]
        text = (stage / "solver.prototxt").read_text().replace(str(stage / "caffe"), str(tmp_path / "stock"))
        (tmp_path / "solver.prototxt").write_text(text)
        caffe = Path(sys.executable).with_name("caffe")
        arguments = [caffe, "train", "-solver", tmp_path / "solver.prototxt", "-weights", stage / "init.caffemodel"]
        subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
        ours, theirs = blobs(stage / "final.caffemodel"), blobs(tmp_path / "stock_iter_4.caffemodel")
        assert ours.keys() == theirs.keys()
        for layer in ours:
            assert [a.tobytes() for a in ours[layer]] == [a.tobytes() for a in theirs[layer]], layer

    def test_the_final_files_name_no_folder(self, chain, fashion, tmp_path):
        """Other folders of data and runs, one of them by a path from the checkout: the same bytes of weights and of state."""
        data, runs = shutil.copytree(fashion, tmp_path / "elsewhere/data"), tmp_path / "r"
        relative = Path(os.path.relpath(data, ROOT))
        run_stage(relative, runs, "--stage", "teacher", check=0)
        for name in ("final.caffemodel", "final.solverstate"):
            ours, theirs = (folder / CHAIN[0] / name for folder in (chain[0], group(runs)))
            assert ours.read_bytes() == theirs.read_bytes(), name
        committed = {
            line.strip() for line in (ROOT / "prototxt/fashion-mnist/r14-teacher-36k.prototxt").read_text().splitlines()
        }
        network = surgery.read(chain[0] / CHAIN[0] / "final.caffemodel")
        sources = [layer.data_param.source for layer in network.layer if layer.type == "Data"]
        assert sources and all(f'source: "{source}"' in committed for source in sources)

    def test_stock_caffe_goes_on_from_the_final_state(self, chain, tmp_path):
        """`caffe train -snapshot` in the stage's folder, and pycaffe there: both find the weights, and train alike."""
        stage = shutil.copytree(chain[0] / CHAIN[0], tmp_path / "stage")
        solver = solvers.parse((stage / "solver.prototxt").read_text())
        assert Path(solver.net).is_absolute()  # as everywhere where the runs lie outside the checkout
        solver.net, solver.max_iter, solver.snapshot_prefix = "net.prototxt", 20, "further"
        (stage / "further.prototxt").write_text(solvers.text(solver, []))
        words = [Path(sys.executable).with_name("caffe"), "train", "-solver", "further.prototxt"]
        words += ["-snapshot", "final.solverstate"]
        subprocess.run(words, cwd=stage, check=True, capture_output=True)
        script = "import caffe; s = caffe.get_solver('further.prototxt'); s.restore('final.solverstate'); "
        script += "assert s.iter == 18; s.net.save('restored.caffemodel')"
        subprocess.run([sys.executable, "-c", script], cwd=stage, check=True, capture_output=True)
        assert all(
            [a.tobytes() for a in arrays] == [b.tobytes() for b in blobs(stage / "restored.caffemodel")[layer]]
            for layer, arrays in blobs(stage / "final.caffemodel").items()
        )
        assert (stage / "further_iter_20.caffemodel").exists()

    def test_prepare_writes_the_three_files_and_trains_nothing(self, copy, fashion, tmp_path):
        """And says how anyone's Caffe trains it, in a command for any folder."""
        shutil.rmtree(group(copy) / CHAIN[-1])
        done = run_stage(fashion, copy, "--stage", "kd", "--prepare", check=0)
        kept = {p.name for p in (group(copy) / CHAIN[-1]).iterdir()}
        assert {"net.prototxt", "solver.prototxt", "init.caffemodel"} <= kept and "final.caffemodel" not in kept
        command_line = done.stdout.splitlines()[-1].removeprefix("ready: ")
        assert command_line.startswith(f"cd {ROOT} && ") and "caffe train -solver" in command_line
        subprocess.run(["sh", "-c", command_line], cwd=tmp_path, check=True, capture_output=True)
        assert (group(copy) / CHAIN[-1] / "caffe_iter_18.caffemodel").exists()
        run_stage(fashion, copy, "--stage", "kd", check=0)

    def test_verbose_shows_caffes_own_log(self, fashion, tmp_path):
        env = {"GLOG_minloglevel": "0"}
        done = run_stage(fashion, tmp_path, "--stage", "baseline", "--set", "batch=8", "-v", env=env, check=0)
        assert "Creating training net" in done.stderr
        assert "Creating training net" in (group(tmp_path) / "r8w4-baseline-net1+batch=8/caffe.log").read_text()


class TestSettings:
    def test_projection_shortcuts_go_through_the_hint_steps(self, fashion, tmp_path):
        run_stage(fashion, tmp_path, "--stage", "hint", "--step", 2, "--set", "shortcut=projection", check=0)
        start = blobs(group(tmp_path) / "r14w4-r8w4-layerwise-hint2+shortcut=projection/init.caffemodel")
        final = blobs(group(tmp_path) / "r14w4-r8w4-layerwise-hint2+shortcut=projection/final.caffemodel")
        assert "teacher/stack2/block1/projection" in start and "stack2/block1/projection" not in start
        assert final["stack2/block1/projection"][0].size == 8 * 4

    def test_the_named_variants_of_equation_2(self, copy, fashion):
        for changes, weight in ((["kd_tau_squared=true"], 45), (["hard_tau=3", "lambda_kd=4"], 4)):
            done = run_stage(fashion, copy, "--stage", "kd", *(x for c in changes for x in ("--set", c)), check=0)
            assert done.stdout.count("finished, used again") == 4
            (folder,) = (p for p in group(copy).iterdir() if set(p.name.split("+")[1:]) == set(changes))
            line = log(folder)[0]
            assert line["loss"] == pytest.approx(line["hard"] + weight * line["soft"], rel=1e-6)


class TestOtherMethods:
    """Each method of the paper from the chain's teacher to its end."""

    def run(self, data, runs, method, kind="kd", *more):
        return run_stage(data, runs, "--method", method, "--stage", kind, *more, check=0)

    @pytest.mark.parametrize(("method", "last_stack"), [("hint-kd", 2), ("hint-kd-plus", 3)])
    def test_hints_from_one_pair(self, copy, fashion, method, last_stack):
        self.run(fashion, copy, method)
        hint, kd = (
            group(copy) / f"r14w4-r8w4-{name}"
            for name in (f"{method}-hint", f"{method}{'-kd' * (last_stack > 2)}-net1")
        )
        assert record(hint)["iterations"] == 12 and record(hint)["Pc"] is None  # 25,000 x 0.0005
        trained, start = blobs(hint / "final.caffemodel"), blobs(kd / "init.caffemodel")
        own = {name for name in trained if not name.startswith("teacher/")}
        assert own == {name for name in start if not name.startswith("teacher/")}
        assert any(name.startswith(f"stack{last_stack}/") for name in own)
        assert not any(name.startswith((f"stack{last_stack + 1}/", "fc")) for name in own)
        assert record(kd)["Pc"]["last"] >= 0

    def test_hint_layers_inside_the_stacks(self, copy, fashion):
        """H2 in the first block of the teacher's stack 2, before the ReLU: trained, handed on, and nothing is lost."""
        changes = ("--set", "hint_layers=1.1,2.1,3.2", "--set", "hint_relu=before")
        run_stage(fashion, copy, "--method", "layerwise", "--stage", "kd", *changes, check=0)
        suffix = "+hint_layers=1.1,2.1,3.end+hint_relu=before"
        step2 = group(copy) / f"r14w4-r8w4-layerwise-hint2{suffix}"
        dropped = [
            line.split()[1] for line in (step2 / "init.txt").read_text().splitlines() if line.startswith("dropped")
        ]
        assert "stack2/block2/conv1" in dropped and "stack2/block1/conv1" not in dropped
        trained = blobs(step2 / "final.caffemodel")
        after = blobs(group(copy) / f"r14w4-r8w4-layerwise-hint3{suffix}" / "init.caffemodel")
        for name in (name for name in trained if not name.startswith("teacher/")):
            assert all(np.array_equal(a, b) for a, b in zip(trained[name], after[name], strict=True)), name

    def test_concurrent_hints_are_logged_apart_and_add_up_to_their_mean(self, copy, fashion):
        self.run(fashion, copy, "concurrent")
        line = log(group(copy) / "r14w4-r8w4-concurrent-hint")[0]
        assert line["loss"] == pytest.approx((line["hint1"] + line["hint2"] + line["hint3"]) / 3, rel=1e-5)

    def test_sl_resnet_grows_and_both_its_ends_share_the_steps(self, copy, fashion):
        self.run(fashion, copy, "sl-resnet", "finetune")
        done = self.run(fashion, copy, "sl-resnet-kd")
        assert done.stdout.count("finished, used again") == 4  # the teacher and three growing networks
        steps = [group(copy) / f"r8w4-sl-resnet-grow{i}" for i in (1, 2, 3)]
        for i, step in enumerate(steps, start=1):
            stacks = {name.split("/")[0] for name in blobs(step / "final.caffemodel") if "/" in name}
            assert stacks == {f"stack{k}" for k in range(1, i + 1)}
            assert record(step)["iterations"] == 4 and record(step)["Pc"]
        grown = blobs(steps[2] / "final.caffemodel")
        for end in ("r8w4-sl-resnet-finetune-net1", "r14w4-r8w4-sl-resnet-kd-net1"):
            init = blobs(group(copy) / end / "init.caffemodel")
            learned = {name for name in init if not name.startswith("teacher/")}
            assert learned == {*grown} - {"fc"}  # left to its filler
            assert all(np.array_equal(init[name][0], grown[name][0]) for name in learned)

    def test_with_the_grown_networks_classifier_sl_resnet_starts_from_all_of_it(self, copy, fashion):
        self.run(fashion, copy, "sl-resnet", "finetune", "--set", "sl_fc=kept")
        grown, init = (
            blobs(group(copy) / name)
            for name in (
                "r8w4-sl-resnet-grow3/final.caffemodel",
                "r8w4-sl-resnet-finetune-net1+sl_fc=kept/init.caffemodel",
            )
        )
        assert {*init} == {*grown} and np.array_equal(init["fc"][0], grown["fc"][0])

    def test_regressors_for_a_wider_teacher(self, colour, tmp_path):
        arguments = ["--experiment", "cifar10-r14w8-r8w4", "--data", colour, "--runs", tmp_path, "--scale", "0.00005"]
        command(RUN, *arguments, "--set", "batch=8", "--stage", "kd", check=0)
        folder = tmp_path / "cifar10/scale5e-05-seed1"
        for i in (1, 2, 3):
            final = blobs(folder / f"r14w8-r8w4-layerwise-hint{i}+batch=8/final.caffemodel")
            assert [name for name in final if name.startswith("regressor")] == [f"regressor{i}"]
        assert not [
            n for n in blobs(folder / "r14w8-r8w4-layerwise-kd-net1+batch=8/final.caffemodel") if n.startswith("regr")
        ]


class TestWhatDependsOnWhat:
    def test_a_teacher_trained_again_to_the_same_bytes_leaves_its_students_as_they_are(self, copy, fashion):
        shutil.rmtree(group(copy) / "r14w4-teacher")
        done = run_stage(fashion, copy, "--stage", "hint", "--step", 1, check=0)
        assert "r14w4-teacher: 18 iterations" in done.stdout and "r14w4-r8w4-layerwise-hint1: 2" not in done.stdout

    def test_other_images_make_every_stage_new(self, copy, fashion_source, tmp_path):
        other = tmp_path / "lmdb"
        build = ["--dataset", "fashion-mnist", "--source", fashion_source, "--seed", "9", "--out", other]
        command("data_tools/make_lmdb.py", *build, check=0)
        old = sha256(group(copy) / "r14w4-teacher/final.caffemodel")
        done = run_stage(other, copy, "--stage", "teacher", check=0)
        assert "changed since: to train again" in done.stdout and "kept as r14w4-teacher.before-1" in done.stdout
        assert sha256(group(copy) / "r14w4-teacher.before-1/final.caffemodel") == old
        assert sha256(group(copy) / "r14w4-teacher/final.caffemodel") != old

    def test_several_drivers_at_once_set_a_changed_stage_aside_once(self, copy, fashion_source, tmp_path):
        """Each finds the chain made from other images: one trains it anew, the others wait for it and use it."""
        other = tmp_path / "lmdb"
        build = ["--dataset", "fashion-mnist", "--source", fashion_source, "--seed", "9", "--out", other]
        command("data_tools/make_lmdb.py", *build, check=0)
        words = ["--experiment", EXPERIMENT, "--data", other, "--runs", copy, "--scale", SCALE]
        words += ["--stage", "hint", "--step", "1", "--wait", "--threads", "1"]
        drivers = [
            subprocess.Popen(
                [sys.executable, ROOT / RUN, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        said = [driver.communicate() for driver in drivers]
        assert [driver.returncode for driver in drivers] == [0] * 4, said
        kept = sorted(path.name for path in group(copy).iterdir() if "before" in path.name)
        assert kept == sorted(f"{name}.before-1" for name in CHAIN[:2])
        for name in CHAIN[:2]:
            assert sum(f"kept as {name}.before-1" in out for out, _ in said) == 1
            assert record(group(copy) / name)["sessions"] == 1
            assert not (group(copy) / name / ".owner").exists()
            assert not [p for p in (group(copy) / f"{name}.before-1").iterdir() if p.name in (".lock", ".owner")]
        run_stage(other, copy, "--stage", "hint", "--step", 1, check=0)

    def test_waiting_for_a_changed_stage_takes_wait(self, copy, fashion_source, tmp_path):
        """Somebody else holds the lock of the stage that is to be set aside."""
        other = tmp_path / "lmdb"
        build = ["--dataset", "fashion-mnist", "--source", fashion_source, "--seed", "9", "--out", other]
        command("data_tools/make_lmdb.py", *build, check=0)
        words = ["--experiment", EXPERIMENT, "--data", other, "--runs", copy, "--scale", SCALE, "--stage", "teacher"]
        with only_one(group(copy) / CHAIN[0]):
            one_line(command(RUN, *words), "is being trained by", "--wait")
            waiting = subprocess.Popen(
                [sys.executable, ROOT / RUN, *map(str, words), "--wait"], stdout=subprocess.PIPE, text=True
            )
            assert next(line for line in waiting.stdout if "is being trained by" in line).rstrip().endswith("waiting")
        assert "kept as" in waiting.communicate()[0] and waiting.returncode == 0

    def test_another_scale_or_seed_is_another_folder(self, fashion, tmp_path):
        for more in (["--scale", "0.0002"], ["--seed", "2"]):
            run_stage(fashion, tmp_path, "--stage", "baseline", *more, check=0)
        found = sorted(p.name for p in (tmp_path / "fashion-mnist").iterdir())
        assert found == ["scale0.0002-seed1", "scale0.0005-seed2"]


class TestEdited:
    @pytest.mark.parametrize("name", ["solver.prototxt", "net.prototxt", "init.caffemodel"])
    def test_a_file_edited_by_hand_is_refused(self, copy, fashion, name):
        path = group(copy) / CHAIN[1] / name
        path.write_bytes(path.read_bytes() + b"\n")
        one_line(run_stage(fashion, copy, "--stage", "kd"), name, "edited by hand", "--set")

    def test_an_edited_record_is_refused(self, copy, fashion):
        path = group(copy) / CHAIN[-1] / "record.json"
        path.write_text(path.read_text().replace('"last"', '"last" ').replace('"seed": 1', '"seed": 7'))
        one_line(run_stage(fashion, copy, "--stage", "kd"), "record.json", "edited or damaged")

    @pytest.mark.parametrize("name", ["stage.json", "record.json"])
    def test_a_record_that_is_no_json_is_refused(self, copy, fashion, name):
        (group(copy) / CHAIN[0] / name).write_text("{torn")
        one_line(run_stage(fashion, copy, "--stage", "kd"), name, "damaged")

    def test_foreign_or_torn_weights_are_refused(self, copy, fashion):
        path = group(copy) / CHAIN[0] / "final.caffemodel"
        path.write_bytes(path.read_bytes()[:-1000])
        one_line(run_stage(fashion, copy, "--stage", "kd"), "final.caffemodel", "not the file that its record names")

    def test_a_committed_file_edited_by_hand_is_refused(self, fashion, tmp_path):
        """In a copy of the checkout: an edit there would be ignored, so it is an error."""
        here = tmp_path / "checkout"
        for name in ("python", "data_tools", "prototxt", "solvers"):
            shutil.copytree(ROOT / name, here / name)
        solver = here / "solvers/fashion-mnist/r14-teacher-36k.prototxt"
        solver.write_text(solver.read_text().replace("base_lr: 0.1", "base_lr: 0.2"))
        arguments = ["--experiment", "fashion-mnist-r14-r8", "--stage", "teacher", "--data", str(fashion), "--dry-run"]
        done = subprocess.run([sys.executable, here / RUN, *arguments], capture_output=True, text=True, cwd=here)
        one_line(done, "solvers/fashion-mnist/r14-teacher-36k.prototxt", "edited by hand")


class TestWhatIsNotOurs:
    @pytest.mark.parametrize("name", ["final.caffemodel", "init.caffemodel", "record.json", "snapshots"])
    def test_what_lies_in_a_folder_without_stage_json_is_not_overwritten(self, chain, fashion, tmp_path, name):
        folder = group(tmp_path) / CHAIN[0]
        folder.mkdir(parents=True)
        (folder / name).mkdir() if name == "snapshots" else shutil.copy(chain[0] / CHAIN[0] / name, folder)
        before = {path.name for path in folder.iterdir()}
        one_line(run_stage(fashion, tmp_path, "--stage", "teacher"), folder / name, "move it elsewhere")
        assert {path.name for path in folder.iterdir()} == before

    def test_nor_are_weights_beside_a_prepared_stage(self, chain, fashion, tmp_path):
        run_stage(fashion, tmp_path, "--stage", "teacher", "--prepare", check=0)
        foreign = group(tmp_path) / CHAIN[0] / "final.caffemodel"
        shutil.copy(chain[0] / CHAIN[1] / "final.caffemodel", foreign)
        before = sha256(foreign)
        one_line(run_stage(fashion, tmp_path, "--stage", "teacher"), foreign, "move it elsewhere")
        assert sha256(foreign) == before
        foreign.unlink()
        run_stage(fashion, tmp_path, "--stage", "teacher", check=0)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--experiment", "cifar10-r26-r14x"], ["cifar10-r26-r14x", "did you mean cifar10-r26-r14"]),
            (["--experiment", "cifar10-r26-r15"], ["depth 15", "6n+2 layers"]),
            (["--method", "hints"], ["unknown method 'hints'"]),
            (["--stage", "hint", "--step", "4"], ["--step 4", "steps 1 to 3"]),
            (["--stage", "kd", "--step", "1"], ["has no steps"]),
            (["--net", "4"], ["--net 4"]),
            (["--net", "one"], ["--net: one: expected 1, 2, 3 or all"]),
            (["--stage", "guided"], ["--stage", "invalid choice: 'guided'"]),
            (["--hint", "2"], ["unrecognized arguments: --hint 2"]),
            (["--scale", "0"], ["--scale 0"]),
            (["--scale", "nan"], ["--scale nan"]),
            (["--set", "lamda_kd=3"], ["did you mean lambda_kd"]),
            (["--set", "tau=hot"], ["tau=hot", "a number"]),
            (["--threads", "0"], ["--threads 0"]),
            (["--snapshot-seconds", "-1"], ["--snapshot-seconds"]),
        ],
        ids=lambda x: " ".join(x[:2]),
    )
    def test_a_wrong_argument_is_one_line(self, arguments, words):
        one_line(command(RUN, *arguments, "--dry-run"), *words)

    def test_a_gpu_that_cannot_be_had(self):
        one_line(command(RUN, "--gpu", "99", "--dry-run"), "--gpu 99", "--cpu")
        assert "device: CPU" in command(RUN, "--cpu", "--dry-run", check=0).stdout

    def test_a_data_set_that_cannot_be_had(self, tmp_path):
        env = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HKD_FETCH_BACK_OFF": "0"}
        done = command(
            RUN, "--scale", "0.001", "--data", tmp_path / "none", "--runs", tmp_path, "--stage", "teacher", env=env
        )
        one_line(done, "no CIFAR-10 in", "--source ARCHIVE", "cannot download")

    def test_a_missing_data_set_is_built(self, tmp_path):
        """Fashion-MNIST whole, from Debian's package, by the training command itself."""
        done = command(
            RUN,
            "--experiment",
            EXPERIMENT,
            "--stage",
            "teacher",
            "--data",
            tmp_path / "d",
            "--prepare",
            "--runs",
            tmp_path / "r",
            check=0,
        )
        assert "not there: building it" in done.stdout and (tmp_path / "d/manifest.json").exists()

    def test_a_data_set_of_another_kind_or_padding(self, colour, colour_source, tmp_path):
        one_line(run_stage(colour, tmp_path, "--stage", "teacher"), "holds cifar10, not fashion-mnist")
        build = ["--dataset", "cifar10", "--source", colour_source, "--pad", "2", "--out", tmp_path / "p2"]
        command("data_tools/make_lmdb.py", *build, check=0)
        one_line(command(RUN, "--data", tmp_path / "p2", "--runs", tmp_path, "--scale", "0.001"), "--pad 2", "need 4")

    def test_a_data_set_that_lost_a_part(self, fashion, tmp_path):
        broken = shutil.copytree(fashion, tmp_path / "broken")
        (broken / "test_lmdb/data.mdb").write_bytes(b"torn")
        one_line(run_stage(broken, tmp_path, "--stage", "teacher"), "test_lmdb/data.mdb", "build it again")

    def test_a_batch_larger_than_the_data_set(self, fashion, tmp_path):
        one_line(run_stage(fashion, tmp_path, "--stage", "teacher", "--set", "batch=641"), "640 training images")

    def test_a_failed_check_of_caffe_is_one_line(self, fashion, tmp_path):
        """An LMDB that broke after every record of it was read, as its disk does: Caffe aborts, the driver says what it said."""
        broken = shutil.copytree(fashion, tmp_path / "broken")
        path = broken / "train_lmdb/data.mdb"
        path.write_bytes(bytes(path.stat().st_size))
        stamp, facts = broken / contents.STAMP, datasets.dataset("fashion-mnist")
        stamp.write_text(contents.stamp(datasets.read_manifest(broken, facts), facts))
        done = run_stage(broken, tmp_path / "runs", "--stage", "baseline")
        assert done.returncode == 128 + signal.SIGABRT
        (line,) = done.stderr.splitlines()
        assert (
            line.startswith("error: Caffe stopped: Check failed: mdb_status == 0")
            and "db_lmdb" in line
            and "no snapshot was made before" in line
            and "caffe.log" in line
        )

    def test_a_loss_that_is_no_number_ends_the_stage_and_keeps_the_last_snapshot(self, fashion, tmp_path):
        arguments = ["--stage", "baseline", "--set", "base_lr=1e30", "--snapshot-seconds", "0"]
        done = run_stage(fashion, tmp_path, *arguments)
        one_line(done, "at iteration", "try a smaller learning rate")
        stage = group(tmp_path) / "r8w4-baseline-net1+base_lr=1e+30"
        assert not (stage / "record.json").exists() and not (stage / "final.caffemodel").exists()
        for path in stage.glob("snapshots/iter_*/weights.caffemodel"):
            assert all(np.isfinite(a).all() for arrays in blobs(path).values() for a in arrays)

    def test_a_full_disk_is_one_line_and_the_snapshots_stay(self, fashion, tmp_path):
        """RLIMIT_FSIZE: no file may grow beyond 200 kB, as on a full disk. At the papers' width weights are more, and Caffe's log is
        less."""
        words = ("--experiment", "fashion-mnist-r14-r8", "--stage", "baseline")
        run_stage(fashion, tmp_path, *words, "--prepare", check=0)
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # noqa: E731
        done = run_stage(fashion, tmp_path, *words, preexec_fn=limit)
        assert done.returncode and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
        assert "no space" in done.stderr or "disk" in done.stderr, done.stderr
        run_stage(fashion, tmp_path, *words, check=0)


def test_a_stage_is_what_the_command_line_names(chain):
    """planned and the folders agree."""
    chosen = planned(experiments.experiment(EXPERIMENT), "layerwise", "kd", scale=SCALE)
    assert [s.folder(chain[0].parent.parent) for s in lineage(chosen)] == [chain[0] / name for name in CHAIN]
