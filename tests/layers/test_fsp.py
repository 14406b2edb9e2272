"""The FSP matrix in Caffe itself: values by hand, gradients against differences; the networks and methods built on it."""

import json
import random
import subprocess
import sys
import time

import caffe
import numpy as np
import pytest
from caffe import layers as L

from conftest import ROOT, command, one_line
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.networks import fsp, losses
from hkd.networks.feed import Feed
from hkd.paper import experiments, methods
from hkd.stages.stage import planned
from nets import build, central_differences, total, weights

RUN = "python/run_stage.py"
FEED = Feed("D", 128, 100)


def net_of_matrices(tmp_path, first=(2, 3, 2, 4), second=(2, 5, 2, 4), **orders):
    """The loss between the FSP matrix of two maps and a given one."""
    n = caffe.NetSpec()
    for name, shape in (("first", first), ("second", second), ("wanted", (first[0], first[1], second[1]))):
        n[name] = L.Input(shape={"dim": list(shape)})
    losses.fsp(n, "fsp", losses.fsp_matrix(n, "matrix", n.first, n.second, **orders), n.wanted)
    net = build(n, tmp_path)
    rng = np.random.default_rng(1)
    for name in ("first", "second", "wanted"):
        net.blobs[name].data[...] = rng.normal(size=net.blobs[name].data.shape)
    return net


def test_the_matrix_by_hand(tmp_path):
    net = net_of_matrices(tmp_path, (1, 2, 1, 2), (1, 1, 1, 2))
    net.blobs["first"].data[...] = [[[[1, 2]], [[3, 4]]]]
    net.blobs["second"].data[...] = [[[[5, 6]]]]
    net.blobs["wanted"].data[...] = [[[8], [20]]]
    net.forward()
    assert net.blobs["matrix"].data.tolist() == [[[(5 + 12) / 2], [(15 + 24) / 2]]]
    # Equation 2 has no half: (8.5 - 8)^2 + (19.5 - 20)^2.
    assert total(net) == pytest.approx(0.5)


@pytest.mark.parametrize("orders", [{}, {"rows": [2, 0, 1], "columns": [4, 1, 0, 3, 2]}, {"columns": [1, 0, 2, 3, 4]}])
class TestOneMatrix:
    def test_value(self, tmp_path, orders):
        net = net_of_matrices(tmp_path, **orders)
        net.forward()
        first, second = (net.blobs[name].data for name in ("first", "second"))
        expected = np.einsum("nihw,njhw->nij", first, second) / 8
        expected = expected[:, orders.get("rows", slice(None))][:, :, orders.get("columns", slice(None))]
        np.testing.assert_allclose(net.blobs["matrix"].data, expected, rtol=1e-5, atol=1e-6)
        distance = ((expected - net.blobs["wanted"].data) ** 2).sum() / 2
        assert total(net) == pytest.approx(distance, rel=1e-5)

    @pytest.mark.parametrize("blob", ["first", "second"])
    def test_gradient(self, tmp_path, orders, blob):
        net = net_of_matrices(tmp_path, **orders)
        total(net)
        net.backward()
        gradient = net.blobs[blob].diff.copy()
        assert np.abs(gradient).max() > 0.1
        np.testing.assert_allclose(gradient, central_differences(net, blob), atol=3e-3)


@pytest.mark.parametrize(
    ("shapes", "orders", "words"),
    [
        (((2, 3, 4, 4), (2, 3, 2, 2)), {}, "maps of one size"),
        (((2, 3, 2, 2), (2, 3, 2, 2)), {"rows": [0, 1]}, "no order of 3 channels"),
        (((2, 3, 2, 2), (2, 3, 2, 2)), {"columns": [0, 1, 1]}, "no order of 3 channels"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path, shapes, orders, words):
    with pytest.raises(ValueError, match=words):
        net_of_matrices(tmp_path, *shapes, **orders)


def test_the_pairs_of_fsp_and_of_dense_flow():
    assert methods.FLOWS == ((0, 1), (1, 2), (2, 3))
    assert methods.DENSE_FLOWS == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    steps = [part.flows for part in methods.METHODS["dense-flow"][:3]]
    assert steps == [((0, 1),), ((0, 2), (1, 2)), ((0, 3), (1, 3), (2, 3))]


class TestTheNetwork:
    def layers(self, flows=methods.FLOWS, changes=(), seed=None, name="cifar10-r26-r14"):
        net = fsp.network(experiments.experiment(name, changes), flows, FEED, seed)
        return {x.name: x for x in net.layer}

    def test_a_matrix_joins_the_input_of_a_stack_with_its_output(self):
        found = self.layers()
        assert list(found["fsp01/matrix"].bottom) == ["conv1", "stack1/block2/sum"]
        assert list(found["teacher/fsp23/matrix"].bottom) == ["teacher/fsp23/pool", "teacher/stack3/block4/sum"]
        assert list(found["teacher/fsp23/pool"].bottom) == ["teacher/stack2/block4/sum"]
        assert "fsp01/pool" not in found and "fc" not in found
        assert [found[f"fsp{x}"].loss_weight[0] for x in ("01", "12", "23")] == [2, 2, 2]

    def test_the_larger_map_of_a_wide_span_is_pooled_to_the_smaller(self):
        pool = self.layers(((0, 3), (1, 3)))["fsp03/pool"].pooling_param
        assert (pool.kernel_size, pool.stride, pool.pool) == (4, 4, pool.MAX)

    def test_the_first_module_in_place_of_the_input(self):
        found = self.layers(changes=("fsp_pairs=block",))
        assert list(found["fsp23/matrix"].bottom) == ["stack3/block1/sum", "stack3/block2/sum"]
        with pytest.raises(UserError, match="r8 has one module a stack"):
            self.layers(changes=("fsp_pairs=block",), name="cifar10-r14-r8")
        with pytest.raises(UserError, match="spans several stacks"):
            self.layers(((0, 2),), changes=("fsp_pairs=block",))

    def test_a_permuted_teacher_has_one_order_a_node_and_the_student_none(self):
        found = self.layers(seed=5)
        given = {x: json.loads(found[f"teacher/fsp{x}/matrix"].python_param.param_str) for x in ("01", "12", "23")}
        assert given["01"]["columns"] == given["12"]["rows"] and given["12"]["columns"] == given["23"]["rows"]
        assert sorted(given["23"]["columns"]) == list(range(64)) != given["23"]["columns"]
        assert not found["fsp01/matrix"].python_param.param_str
        assert given != {
            x: json.loads(self.layers(seed=6)[f"teacher/fsp{x}/matrix"].python_param.param_str) for x in given
        }

    def test_other_widths_are_refused_by_the_names_of_both_layers(self):
        with pytest.raises(UserError) as error:
            self.layers(name="cifar10-r26w32-r14")
        for words in ("teacher/conv1 and teacher/stack1/block4/sum is 32x32", "conv1 and stack1/block2/sum 16x16"):
            assert words in str(error.value)
        one_line(
            command(RUN, "--experiment", "cifar10-r26w32-r14", "--method", "fsp", "--stage", "fsp"),
            "teacher/conv1",
            "16x16",
        )


def test_students_of_two_teachers_have_folders_of_their_own():
    names = {planned(experiments.experiment(e), "fsp", "finetune").name for e in ("cifar10-r26-r8", "cifar10-r14-r8")}
    assert names == {"r26-r8-fsp-finetune-net1", "r14-r8-fsp-finetune-net1"}


def test_the_schedules():
    e = experiments.experiment("cifar10-r26-r14")
    schedule = planned(e, "fsp", "fsp").schedule
    assert (schedule.base_lr, schedule.stepvalue, schedule.max_iter) == (1e-3, (11_000, 16_000), 21_000)
    steps = [planned(e, "dense-flow", "fsp", i).schedule for i in (1, 2, 3)]
    assert sum(s.max_iter for s in steps) == 21_000
    assert steps[2].stepvalue == (6_600, 9_600)


def words_of(fashion, runs, *more):
    """Of stages of a few iterations, with a rate at which a teacher of as few and pixels of 0 to 255 do not drive them to
    infinity."""
    words = ("--experiment", "fashion-mnist-r14-r8", "--scale", 0.0005, "--set", "batch=16", "--set", "fsp_lr=1e-9")
    return tuple(map(str, (*words, "--data", fashion, "--runs", runs, "--snapshot-seconds", 0, *more)))


@pytest.fixture(scope="module")
def dense_flow(fashion, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    command(RUN, *words_of(fashion, runs, "--method", "dense-flow", "--stage", "finetune"), check=0)
    return runs


class TestTrained:
    def folders(self, runs):
        return {path.parent.name.partition("+")[0]: path.parent for path in runs.rglob("record.json")}

    def test_dense_flow_from_step_to_step(self, dense_flow):
        found = self.folders(dense_flow)
        assert set(found) == {
            "r14-teacher", *(f"r14-r8-dense-flow-fsp{i}" for i in (1, 2, 3)), "r14-r8-dense-flow-finetune-net1",
        }  # fmt: skip
        blobs = {name: weights(folder / "final.caffemodel") for name, folder in found.items()}
        for layer in ("conv1", "stack1/block1/conv1"):
            steps = [blobs[f"r14-r8-dense-flow-fsp{i}"][layer] for i in (1, 2, 3)]
            assert not np.array_equal(steps[0], steps[1]) and not np.array_equal(
                steps[1], steps[2]
            )  # nothing is frozen
            np.testing.assert_array_equal(weights(found["r14-r8-dense-flow-fsp2"] / "init.caffemodel")[layer], steps[0])
        for layer, values in blobs["r14-teacher"].items():
            if f"teacher/{layer}" in blobs["r14-r8-dense-flow-fsp3"]:
                np.testing.assert_array_equal(blobs["r14-r8-dense-flow-fsp3"][f"teacher/{layer}"], values)
        assert json.loads((found["r14-r8-dense-flow-finetune-net1"] / "record.json").read_text())["Pc"]["last"] > 0

    def test_killed_and_gone_on_with_it_ends_in_the_same_bytes(self, dense_flow, fashion, tmp_path):
        words = words_of(fashion, tmp_path, "--method", "dense-flow", "--stage", "finetune")
        rng = random.Random(3)
        for _ in range(5):
            process = subprocess.Popen([sys.executable, ROOT / RUN, *words], stdout=subprocess.DEVNULL)
            time.sleep(rng.uniform(1, 4))
            process.kill()
            process.wait()
        command(RUN, *words, check=0)
        whole, killed = self.folders(dense_flow), self.folders(tmp_path)
        assert killed.keys() == whole.keys()
        for name, folder in whole.items():
            assert sha256(killed[name] / "final.caffemodel") == sha256(folder / "final.caffemodel"), name

    @pytest.mark.parametrize(
        "method", ["fsp", "fsp-permuted", "dense-concurrent", "fsp-sequential", "dense-flow-cumulative"]
    )
    def test_every_method_from_the_same_teacher(self, method, dense_flow, fashion):
        command(RUN, *words_of(fashion, dense_flow, "--method", method, "--stage", "finetune"), check=0)
        assert f"r14-r8-{method}-finetune-net1" in self.folders(dense_flow)

    def test_dense_flow_with_kd_starts_from_its_last_step(self, dense_flow, fashion):
        command(RUN, *words_of(fashion, dense_flow, "--method", "dense-flow-kd", "--stage", "kd"), check=0)
        found = self.folders(dense_flow)
        init = (found["r14-r8-dense-flow-kd-net1"] / "init.txt").read_text()
        assert "r14-r8-dense-flow-fsp3" in init and "filler   fc" in init

    def test_a_permuted_teacher_is_another_one_for_each_net(self, dense_flow, fashion):
        for net in (1, 2):
            words = words_of(fashion, dense_flow, "--method", "fsp-permuted", "--stage", "fsp", "--net", net)
            command(RUN, *words, check=0)
        nets = [self.folders(dense_flow)[f"r14-r8-fsp-permuted-fsp-net{net}"] for net in (1, 2)]
        assert len({(folder / "net.prototxt").read_text().count("param_str") for folder in nets}) == 1
        assert len({(folder / "net.prototxt").read_text() for folder in nets}) == 2
