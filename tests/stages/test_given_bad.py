"""What is wrong with a file of weights, or with what is said of it: one line that names it and the way out, and nothing is written."""

import argparse
import importlib.util
import pickle
import sys

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from conftest import RUN, command, one_line
from hkd.base.cli import UserError
from hkd.paper import experiments
from hkd.stages.given.teacher import Given, take

if importlib.util.find_spec("torch") is None:
    pytest.skip("no PyTorch: make torch", allow_module_level=True)

import torch
from safetensors.torch import save_file

import import_weights
import run_stage
from resnets import ResNet, random_resnet

PAIR = "cifar10-r8w4-r8w4"
NORMALISED = ("--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010")


@pytest.fixture
def state():
    return dict(random_resnet().state_dict())


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Runs a command here, in this process; returns the line that it ends in, having asserted that nothing was written."""

    def line(*words, main=run_stage.main):
        more = [] if main is import_weights.main else ["--dry-run", "--runs", tmp_path / "runs"]
        monkeypatch.setattr(sys, "argv", ["command", *map(str, [*words, *more])])
        with pytest.raises(UserError) as error:
            main()
        assert not (tmp_path / "runs").exists()
        return " ".join(str(error.value).split())

    return line


def given(path, *more, pair=PAIR):
    return ("--experiment", pair, "--teacher-weights", path, *NORMALISED, *more)


def has(line, *words):
    assert [word for word in map(str, words) if word not in line] == [], line


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("x.caffemodel", b"\xff" * 40, ("no caffemodel",)),
            ("x.caffemodel", b"", ("no layer with weights",)),
            ("x.safetensors", b"\xff" * 40, ("no safetensors", "torn")),
            ("x.safetensors", b"", ("no safetensors", "torn")),
            ("x.pth", b"PK\x03\x04 and no more", ("torch.save", "state_dict()")),
            ("x.pth", b"", ("torch.save", "state_dict()")),
            ("x.t7", b"\x04\x00", (".safetensors", "state_dict()")),
            ("x.h5", b"", (".caffemodel", "state_dict()")),
        ],
    )
    def test_what_is_no_file_of_its_kind(self, name, content, words, refused, tmp_path):
        (tmp_path / name).write_bytes(content)
        has(refused(*given(tmp_path / name)), tmp_path / name, *words)

    def test_a_torn_one(self, state, refused, tmp_path):
        for name, save in (("x.safetensors", save_file), ("x.pth", torch.save)):
            save(state, tmp_path / name)
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1000])
            has(refused(*given(tmp_path / name)), tmp_path / name, "torn")

    def test_a_pickled_network_is_not_loaded(self, refused, tmp_path):
        torch.save(ResNet(), tmp_path / "x.pth")
        has(refused(*given(tmp_path / "x.pth")), "x.pth", "objects besides tensors", "torch.save(network.state_dict()")

    def test_nothing_in_a_pickle_is_run(self, refused, tmp_path):
        class Touch:
            def __reduce__(self):
                return open, (str(tmp_path / "it was run"), "w")

        (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": Touch()}))
        has(refused(*given(tmp_path / "x.pth")), "x.pth", "state_dict()")
        torch.save({"state_dict": Touch()}, tmp_path / "y.pth")
        has(refused(*given(tmp_path / "y.pth")), "y.pth", "state_dict()")
        assert not (tmp_path / "it was run").exists()

    @pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}, {}])
    def test_no_state_dict(self, content, refused, tmp_path):
        torch.save(content, tmp_path / "x.pth")
        has(refused(*given(tmp_path / "x.pth")), "x.pth", "no state dict")

    def test_what_is_in_it_is_named(self, refused, tmp_path):
        torch.save({"ema": {"conv1.weight": torch.zeros(1)}}, tmp_path / "x.pth")
        has(refused(*given(tmp_path / "x.pth")), "(it has ema)")
        torch.save({"state_dict": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "y.pth.tar")
        has(refused(*given(tmp_path / "y.pth.tar")), "argparse.Namespace", "weights_only=False)['state_dict']")

    def test_a_folder_and_nothing(self, refused, tmp_path):
        (tmp_path / "x.pth").mkdir()
        has(refused(*given(tmp_path / "x.pth")), "x.pth", "is no file")
        has(refused(*given(tmp_path / "y.pth")), "y.pth", "not there")

    def test_a_name_that_no_weights_have(self, refused):
        line = refused("--experiment", "mnist-r32-r8", "--teacher-weights", "r32-teacer")
        has(line, "r32-teacer", "did you mean r32-teacher?", "results/weights")


class TestNetworks:
    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ({"depth": 14}, ("14 layers", "--experiment cifar10-r14w4-r8w4")),
            ({"width": 8}, ("width 8", "--experiment cifar10-r8w8-r8w4")),
            ({"classes": 100}, ("100 classes", "CIFAR-10 has 10", "cifar100")),
            ({"classes": 7}, ("7 classes", "no data set")),
            ({"channels": 1}, ("1 channel,", "3 channels", "mnist")),
            ({"shortcut": "downsample"}, ("projections", "--set shortcut=projection")),
        ],
    )
    def test_another_network(self, shape, words, refused, tmp_path):
        save_file(random_resnet(**shape).state_dict(), tmp_path / "x.safetensors")
        has(refused(*given(tmp_path / "x.safetensors")), "x.safetensors", *words)

    def test_option_a_where_projections_are_asked_for(self, state, refused, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        line = refused(*given(tmp_path / "x.safetensors", "--set", "shortcut=projection"))
        has(line, "option A", "--set shortcut=A")

    def test_a_transfer_names_the_transfer(self, refused, tmp_path):
        save_file(random_resnet(depth=14, classes=100).state_dict(), tmp_path / "x.safetensors")
        line = refused(
            *given(
                tmp_path / "x.safetensors", "--method", "fsp", "--stage", "fsp", pair="cifar100-to-cifar10-r8w4-r8w4"
            )
        )
        has(line, "--experiment cifar100-to-cifar10-r14w4-r8w4")

    @pytest.mark.parametrize(
        ("break_it", "words"),
        [
            (lambda s: s.pop("bn1.running_var"), ("missing: bn1.running_var",)),
            (lambda s: s.pop("linear.bias"), ("missing: linear.bias",)),
            (lambda s: s.pop("linear.weight"), ("fully connected layer is missing",)),
            (
                lambda s: s.pop("layer3.0.conv1.weight") is s.pop("layer3.0.bn2.bias"),
                ("layer3.0.conv1.weight", "layer3.0.bn2.bias"),
            ),
            (lambda s: s.update({"layer1.0.conv3.weight": torch.zeros(1)}), ("left over: layer1.0.conv3.weight",)),
            (
                lambda s: s.update({"bn1.bias": torch.zeros(5)}),
                ("of another shape: scale1", "bn1.weight, bias", "needs 4 4"),
            ),
            (lambda s: s.update({"layer4.0.conv1.weight": torch.zeros(1)}), ("three stacks", "stack 4")),
            (lambda s: s.update({"layer1.1.conv1.weight": torch.zeros(1)}), ("stack 1: 2",)),
            (lambda s: s["bn1.weight"].fill_(np.nan), ("scale1, blob 0", "bn1.weight", "NaN")),
            (lambda s: s["linear.weight"][0].fill_(np.inf), ("fc, blob 0", "infinite")),
            (lambda s: s["bn1.running_var"].fill_(-1), ("bn1", "no statistics")),
            (lambda s: s.update({"conv1.weight": s["conv1.weight"].to(torch.int8)}), ("conv1.weight", "int8")),
        ],
    )
    def test_a_blob_that_does_not_fit(self, break_it, words, state, refused, tmp_path):
        break_it(state)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "x.safetensors")
        has(refused(*given(tmp_path / "x.safetensors")), "x.safetensors", *words)

    def test_every_one_is_named(self, state, refused, tmp_path):
        for name in ("bn1.bias", "layer2.0.bn1.weight"):
            del state[name]
        state |= {"extra.weight": torch.zeros(1), "layer2.0.conv2.weight": torch.zeros(8, 8, 1, 1)}
        save_file(state, tmp_path / "x.safetensors")
        line = refused(*given(tmp_path / "x.safetensors"))
        has(
            line,
            "missing: bn1.bias, layer2.0.bn1.weight; left over: extra.weight; of another shape: stack2/block1/conv2",
            "8x8x1x1",
        )

    def test_a_width_that_cannot_be_padded_on_both_sides(self, refused, tmp_path):
        save_file(random_resnet(width=5).state_dict(), tmp_path / "x.safetensors")
        has(
            refused(*given(tmp_path / "x.safetensors", "--padding", "two-sided", pair="cifar10-r8w5-r8")),
            "two-sided",
            "appended",
        )


class TestCaffemodels:
    @pytest.fixture
    def network(self, state, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        from hkd.networks import plain
        from hkd.networks.feed import Feed
        from hkd.stages.given.normalised import Input

        e = experiments.named(PAIR)
        own = Input((0.5,) * 3, (0.25,) * 3)
        return take(Given(str(tmp_path / "x.safetensors"), own), e).init(
            plain.network(e, e.teacher, Feed("data", 1, 1))
        )

    def line(self, network, refused, tmp_path, *more):
        (tmp_path / "x.caffemodel").write_bytes(network.SerializeToString())
        return refused("--experiment", PAIR, "--teacher-weights", tmp_path / "x.caffemodel", *more)

    def test_a_layer_of_another_network(self, network, refused, tmp_path):
        network.layer.add(name="extra", type="InnerProduct").blobs.add(data=[1.0]).shape.dim.append(1)
        has(self.line(network, refused, tmp_path), "left over: extra")

    def test_a_layer_that_is_missing(self, network, refused, tmp_path):
        next(x for x in network.layer if x.name == "stack1/block1/scale2").ClearField("blobs")
        has(self.line(network, refused, tmp_path), "missing: stack1/block1/scale2")

    def test_a_blob_with_fewer_values_than_its_shape(self, network, refused, tmp_path):
        del next(x for x in network.layer if x.name == "fc").blobs[0].data[3:]
        has(self.line(network, refused, tmp_path), "layer fc has 3 values of 10x16")

    def test_statistics_of_no_iteration(self, network, refused, tmp_path):
        next(x for x in network.layer if x.name == "bn1").blobs[2].data[0] = 0
        has(self.line(network, refused, tmp_path), "bn1 has no statistics")

    def test_another_mean_than_its_data_layer_says(self, network, refused, tmp_path):
        for layer in network.layer[:2]:
            layer.transform_param.mean_value.extend([127.5] * 3)
        has(
            self.line(network, refused, tmp_path, *NORMALISED), "Data layer says", "127.5", "leave --mean and --std out"
        )

    def test_padding_is_no_question_there(self, network, refused, tmp_path):
        has(self.line(network, refused, tmp_path, "--padding", "two-sided"), "--padding two-sided", "PyTorch")

    def test_the_form_of_before_2015(self, refused, tmp_path):
        old = caffe_pb2.NetParameter()
        old.layers.add(name="conv1")
        has(self.line(old, refused, tmp_path), "old form", "upgrade_net_proto_binary")


class TestWords:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--mean", "0.5,0.5,0.5"), ("--mean 0.5,0.5,0.5", "give --std too")),
            (("--std", "0.5,0.5,0.5"), ("--std 0.5,0.5,0.5", "give --mean too")),
            (("--mean", "a,b,c", "--std", "1,1,1"), ("--mean a,b,c", "a number for each channel")),
            (("--mean", "0.5,0.5", "--std", "1,1,1"), ("--mean 0.5,0.5", "a number for each channel")),
            (("--mean", "nan,0,0", "--std", "1,1,1"), ("--mean nan,0,0",)),
            (("--mean", "0.5", "--std", "0.5"), ("--mean 0.5", "3 channels", "give 3 numbers")),
            (("--mean", "125,123,114", "--std", "1,1,1"), ("--mean 125,123,114", "0 to 1", "--pixels 255")),
            (("--mean", "300,1,1", "--std", "1,1,1", "--pixels", "255"), ("300", "0 to 255")),
            (("--mean", "0,0,0", "--std", "1,0,1"), ("--std 1,0,1", "more than 0")),
            (("--mean", "0,-1,0", "--std", "1,1,1"), ("--mean 0,-1,0", "-1")),
            (("--pixels", "255"), ("--pixels 255", "--mean and --std")),
            ((), ("does not say what its input was", "--mean 0.4914,0.4822,0.4465 --std")),
        ],
    )
    def test_numbers_that_cannot_be(self, words, said, state, refused, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        has(refused("--experiment", PAIR, "--teacher-weights", tmp_path / "x.safetensors", *words), *said)

    def test_two_files_for_one_run(self, refused):
        has(refused(*given("a.pth"), "--teacher-weights", "b.pth"), "a.pth and b.pth", "one teacher")

    def test_a_file_and_another_digest(self, state, refused, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        line = refused(*given(tmp_path / "x.safetensors", "--set", "teacher_weights=0123456789ab"))
        has(line, "--set teacher_weights=0123456789ab", "x.safetensors", "leave --set teacher_weights out")
        line = refused(*given(tmp_path / "x.safetensors", "--set", "input_mean=1,2,3"))
        has(line, "--set input_mean=1,2,3", "125.307", "leave --set input_mean out")

    @pytest.mark.parametrize(
        "words",
        [
            ("--stage", "baseline"),
            ("--stage", "teacher", "--net", "2"),
            ("--method", "sl-resnet", "--stage", "finetune"),
        ],
    )
    def test_a_stage_that_it_could_not_teach(self, words, state, refused, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        has(refused(*given(tmp_path / "x.safetensors", *words)), "--teacher-weights", "no teacher that it could be")

    @pytest.mark.parametrize("word", ["--mean", "--std", "--padding", "--channels", "--pixels"])
    def test_what_is_said_of_a_file_that_is_not_given(self, word, refused):
        value = {"--padding": "appended", "--channels": "rgb", "--pixels": "1"}.get(word, "0,0,0")
        has(refused(word, value), word, "--teacher-weights FILE")

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("teacher_weights=abc", "the 12 digits"),
            ("teacher_weights=../../etc/x", "the 12 digits"),
            ("input_mean=1,2", "3 channels"),
            ("input_mean=1,2,256", "0 to 255"),
            ("input_mean=nan,1,2", "0 to 255"),
        ],
    )
    def test_settings_that_cannot_be(self, change, said, refused):
        has(refused("--set", change), f"--set {change}", said)

    def test_an_output_that_is_no_caffemodel(self, state, refused, tmp_path):
        save_file(state, tmp_path / "x.safetensors")
        line = refused(tmp_path / "x.safetensors", "--out", tmp_path / "x.pth", main=import_weights.main)
        has(line, "--out", "x.pth", ".caffemodel")


def test_as_commands_they_end_in_one_line(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"no pickle")
    one_line(command(RUN, *given(tmp_path / "x.pth")), "x.pth", "torn")
    out = tmp_path / "x.caffemodel"
    one_line(command("python/import_weights.py", tmp_path / "x.pth", "--out", out, *NORMALISED), "x.pth", "torn")
    assert not out.exists() and [path.name for path in tmp_path.iterdir()] == ["x.pth"]
