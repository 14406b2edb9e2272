"""A teacher from elsewhere: a file of PyTorch's or Caffe's gives the same logits here, and teaches."""

import importlib.util
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import caffe
import numpy as np
import pytest

from conftest import ROOT, RUN, command, official, one_line
from hkd.base.cli import UserError
from hkd.engines import choice
from hkd.networks import deploy, feed, plain, prototxt
from hkd.paper import experiments
from hkd.stages import records
from hkd.stages.given import files, layers
from hkd.stages.given.normalised import Input
from hkd.stages.given.teacher import Given, take

if importlib.util.find_spec("torch") is None:
    pytest.skip("no PyTorch: make torch", allow_module_level=True)

import torch
from caffe.proto import caffe_pb2
from safetensors.torch import save_file

from hkd.engines.torch.data import Feed
from hkd.paper.datasets import read_manifest
from hkd.training.hint_dynamic.images import MetaImages
from lmdbs import read_lmdb
from nets import data_net
from pages import PAGES, commands
from resnets import random_resnet

TOOL = "python/import_weights.py"
FOREIGN = Path(os.environ.get("HKD_TEST_WEIGHTS", ROOT.parent / "shared/weights")) / "resnet26-cifar10-bss.safetensors"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
NORMALISED = ("--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010")
PAIR = "cifar10-r8w4-r8w4"
NUMBERS = ",".join


def saved(network, path):
    save_file(network.state_dict(), path)
    return path


def logits(taken, experiment, images, tmp_path):
    """What Caffe's deploy network answers with weights that were taken; images: as its Data layer hands them on."""
    path, weights = tmp_path / "deploy.prototxt", tmp_path / "taken.caffemodel"
    path.write_text(prototxt.text(deploy.network(experiment, experiment.teacher), []))
    bare = plain.network(experiment, experiment.teacher, feed.Feed("data", 1, 1))
    weights.write_bytes(taken.init(bare).SerializeToString())
    net = caffe.Net(str(path), str(weights), caffe.TEST)
    net.blobs["data"].reshape(*images.shape)
    net.blobs["data"].data[...] = images
    net.forward()
    return np.array(net.blobs["fc"].data)


def pixels(channels=3, size=32, count=4):
    return np.random.default_rng(7).integers(0, 256, (count, channels, size, size)).astype(np.float32)


def fed(images, own):
    """Images as a network of an Input was fed them."""
    images = images[:, ::-1] if own.order == "bgr" else images
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (own.mean, own.std))
    return torch.from_numpy(np.ascontiguousarray((images * (own.white / 255) - mean) / std, np.float32))


def check_same_logits(network, given, experiment, tmp_path):
    facts, own = experiment.facts, given.input
    taken = take(given, experiment)
    images = pixels(facts.channels, facts.size)
    with torch.no_grad():
        theirs = network(fed(images, own)).numpy()
    subtracted = np.array(own.setting, np.float32).reshape(1, -1, 1, 1)
    ours = logits(taken, experiment, images - subtracted, tmp_path)
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


class TestPyTorch:
    @pytest.mark.parametrize("shortcut", ["appended", "two-sided", "shortcut", "downsample"])
    @pytest.mark.parametrize("depth", [8, 14])
    def test_caffe_gives_its_logits(self, shortcut, depth, tmp_path):
        padding = shortcut if shortcut == "two-sided" else "appended"
        network = random_resnet(shortcut=shortcut, depth=depth, head="fc" if depth == 8 else "linear")
        change = ["shortcut=projection"] if shortcut in ("shortcut", "downsample") else []
        e = experiments.experiment(f"cifar10-r{depth}w4-r8", change)
        given = Given(str(saved(network, tmp_path / "x.safetensors")), Input(MEAN, STD), padding)
        check_same_logits(network, given, e, tmp_path)

    @pytest.mark.parametrize(
        ("name", "wrapped"),
        [
            ("x.pth.tar", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3}),
            ("X.PTH", dict),
            (
                "x.ckpt",
                lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "hyper_parameters": {"lr": 1}},
            ),
            ("x.bin", lambda s: {f"module.backbone.{k}": v for k, v in s.items()}),
            ("x.pt", lambda s: {"model": {"state_dict": s}}),
        ],
    )
    def test_a_checkpoint_of_any_script_is_the_same_teacher(self, name, wrapped, tmp_path):
        state = random_resnet().state_dict()
        plain = Given(str(saved(random_resnet(), tmp_path / "x.safetensors")), Input(MEAN, STD))
        torch.save(wrapped(state), tmp_path / name)
        e = experiments.named(PAIR)
        assert take(Given(str(tmp_path / name), Input(MEAN, STD)), e).digest == take(plain, e).digest

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
    def test_numbers_of_another_size_are_read_as_they_are(self, kind, tmp_path):
        state = {k: v.to(kind) for k, v in random_resnet().state_dict().items() if not k.endswith(files.COUNTER)}
        save_file(state, tmp_path / "x.safetensors")
        read = files.tensors(tmp_path / "x.safetensors")
        assert all(np.array_equal(read[k], v.float().numpy()) for k, v in state.items())

    def test_the_wrong_padding_gives_other_logits(self, tmp_path):
        network = random_resnet(shortcut="two-sided")
        path = str(saved(network, tmp_path / "x.safetensors"))
        with pytest.raises(AssertionError):
            check_same_logits(network, Given(path, Input(MEAN, STD)), experiments.named(PAIR), tmp_path)

    @pytest.mark.parametrize(
        "own",
        [
            Input(MEAN, STD, order="bgr"),
            Input((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), white=255),
            Input((103.94, 116.78, 123.68), (1.0, 1.0, 1.0), white=255, order="bgr"),
            Input((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ],
    )
    def test_so_it_does_whatever_its_input_was(self, own, tmp_path):
        network = random_resnet()
        given = Given(str(saved(network, tmp_path / "x.safetensors")), own)
        check_same_logits(network, given, experiments.named(PAIR), tmp_path)

    def test_grey_images_and_a_bias_in_each_convolution(self, tmp_path):
        network = random_resnet(channels=1, bias=True)
        given = Given(str(saved(network, tmp_path / "x.safetensors")), Input((0.1307,), (0.3081,)))
        check_same_logits(network, given, experiments.named("mnist-r8w4-r8"), tmp_path)

    @pytest.mark.parametrize("inside", [None, "state_dict", "model", "net"])
    @pytest.mark.parametrize("suffix", [".pth", ".th", ".pt"])
    def test_a_state_dict_of_torch_save_is_the_same_weights(self, inside, suffix, tmp_path):
        network = random_resnet()
        state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
        path = tmp_path / f"x{suffix}"
        torch.save(state if inside is None else {inside: state, "best_prec1": 91.7, "epoch": 3}, path)
        same = [
            take(Given(str(one), Input(MEAN, STD)), experiments.named(PAIR)).digest
            for one in (path, saved(network, tmp_path / "x.safetensors"))
        ]
        assert same[0] == same[1]

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_floating_point_numbers_become_float32(self, kind, tmp_path):
        state = {n: t.to(kind) if t.is_floating_point() else t for n, t in random_resnet().state_dict().items()}
        save_file(state, tmp_path / "x.safetensors")
        torch.save(state, tmp_path / "x.pth")
        for name in ("x.safetensors", "x.pth"):
            read = files.tensors(tmp_path / name)
            assert all(np.array_equal(read[n], t.float().numpy()) for n, t in state.items() if t.is_floating_point())

    def test_the_report_names_every_blob(self, tmp_path):
        network = random_resnet(shortcut="two-sided")
        given = Given(str(saved(network, tmp_path / "x.safetensors")), Input(MEAN, STD), "two-sided")
        lines = list(take(given, experiments.named(PAIR)).lines())
        whole = "\n".join(lines)
        for name in network.state_dict():
            owner, _, part = name.rpartition(".")
            assert re.search(rf"{re.escape(owner)}\.[\w, ]*\b{part}\b", whole), name
        assert any(line.startswith("given    conv1  4x3x3x3  from conv1.weight, times 1/255 / std") for line in lines)
        assert "left out bn1.num_batches_tracked" in lines and "in our order" in whole


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("name", ["cifar10-r20w8-r8", "mnist-r8-r8"])
def test_the_shapes_that_are_wanted_are_caffes(name, projection):
    e = experiments.experiment(name, ["shortcut=projection"] if projection else [])
    wanted = layers.wanted(e.teacher, e.facts.channels, e.facts.classes, projection)
    network = plain.network(e, e.teacher, feed.Feed("DATA", 1, 1))
    assert wanted == choice.parameter_shapes("caffe", network, e.facts) and list(wanted)[-1] == "fc"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network of 8 layers of two-sided padding as a file."""
    return saved(random_resnet(shortcut="two-sided"), tmp_path_factory.mktemp("given") / "theirs.safetensors")


GIVEN = (*NORMALISED, "--padding", "two-sided")


@pytest.fixture(scope="module")
def imported(file, colour, tmp_path_factory):
    """It, made a caffemodel by the command."""
    out = tmp_path_factory.mktemp("imported") / "x.caffemodel"
    words = (file, "--experiment", PAIR, *GIVEN, "--data", colour, "--out", out)
    return out, command(TOOL, *words, check=0), words


class TestImporting:
    def test_beside_it_are_a_report_and_a_record(self, imported, file):
        out, done, _ = imported
        assert sorted(path.name for path in out.parent.iterdir()) == ["x.caffemodel", "x.json", "x.txt"]
        record = json.loads(out.with_suffix(".json").read_text())
        assert record["iterations"] == 0 and f"Pc {record['Pc']['last']:.2f} %" in done.stdout
        assert record["origin"]["file"] == file.name and record["origin"]["sha256"] == records.sha256(file)
        assert "0.4914, 0.4822, 0.4465" in record["origin"]["input"] and "two-sided" in record["origin"]["mapping"]
        assert str(file.parent) not in out.with_suffix(".json").read_text()
        assert out.with_suffix(".txt").read_text() in done.stdout

    def test_the_caffemodel_says_what_its_input_is(self, imported, file):
        e = experiments.named(PAIR)
        again = take(Given(str(imported[0])), e)
        first = take(Given(str(file), Input(MEAN, STD), "two-sided"), e)
        assert again.settings == first.settings and again.digest == first.digest

    def test_a_second_time_nothing_is_done(self, imported):
        assert "already" in command(TOOL, *imported[2], check=0).stdout

    def test_other_weights_are_not_replaced(self, imported, colour, tmp_path):
        other, (out, _, words) = saved(random_resnet(seed=2), tmp_path / "other.safetensors"), imported
        before = out.read_bytes()
        one_line(command(TOOL, other, *words[1:]), out, "other weights")
        assert out.read_bytes() == before


SCALE = "0.0001"


def run(colour, runs, *more, **options):
    words = ("--experiment", PAIR, "--scale", SCALE, "--set", "batch=16", "--data", colour, "--runs", runs)
    return command(RUN, *words, *more, **options)


@pytest.fixture(scope="module")
def taught(file, colour, tmp_path_factory):
    """A student of 8 layers that it taught, by KD, and beside both the teacher that is trained here: group folder, what was said."""
    runs = tmp_path_factory.mktemp("taught")
    done = run(colour, runs, "--method", "kd", "--stage", "kd", "--teacher-weights", file, *GIVEN, check=0)
    run(colour, runs, "--method", "kd", "--stage", "kd", check=0)
    (group,) = (runs / "cifar10").iterdir()
    return group, done


def names(group, what):
    return sorted(path.name for path in group.iterdir() if what in path.name)


class TestTeaching:
    def test_the_papers_teacher_stays_beside_it(self, taught):
        group, _ = taught
        teachers, students = names(group, "teacher+"), names(group, "-kd-")
        assert len(teachers) == 2 and len(students) == 2
        given = next(name for name in teachers if "teacher_weights" in name)
        assert re.fullmatch(
            r"r8w4-teacher\+batch=16\+input_mean=125\.307,122\.961,113\.8575\+teacher_weights=[0-9a-f]{12}", given
        )
        assert given.partition("+")[2] in students[1]

    def test_the_student_has_its_weights_and_says_so(self, taught):
        group, _ = taught
        teacher = next(group / name for name in names(group, "teacher+") if "teacher_weights" in name)
        student = next(group / name for name in names(group, "-kd-") if "teacher_weights" in name)
        said, theirs = records.read_record(student), records.read_record(teacher)
        assert said["parents"]["teacher"]["final.caffemodel"] == theirs["digests"]["final.caffemodel"]
        assert theirs["origin"]["file"] == "theirs.safetensors" and "origin" not in said
        assert "mean_value: 125.307" in (student / "net.prototxt").read_text()
        own, other = (records.read_record(group / name)["digests"]["stage"] for name in names(group, "-kd-"))
        assert own != other

    def test_another_stage_finds_it_with_its_file_or_with_its_digest_alone(self, taught, file, colour, tmp_path):
        group, _ = taught
        runs = tmp_path / "runs"
        shutil.copytree(group.parents[1], runs)
        words = ("--method", "layerwise", "--stage", "hint", "--step", "1", "--dry-run")
        said = run(colour, runs, *words, "--teacher-weights", file, *GIVEN, check=0).stdout
        assert re.search(r"r8w4-teacher\+\S+ .* finished, used again", said)
        student = next(name for name in names(group, "-kd-") if "teacher_weights" in name)
        sets = [word for change in student.split("+")[2:] for word in ("--set", change)]
        assert run(colour, runs, *words, *sets, check=0).stdout == said

    def test_its_digest_without_its_file_and_without_the_folder(self, colour, tmp_path):
        done = run(colour, tmp_path, "--stage", "kd", "--set", "teacher_weights=0123456789ab")
        one_line(done, "0123456789ab", "are not there", "--teacher-weights FILE")

    def test_killed_before_its_test_ended_the_same_command_goes_on(self, taught, file, colour, tmp_path):
        words = ("--stage", "teacher", "--teacher-weights", file, *GIVEN)
        run(colour, tmp_path, *words, "--prepare", check=0)  # its files are there, its record is not
        (group,) = (tmp_path / "cifar10").iterdir()
        (folder,) = group.iterdir()
        assert not (folder / "record.json").exists()
        run(colour, tmp_path, *words, check=0)
        again = next(taught[0] / name for name in names(taught[0], "teacher+") if "teacher_weights" in name)
        for name in ("final.caffemodel", "net.prototxt", "init.txt"):
            assert (folder / name).read_bytes() == (again / name).read_bytes(), name

    def test_the_torch_engine_finds_the_same_images_right(self, taught, file, colour, tmp_path):
        run(colour, tmp_path, "--stage", "teacher", "--teacher-weights", file, *GIVEN, "--engine", "torch", check=0)
        (folder,) = next((tmp_path / "cifar10").iterdir()).iterdir()
        again = next(taught[0] / name for name in names(taught[0], "teacher+") if "teacher_weights" in name)
        one, other = (records.read_record(path) for path in (folder, again))
        assert one["engine"] == "torch" and one["Pc"] == other["Pc"]
        assert one["digests"]["final.caffemodel"] == other["digests"]["final.caffemodel"]

    def test_a_caffemodel_of_a_students_network_gives_the_teacher_in_it(self, taught, colour, tmp_path):
        """The weights of the KD stage above: two networks of one architecture, so it is told apart by its depth alone."""
        student = next(taught[0] / name for name in names(taught[0], "-kd-") if "teacher_weights" in name)
        with pytest.raises(UserError, match="two networks of 8 layers"):
            take(Given(str(student / "final.caffemodel")), experiments.named(PAIR))


def test_a_students_caffemodel_has_its_teacher_in_it(tmp_path):
    """Of two networks in one file the one of the experiment's teacher is taken, whichever has teacher/ before its layers' names."""
    e, own, both = experiments.named("cifar10-r14w4-r8w4"), Input(MEAN, STD), caffe_pb2.NetParameter()
    digests = []
    for depth, prefix in ((14, "teacher/"), (8, "")):
        path = saved(random_resnet(depth=depth), tmp_path / f"{depth}.safetensors")
        asked = experiments.named(f"cifar10-r{depth}w4-r8w4")
        taken = take(Given(str(path), own), asked)
        digests.append(taken.digest)
        for layer, blobs in taken.layers.blobs.items():
            made = both.layer.add(name=prefix + layer)
            for blob in blobs:
                made.blobs.add(data=blob.ravel()).shape.dim.extend(blob.shape)
    both.layer.add(name="regressor1").blobs.add(data=[1.0]).shape.dim.append(1)
    path = tmp_path / "student.caffemodel"
    path.write_bytes(both.SerializeToString())
    teacher, student = (take(Given(str(path)), x) for x in (e, experiments.named("cifar10-r8w4-r8w4")))
    assert [teacher.digest, student.digest] == digests
    assert {"left out conv1", "left out regressor1"} <= set(teacher.lines())
    assert {"left out teacher/conv1", "left out regressor1"} <= set(student.lines())
    bare = caffe_pb2.NetParameter(layer=[layer for layer in both.layer if layer.name.startswith("teacher/")])
    path.write_bytes(bare.SerializeToString())
    assert take(Given(str(path)), e).digest == digests[0]


class TestTables:
    def test_a_table_says_whose_teacher_it_was(self, taught, tmp_path):
        group, _ = taught
        change = next(n for n in names(group, "-kd-") if "teacher_weights" in n).split("+")[1:]
        words = [word for one in change for word in ("--set", one)]
        done = command(
            "python/make_tables.py",
            "--experiment",
            PAIR,
            "--runs",
            group.parents[1],
            "--out",
            tmp_path,
            *words,
            check=0,
        )
        rows = [line for line in done.stdout.splitlines() if line.startswith(("| teacher", "| KD without"))]
        assert len(rows) == 2 and all("teacher from elsewhere: theirs.safetensors" in row for row in rows)
        assert "not trained here" in done.stdout

    def test_one_cell_has_no_teacher_of_both_kinds(self, taught, tmp_path):
        done = command("python/make_tables.py", "--experiment", PAIR, "--runs", taught[0].parents[1], "--out", tmp_path)
        one_line(done, "teacher_weights=", "--set")

    def test_kept_records_stand_apart(self, taught, tmp_path):
        command("python/make_tables.py", "--measured", tmp_path, "--collect", taught[0].parents[1], check=0)
        kept = {path.parent.name for path in (tmp_path / "records").rglob("record.json")}
        assert sum("+teacher_weights=" in name for name in kept) == 2 and len(kept) == 4
        assert "teacher_weights=" in (tmp_path / "runs.md").read_text()

    def test_weights_of_other_people_are_not_kept(self, taught, tmp_path):
        runs = tmp_path / "runs/cifar10/full-seed1"
        runs.mkdir(parents=True)
        given = next(name for name in names(taught[0], "teacher+") if "teacher_weights" in name)
        shutil.copytree(taught[0] / given, runs / given)
        from hkd.results import weights

        weights.keep(tmp_path / "runs", tmp_path / "kept")
        assert not (tmp_path / "kept").exists()


@pytest.mark.slow
class TestTheRealOne:
    """26 layers, trained by other people: 92.55 % as published, that is 9,255 of 10,000 images."""

    @pytest.fixture(scope="class")
    def cifar10(self, tmp_path_factory):
        if not FOREIGN.exists():
            pytest.skip(f"{FOREIGN.name} is not in {FOREIGN.parent} (name its folder with HKD_TEST_WEIGHTS)")
        out = tmp_path_factory.mktemp("lmdb") / "cifar10"
        words = ("--dataset", "cifar10", "--source", official("cifar-10-binary.tar.xz"), "--out", out)
        command("data_tools/make_lmdb.py", *words, check=0)
        return out

    @pytest.mark.parametrize("engine", ["caffe", "torch"])
    def test_its_published_accuracy_to_the_image_and_a_student(self, engine, cifar10, tmp_path):
        words = ("--data", cifar10, "--runs", tmp_path, "--scale", "0.00002", "--engine", engine)
        done = command(
            RUN, *words, "--stage", "hint", "--step", "1", "--teacher-weights", FOREIGN, *NORMALISED, check=0
        )
        (teacher,) = tmp_path.glob("*/*/*-teacher+*/record.json")
        record = records.read_record(teacher.parent)
        assert record["official_data"] and round(record["Pc"]["last"] * 100) == 9255, done.stdout
        assert len(list(tmp_path.glob("*/*/*-hint1+*/record.json"))) == 1


OF_THE_PAGE = [line for line in commands(PAGES["python/README.md"]) if "resnet26." in line]


class TestThePage:
    """The commands of the section, as they stand, with a network of 26 layers made here in place of the file that they name."""

    def test_it_has_each_kind(self):
        assert len([line for line in OF_THE_PAGE if "import_weights.py" in line]) == 1 and len(OF_THE_PAGE) == 3

    def test_they_run(self, colour, tmp_path):
        saved(random_resnet(depth=26, width=16), tmp_path / "resnet26.safetensors")
        told = []
        for line in OF_THE_PAGE:
            words = shlex.split(line.replace("resnet26.", f"{tmp_path}/resnet26."))[1:]
            more = ["--data", colour] if "import_weights.py" in line else ["--dry-run", "--runs", tmp_path / "runs"]
            told.append(command(*words, *more, check=0).stdout)
        first, last = ([x for x in said.splitlines() if not x.startswith("data:")] for said in (told[0], told[2]))
        assert first == last and "teacher_weights=" in first[-1] and (tmp_path / "resnet26.caffemodel").exists()


@pytest.mark.parametrize("phase", [caffe.TEST, caffe.TRAIN])
def test_both_engines_see_the_same_images_less_a_mean_a_channel(phase, colour, tmp_path):
    changes = ["input_mean=125.307,122.961,113.8575", "augment=false"]  # cropped at the centre: nothing is drawn
    net = data_net(colour, phase, tmp_path, 100, changes)
    net.forward()
    layers_of_both = prototxt.parse((tmp_path / "data.prototxt").read_text()).layer
    layer = next(x for x in layers_of_both if x.type == "Data" and x.include[0].phase == phase)
    images, labels = Feed(layer, phase, 0).next()
    np.testing.assert_array_equal(images, net.blobs["data"].data)
    np.testing.assert_array_equal(labels, net.blobs["label"].data)
    raw = read_lmdb(colour / ("test_lmdb" if phase == caffe.TEST else "train_lmdb"))[0][:100].astype(np.float32)
    pad = (raw.shape[2] - 32) // 2
    raw = raw[:, :, pad : pad + 32, pad : pad + 32]
    np.testing.assert_array_equal(images, raw - np.array([125.307, 122.961, 113.8575], np.float32)[:, None, None])


def test_so_do_the_meta_batches_of_hint_dynamic_kd(colour):
    facts, means = experiments.named(PAIR).facts, (125.307, 122.961, 113.8575)
    one, other = (MetaImages(read_manifest(colour, facts), facts, 50, 5, given) for given in (means, (0.0, 0.0, 0.0)))
    difference = other.batch(20, 1)[0] - one.batch(20, 1)[0]
    np.testing.assert_allclose(difference.mean(axis=(0, 2, 3)), means, rtol=1e-5)


def test_an_export_teaches_and_says_what_it_is_fed(imported, colour, tmp_path):
    """A teacher from elsewhere goes out again as safetensors, and in again as the same weights."""
    out, words = tmp_path / "export", ("--experiment", PAIR, "--stage", "teacher", "--data", colour)
    mean = "input_mean=125.307,122.961,113.8575"
    command(
        "python/compare_torch.py",
        *words,
        "--weights",
        imported[0],
        "--export",
        "safetensors",
        "--out",
        out,
        "--set",
        mean,
        check=0,
    )
    assert json.loads((out / "student.json").read_text())["input"].endswith("less 125.307, 122.961, 113.8575")
    again = take(Given(str(out / "student.safetensors")), experiments.named(PAIR))
    before = take(Given(str(imported[0])), experiments.named(PAIR))
    for layer, blobs in before.layers.blobs.items():
        for one, other in zip(blobs, again.layers.blobs[layer], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=layer)
