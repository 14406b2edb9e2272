"""The compiled passes against float64, for maps of bfloat16 and of float32, the same bytes with any number of threads; and what a
network gives with --precision bf16 beside float32."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from conftest import ROOT, command, needs_compiler
from hkd.engines import choice, devices
from hkd.engines.devices import Device
from hkd.networks import prototxt, solvers
from hkd.paper import experiments
from hkd.stages import records
from hkd.stages.stage import planned

if importlib.util.find_spec("torch") is None:
    pytest.skip("no PyTorch: make torch", allow_module_level=True)

import torch

from hkd.engines.torch import convolutions, fused, get_solver, layers, steps

CPU = Device((), 1, "")
WIDTHS = (16, 32, 64, 20, 80, 3)  # whole blocks of 16 channels, and rests


# The type of the maps, and how exact they and their gradients can be.
TYPES = pytest.mark.parametrize(
    ("dtype", "exact_map", "exact_gradient"), [(torch.bfloat16, 4e-3, 1e-2), (torch.float32, 1e-6, 1e-5)], ids=str
)


def maps(channels, size=7, count=5, seed=1, dtype=torch.bfloat16):
    torch.manual_seed(seed)
    x = torch.randn(count, channels, size, size) * 3 + 2
    return x.to(dtype).to(memory_format=torch.channels_last)


@pytest.fixture(autouse=True, scope="module")
def compiled():
    needs_compiler()
    assert all(fused.library(dtype) for dtype in fused.MAPS)


def exact(x, weight, bias, eps, relu, other=None):
    """The definition, in float64, and what its gradients are taken of."""
    x, weight, bias = (t.detach().double().requires_grad_() for t in (x, weight, bias))
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    y = (x - mean) / (variance + eps).sqrt() * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    given = [x, weight, bias]
    if other is not None:
        given.append(other.detach().double().requires_grad_())
        y = y + given[-1]
    return (y.relu() if relu else y), given, mean.flatten(), variance.flatten()


def apart(ours, theirs):
    return float((ours.detach().double() - theirs.detach().double()).norm() / theirs.detach().double().norm())


@pytest.mark.parametrize("channels", WIDTHS)
@pytest.mark.parametrize(("relu", "summed"), [(True, False), (False, False), (True, True)])
@TYPES
def test_normalization_and_its_gradients(channels, relu, summed, dtype, exact_map, exact_gradient):
    x = maps(channels, dtype=dtype).requires_grad_()
    other = maps(channels, seed=2, dtype=dtype).requires_grad_() if summed else None
    weight, bias = torch.rand(channels) + 0.5, torch.randn(channels)
    weight.requires_grad_(), bias.requires_grad_()
    y, _, saved = fused.Normalized.apply(x, other, weight, bias, 1e-5, relu)
    theirs, given, mean, variance = exact(x, weight, bias, 1e-5, relu, other)
    assert apart(saved[0], mean) < 1e-6 and apart(saved[1], variance) < 1e-5
    assert y.dtype == dtype and apart(y, theirs) < exact_map
    gradient = maps(channels, seed=3, dtype=dtype)
    y.backward(gradient)
    theirs.backward(gradient.double())
    ours = [x, weight, bias, *([other] if summed else [])]
    # Where y is so near to 0 that rounding makes it 0, its sum's gradient is cut off as ReLU's is.
    for mine, exact_one in zip(ours, given, strict=True):
        assert apart(mine.grad, exact_one.grad) < exact_gradient


def test_the_stored_statistics_are_those_of_the_layer_by_itself():
    p = caffe_pb2.BatchNormParameter(moving_average_fraction=0.95)
    saved, ours = torch.rand(4, 20), [torch.rand(20), torch.rand(20), torch.tensor([3.0])]
    theirs = [blob.clone() for blob in ours]
    for _ in range(3):
        fused.accumulate(saved, 100, p.moving_average_fraction, ours)
        layers.accumulate(p, theirs, saved[0], saved[1] * (100 / 99))
    for mine, other in zip(ours, theirs, strict=True):
        assert apart(mine, other) < 1e-6


@pytest.mark.parametrize("summed", [False, True])
@TYPES
def test_what_two_readers_send_back_is_added_as_pytorch_adds_it(summed, dtype, exact_map, exact_gradient):
    """To the same bytes: a bfloat16 is rounded before it is used."""
    gradients = []
    for twice in (True, False):
        x = maps(20, dtype=dtype).requires_grad_()
        other = maps(20, seed=2, dtype=dtype).requires_grad_() if summed else None
        weight, bias = torch.linspace(0.5, 1.5, 20).requires_grad_(), torch.linspace(-1, 1, 20).requires_grad_()
        one, two, _ = fused.Normalized.apply(x, other, weight, bias, 1e-5, True)
        assert torch.equal(one, two)
        sent = [maps(20, seed=seed, dtype=dtype) for seed in (3, 4)]
        torch.autograd.backward([one, two if twice else one], sent)
        gradients.append([t.grad.float() for t in (x, weight, bias, *([other] if summed else []))])
    for together, apart_ in zip(*gradients, strict=True):
        assert torch.equal(together, apart_)


def test_of_a_block_s_map_the_shortcut_is_the_second_reader(colour, tmp_path):
    """So that PyTorch adds no gradient of a map in a pass of its own."""
    stage = planned(experiments.experiment("cifar10-r14-r8"), "baseline", "baseline")
    plan = solver(stage, tmp_path, colour, "bf16").net.plan
    both = (steps.Normalized, steps.Shortcut)
    read_again = [s.bottom if isinstance(s, steps.Shortcut) else s.other for s in plan if isinstance(s, both)]
    blocks = ["conv1", "stack1/block1/sum", "stack2/block1/sum"]
    assert [name for name in read_again if name and name.endswith(steps.AGAIN)] == [n + steps.AGAIN for n in blocks]


@TYPES
def test_the_mean_of_a_map_and_its_gradient(dtype, exact_map, exact_gradient):
    x = maps(20, 7, dtype=dtype).requires_grad_()
    y = fused.Averaged.apply(x)
    assert y.dtype == torch.float32 and apart(y, x.detach().double().mean((2, 3), keepdim=True)) < 1e-6
    gradient = torch.randn(y.shape)
    y.backward(gradient)
    assert apart(x.grad, (gradient.double() / 49).expand(x.shape)) < exact_map


def test_a_variance_of_many_values_is_exact():
    """A black ground with strokes, as MNIST has it: 64 images of 28 x 28, whose values PyTorch adds one after another: it errs by
    1e-4."""
    torch.manual_seed(1)
    strokes = (torch.rand(64, 16, 28, 28) < 0.2) * torch.rand(64, 16, 28, 28) * 255
    x, weight, bias = strokes.to(memory_format=torch.channels_last), torch.ones(16), torch.zeros(16)
    theirs, _, mean, variance = exact(x, weight, bias, 1e-5, True)
    y, _, saved = fused.Normalized.apply(x, None, weight, bias, 1e-5, True)
    assert apart(saved[0], mean) < 1e-6 and apart(saved[1], variance) < 1e-5 and apart(y, theirs) < 1e-5


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 7), (20, 5)])
@TYPES
def test_the_shortcut_is_every_second_pixel_and_zeros(channels, size, dtype, exact_map, exact_gradient):
    x = maps(channels, size, dtype=dtype).requires_grad_()
    y = fused.Halved.apply(x)
    expected = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
    assert torch.equal(y, expected)
    gradient = maps(2 * channels, y.shape[2], seed=2, dtype=dtype)
    y.backward(gradient)
    (expected_gradient,) = torch.autograd.grad(expected, x, gradient)
    assert torch.equal(x.grad, expected_gradient)


@TYPES
def test_the_distance_of_two_maps(dtype, exact_map, exact_gradient):
    one, other = maps(20, 5, dtype=dtype).requires_grad_(), maps(20, 5, seed=2, dtype=dtype)
    distance = fused.SquaredDistance.apply(one, other)
    exact_one = (one.detach().double() - other.double()).square().sum()
    assert abs(distance.item() / exact_one.item() - 1) < 1e-6
    (distance / 10).backward()
    assert apart(one.grad, (one.detach().double() - other.double()) / 5) < exact_map


def test_a_second_derivative_is_an_error():
    """Not silently that of a constant."""
    x, weight = maps(16, dtype=torch.float32).requires_grad_(), torch.ones(16, requires_grad=True)
    y, *_ = fused.Normalized.apply(x, None, weight, torch.zeros(16), 1e-5, True)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@TYPES
def test_any_number_of_threads_gives_the_same_bytes(dtype, exact_map, exact_gradient):
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        x = maps(16, 32, 40, dtype=dtype).requires_grad_()
        weight = torch.ones(16, requires_grad=True)
        y, _, saved = fused.Normalized.apply(x, None, weight, torch.zeros(16), 1e-5, True)
        (y.float() * torch.arange(32)).sum().backward()
        made.append([t.detach().float().numpy().tobytes() for t in (y, saved, x.grad, weight.grad)])
    torch.set_num_threads(1)
    assert made[0] == made[1] == made[2]


def solver(stage, folder, lmdbs, precision):
    net, path = folder / "net.prototxt", folder / "solver.prototxt"
    net.write_text(prototxt.text(stage.network(lmdbs, 200), []))
    path.write_text(solvers.text(stage.solver(str(net), str(folder / "s"), 200), []))
    return get_solver(path, precision=precision)


STAGES = [
    ("cifar10-r14-r8", "baseline", "baseline", None, ()),
    ("cifar10-r14-r8", "baseline", "baseline", None, ("shortcut=projection",)),
    ("cifar10-r14-r8", "layerwise", "hint", 3, ()),
    ("cifar10-r26w32-r14", "layerwise", "hint", 2, ()),
    ("cifar10-r14-r8", "fsp", "fsp", None, ()),
    ("cifar10-r14-r8", "sl-resnet", "grow", 2, ()),
]


@pytest.mark.parametrize(("name", "method", "kind", "step", "changes"), STAGES, ids=lambda x: str(x).strip("()'\","))
def test_a_network_is_that_of_float32_but_for_rounding(name, method, kind, step, changes, colour, tmp_path):
    stage = planned(experiments.experiment(name, ("batch=16", *changes)), method, kind, step)
    pair = [solver(stage, tmp_path, colour, precision) for precision in ("fp32", "bf16")]
    for s in pair:
        for blobs in s.net.params.values():  # fillers leave BatchNorm's stored statistics at zero
            if len(blobs) == 3:
                blobs[1].data[...], blobs[2].data[...] = 1, 1
        s.net.changed()
        s.gradients.zero_()
        s.net.forward()
        s.net.total_loss().backward()
    losses = [s.net.total_loss().item() for s in pair]
    assert abs(losses[1] / losses[0] - 1) < 0.02
    cosine = torch.nn.functional.cosine_similarity(pair[0].gradients, pair[1].gradients, dim=0)
    assert cosine > 0.97
    maps_of = [t for t in pair[1].net.tensors.values() if t.dim() == 4 and t.shape[2] > 1]
    assert maps_of and all(t.dtype == torch.bfloat16 for t in maps_of)
    assert all(t.dtype == torch.float32 for t in (pair[1].weights, pair[1].gradients, pair[1].momenta))


def test_a_test_is_in_float32(colour, tmp_path):
    stage = planned(experiments.experiment("cifar10-r14-r8", ("batch=16",)), "baseline", "baseline")
    s = solver(stage, tmp_path, colour, "bf16")
    s.step(2)
    s.test_nets[0].forward()
    assert all(t.dtype == torch.float32 for t in s.test_nets[0].tensors.values() if t.is_floating_point())


def test_without_a_compiler_it_says_so_and_goes_on(fashion, tmp_path):
    words = ["--experiment", "fashion-mnist-r14-r8", "--stage", "baseline", "--scale", "0.0005", "--set", "batch=8"]
    words += ["--data", fashion, "--runs", tmp_path / "runs", "--engine", "torch", "--precision", "bf16"]
    tools = tmp_path / "bin"
    tools.mkdir()
    bare = {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = command("python/run_stage.py", *words, check=0, env=bare)
    assert done.stderr.count("does without its compiled passes, and is slower: no C++ compiler (g++)") == 1
    stage = tmp_path / "runs/fashion-mnist/scale0.0005-seed1/r8-baseline-net1+batch=8"
    assert records.read_record(stage)["engine"] == "torch-bf16"


def test_it_is_compiled_once_a_machine(tmp_path):
    script = (
        "import sys; sys.path.insert(0, 'python'); from hkd.engines.torch import fused; import pathlib, os;"
        "fused.library(fused.torch.bfloat16); f = next(pathlib.Path(os.environ['XDG_CACHE_HOME']).glob('hkd-caffe/*.so')); print(f, f.stat().st_mtime_ns)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert said[0] and said[0] == said[1]
    assert len(list((tmp_path / "hkd-caffe").iterdir())) == 1


class TestAuto:
    @pytest.mark.parametrize(
        ("line", "fast"),
        [
            ("flags\t\t: fpu avx512f avx512_bf16 avx512_fp16 amx_bf16 amx_tile", True),  # Sapphire Rapids
            ("flags\t\t: fpu avx512f avx512_bf16 avx512_fp16", False),  # the same where AMX is hidden
            ("flags\t\t: fpu avx512f avx512_bf16", True),  # Cooper Lake, Zen 4 and 5
            ("flags\t\t: fpu avx2 avx512f", False),
            ("Features\t: fp asimd bf16 i8mm", True),  # Arm
            ("model name\t: bf16", False),
        ],
    )
    def test_where_the_cpu_is_faster_with_it(self, line, fast, tmp_path):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
        assert devices.bf16_is_fast(tmp_path / "cpuinfo") is fast
        assert devices.bf16_is_fast(tmp_path / "none") is False

    def test_it_is_bf16_there_else_fp32(self):
        fast = devices.bf16_is_fast()
        precision, note = choice.settled("auto", "torch", CPU)
        assert (precision, bool(note)) == (("bf16", False) if fast else ("fp32", True))

    def test_bf16_by_name_is_bf16(self):
        precision, note = choice.settled("bf16", "torch", CPU)
        assert (precision, bool(note)) == ("bf16", not devices.bf16_is_fast())

    def test_it_is_fp32_for_caffe_and_on_a_gpu(self):
        assert choice.settled("auto", "caffe", CPU) == ("fp32", "")
        assert choice.settled("auto", "torch", Device((0,), 1, "")) == ("fp32", "")


def test_rounding_is_to_the_nearest_and_ties_to_even():
    """Against PyTorch's own, through a normalization that leaves values as they are."""
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 16, 64, 64)).astype(np.float32)).bfloat16()
    x = x.to(memory_format=torch.channels_last)
    weight, bias = torch.full((16,), 1.25), torch.full((16,), 0.3)
    y, _, saved = fused.Normalized.apply(x, None, weight, bias, 0.0, False)
    factor, shift = (saved[i].view(1, -1, 1, 1) for i in (2, 3))
    # One rounding for a product and a sum together, as the compiled code does.
    expected = torch.addcmul(shift.double(), x.double(), factor.double()).float().bfloat16()
    assert (y == expected).float().mean() > 0.9999


class TestConvolutions:
    """By the processor's own instructions and in float32: of the same numbers, each product exact in float32."""

    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.parametrize(("stride", "pad", "size"), [(1, 1, 3), (2, 1, 3), (1, 0, 1)])
    def test_against_float64(self, fast, stride, pad, size, monkeypatch):
        monkeypatch.setattr(convolutions, "is_fast", lambda: fast)
        x = maps(16, size=9).requires_grad_()
        weight, bias = (torch.randn(shape).requires_grad_() for shape in ((32, 16, size, size), (32,)))
        y = convolutions.convolution(x, weight, bias, stride, pad)
        assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
        above = torch.randn_like(y)
        found = torch.autograd.grad(y, (x, weight, bias), above)
        assert [g.dtype for g in found] == [torch.bfloat16, torch.float32, torch.float32]
        exactly = [t.detach().bfloat16().double().requires_grad_() for t in (x, weight, bias)]
        expected = torch.nn.functional.conv2d(*exactly, stride, pad)
        assert apart(y, expected) < 4e-3
        for ours, theirs in zip(found, torch.autograd.grad(expected, exactly, above.double()), strict=True):
            assert apart(ours, theirs) < 1e-2

    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.parametrize("relu", [True, False])
    @pytest.mark.parametrize("summed", [True, False])
    def test_a_folded_one_against_float64(self, fast, relu, summed, monkeypatch):
        monkeypatch.setattr(convolutions, "is_fast", lambda: fast)
        x, other = maps(16), maps(16, seed=2) if summed else None
        weight, bias = torch.randn(16, 16, 3, 3), torch.randn(16)
        with torch.no_grad():
            y = convolutions.Folded(x, weight, bias, 1, 1)(x, other, relu)
        exactly = (t.bfloat16().double() for t in (x, weight, bias))
        expected = torch.nn.functional.conv2d(*exactly, 1, 1) + (other.double() if summed else 0)
        assert y.dtype == torch.bfloat16 and apart(y, expected.relu() if relu else expected) < 4e-3
