"""The torch engine: Caffe's numbers, layer by layer and iteration by iteration; its files; its refusals; killed for real."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from conftest import ROOT, RUN, command, needs_compiler, one_line
from drivers import begin, finish, wait_for_a_snapshot
from hkd.base.cli import UserError
from hkd.base.files import sha256
from hkd.engines import torch as torch_engine
from hkd.networks import plain, prototxt
from hkd.networks.feed import Feed
from hkd.paper import datasets, experiments
from hkd.stages import records
from hkd.stages.stage import planned

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: make torch")

KINDS = [
    ("cifar10-r14-r8", "", "teacher", None, ()),
    ("cifar10-r14-r8", "baseline", "baseline", None, ("shortcut=projection",)),
    ("cifar10-r14-r8", "kd", "kd", None, ()),
    ("cifar10-r14-r8", "kd", "kd", None, ("kd_tau_squared=true", "hard_tau=3")),
    ("cifar10-r14-r8", "layerwise", "hint", 1, ()),
    ("cifar10-r14-r8", "layerwise", "hint", 3, ("hint_relu=before",)),
    ("cifar10-r14-r8", "concurrent", "hint", None, ()),
    ("cifar10-r26w32-r14", "layerwise", "hint", 2, ()),  # with a regressor
    ("cifar10-r14-r8", "sl-resnet", "grow", 2, ()),
    ("cifar10-r14-r8", "sl-resnet", "finetune", None, ()),
    ("cifar10-r14-r8", "fsp", "fsp", None, ()),
    ("cifar10-r14-r8", "fsp-permuted", "fsp", None, ()),
    ("cifar10-r14-r8", "dense-flow", "fsp", 3, ()),
    ("cifar10-r14-r8", "fitnet", "kd", None, ("kd_tau_squared=true",)),  # a weight that falls
    ("cifar10-r14-r8", "baseline", "baseline", None, ("augment=false",)),
]


@pytest.mark.parametrize(("name", "method", "kind", "step", "changes"), KINDS, ids=lambda x: str(x).strip("()'\","))
def test_every_kind_of_network_gives_caffes_numbers(name, method, kind, step, changes, colour):
    from hkd.engines import parity

    e = experiments.experiment(name, ("batch=16", *changes))
    stage = planned(e, method, kind, step)
    found = parity.compare(stage, colour, datasets.read_manifest(colour, e.facts), iterations=6)
    failed = [d for d in found if not d.passes]
    assert not failed, failed
    parts = {d.part for d in found}
    assert parts == set(parity.TOLERANCES) - {"meta"}
    learned = {d.layer for d in found if d.part == "gradient"}
    assert learned and not any(layer.startswith("teacher/") for layer in learned)
    assert all(d.relative == 0 for d in found if d.part == "steps" and d.layer.startswith("teacher/"))


def test_the_papers_deepest_network_agrees_to_six_digits(fashion):
    """32 layers, a whole batch of black grounds: BatchNorm's statistics, of a sum of 50,176 values, decide."""
    from hkd.engines import parity

    stage = planned(experiments.experiment("fashion-mnist-r32-r8"), "", "teacher")
    found = parity.compare(stage, fashion, datasets.read_manifest(fashion, stage.experiment.facts), iterations=1)
    largest = {part: max(d.relative for d in found if d.part == part) for part in ("forward", "statistics", "test")}
    assert max(largest.values()) < 1e-5, largest
    assert all(d.passes for d in found)


@pytest.mark.parametrize(
    ("stage", "weights", "said"),
    [
        ("kd", "mnist/r32-teacher", "layer conv1 is 16x1x3x3, r14-r8 KD needs 16x3x3x3"),
        ("teacher", "../../README.md", "is no caffemodel"),
        ("teacher", "../measured", "is missing"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(colour, stage, weights, said):
    path = ROOT / "results/weights" / (weights if "." in weights else f"{weights}.caffemodel")
    words = ("--experiment", "cifar10-r14-r8", "--stage", stage, "--data", colour, "--weights", path)
    one_line(command("python/compare_torch.py", *words), path.name, said)


def test_the_command_prints_and_writes_it(colour, tmp_path):
    words = [
        "--experiment",
        "cifar10-r14-r8",
        "--stage",
        "kd",
        "--set",
        "batch=16",
        "--iterations",
        3,
        "--data",
        colour,
    ]
    done = command("python/compare_torch.py", *words, "--json", tmp_path / "parity.json", check=0)
    assert "pass  gradient: at most" in done.stdout and "| stack2/block1/conv2 |" in done.stdout
    written = json.loads((tmp_path / "parity.json").read_text())
    assert written["passes"] and len(written["differences"]) > 100
    one_line(command("python/compare_torch.py", "--data", tmp_path / "none"), "no CIFAR-10 in", "make_lmdb.py")


# --- data -----------------------------------------------------------------------------------------------------------------


def feed(folder, phase, name="cifar10-r14-r8", batch=16):
    from hkd.engines.torch import data

    network = plain.network(
        experiments.experiment(name, (f"batch={batch}",)),
        experiments.experiment(name).student,
        Feed(str(folder), batch, 20),
    )
    layer = next(x for x in network.layer if x.type == "Data" and x.include[0].phase == phase)
    return data.Feed(layer, phase, random_seed=7)


def test_the_test_images_are_caffes_to_the_bit(colour, tmp_path):
    e = experiments.experiment("cifar10-r14-r8")
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt.text(plain.network(e, e.student, Feed(str(colour), 16, 20)), []))
    net = caffe.Net(str(path), caffe.TEST)
    ours = feed(colour, caffe_pb2.TEST)
    for _ in range(11):  # 200 images: it wraps
        net.forward(end="data")
        images, labels = ours.next()
        assert np.array_equal(net.blobs["data"].data, images)
        assert np.array_equal(net.blobs["label"].data, labels)


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
@pytest.mark.parametrize(("images", "name"), [("colour", "cifar10-r14-r8"), ("fashion", "fashion-mnist-r14-r8")])
def test_the_compiled_crops_are_those_of_numpy_to_the_bit(images, name, phase, request):
    needs_compiler()
    ours = feed(request.getfixturevalue(images), phase, name)
    for k in (0, 5):
        made, _ = ours.make(k)
        chosen = np.arange(k * ours.batch, (k + 1) * ours.batch) % len(ours.images)
        assert np.array_equal(made, ours._cropped(chosen, *ours._draw(k)))


def test_a_training_image_is_a_crop_of_its_own_mirrored_or_not(colour):
    ours = feed(colour, caffe_pb2.TRAIN)
    padded = ours.images.astype(np.float32) - ours.mean
    places, mirrored = set(), set()
    for k in (0, 1, 62):  # 62 * 16 = 992: it wraps within the batch
        images, labels = ours.make(k)
        for i, image in enumerate(images):
            source = (k * 16 + i) % len(padded)
            assert labels[i] == ours.labels[source]
            windows = np.lib.stride_tricks.sliding_window_view(padded[source], (32, 32), axis=(1, 2)).transpose(
                1, 2, 0, 3, 4
            )
            hits = [
                (top, left, m)
                for m, x in ((0, image), (1, image[:, :, ::-1]))
                for top, left in np.argwhere((windows == x).all((2, 3, 4)))
            ]
            assert hits
            places.add(hits[0][:2])
            mirrored.add(hits[0][2])
    assert len(places) > 20 and mirrored == {0, 1}


def test_a_batch_depends_on_its_number_alone(colour):
    one, other = feed(colour, caffe_pb2.TRAIN), feed(colour, caffe_pb2.TRAIN)
    for _ in range(3):
        other.skip()
    for _ in range(4):
        fourth = one.next()
    assert all(np.array_equal(a, b) for a, b in zip(fourth, other.next(), strict=True))


def test_neighbouring_batches_draw_other_numbers(colour):
    """Also shifted: a counter-based generator must not begin a batch in the middle of the one before."""
    drawn = np.array([feed(colour, caffe_pb2.TRAIN)._draw(k)[0] for k in range(60)])
    images = drawn.shape[1]
    for shift in range(images - 4):
        same = np.mean(drawn[:-1, shift:] == drawn[1:, : images - shift])
        assert same < 0.25, shift  # 1/9 by chance


# --- fillers, files, states -------------------------------------------------------------------------------------------------


def solver(folder, data_folder, **options):
    """A solver of the 8-layer student on `data_folder`, its files in `folder`."""
    e = experiments.experiment("cifar10-r14-r8", ("batch=16", "base_lr=0.01"))
    stage = planned(e, "baseline", "baseline")
    (folder / "net.prototxt").write_text(prototxt.text(stage.network(data_folder, 200), []))
    parameter = stage.solver(str(folder / "net.prototxt"), str(folder / "s"), 200)
    parameter.display = parameter.snapshot = 0
    parameter.test_interval = 10**9
    for key, value in options.items():
        parameter.MergeFrom(type(parameter)(**{key: value}))
    path = folder / "solver.prototxt"
    path.write_text(text_format.MessageToString(parameter))
    return path


def test_msra_goes_by_the_inputs(colour, tmp_path):
    """std = sqrt(2 / fan_in), fan_in = channels x kernel (filler.hpp); the same in every process, another for every layer."""
    nets = [torch_engine.get_solver(solver(tmp_path, colour)).net for _ in range(2)]
    for name, fan_in in (("stack3/block1/conv2", 64 * 9), ("stack2/block1/conv1", 16 * 9)):
        weights = nets[0].params[name][0].data
        assert weights.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05) and abs(weights.mean()) < 0.01
        assert np.array_equal(weights, nets[1].params[name][0].data)
    same = [nets[0].params[f"stack3/block1/conv{i}"][0].data.flatten()[:50] for i in (1, 2)]
    assert not np.allclose(*same)
    assert nets[0].params["scale1"][0].data.tolist() == [1] * 16


def test_begun_in_caffe_gone_on_with_here_and_back(colour, tmp_path):
    """Weights, momentum, iteration and step of the schedule go from one to the other through Caffe's own two files."""
    path = solver(tmp_path, colour, stepvalue=[12], lr_policy="multistep", gamma=0.1)
    first = caffe.get_solver(str(path))
    first.step(10)
    first.snapshot()
    second = torch_engine.get_solver(path)
    second.restore(str(tmp_path / "s_iter_10.solverstate"))
    assert second.iter == 10
    momentum = caffe_pb2.SolverState.FromString((tmp_path / "s_iter_10.solverstate").read_bytes())
    for (_, mine), theirs in zip(second.history(), momentum.history, strict=True):
        assert mine is None or np.array_equal(mine.numpy().flatten(), theirs.data)
    assert not any(
        any(theirs.data) for (_, mine), theirs in zip(second.history(), momentum.history, strict=True) if mine is None
    )
    second.step(10)
    second.snapshot()
    state = caffe_pb2.SolverState.FromString((tmp_path / "s_iter_20.solverstate").read_bytes())
    assert (state.iter, state.current_step) == (20, 1)
    third = caffe.get_solver(str(path))
    third.restore(str(tmp_path / "s_iter_20.solverstate"))
    assert third.iter == 20
    for name, blobs in second.net.params.items():
        for mine, theirs in zip(blobs, third.net.params[name], strict=True):
            assert np.array_equal(mine.data, theirs.data), name
    third.step(1)
    assert np.isfinite(third.net.blobs["loss"].data)


def test_the_rate_falls_where_caffes_falls(colour, tmp_path):
    s = torch_engine.get_solver(
        solver(tmp_path, colour, stepvalue=[2, 4], lr_policy="multistep", gamma=0.1, base_lr=1.0)
    )
    rates = []
    for s.iter in range(6):
        rates.append(s.rate())
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


class TestRefused:
    def edited(self, folder, colour, old, new):
        path = solver(folder, colour)
        net = folder / "net.prototxt"
        assert old in net.read_text()
        net.write_text(net.read_text().replace(old, new, 1))
        return path

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('type: "ReLU"', 'type: "PReLU"', "relu1: the torch engine has no layer type PReLU"),
            (
                "bias_term: false",
                "bias_term: false group: 2",
                "conv1: the torch engine does not know group of ConvolutionParameter",
            ),
            (
                "mirror: true",
                "mirror: true scale: 0.1",
                "data: the torch engine does not know scale of TransformationParameter",
            ),
            ('type: "msra"', 'type: "msra" variance_norm: FAN_OUT', "does not know variance_norm of FillerParameter"),
            ('type: "msra"', 'type: "xavier"', "conv1 0: the torch engine does not know filler xavier"),
            ("operation: SUM", "operation: MAX", "Eltwise: the torch engine does not know operation"),
            ('bottom: "stack1/block1/conv1"', 'bottom: "nowhere"', "no layer before it has a top nowhere"),
        ],
    )
    def test_what_it_would_have_to_ignore(self, old, new, message, colour, tmp_path):
        with pytest.raises(UserError, match=message):
            torch_engine.get_solver(self.edited(tmp_path, colour, old, new))

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"type": "Adam"}, "type Adam"), ({"lr_policy": "poly"}, "lr_policy poly"), ({"clip_gradients": 1.0}, "clip_gradients"), ({"iter_size": 2}, "iter_size")],
    )  # fmt: skip
    def test_a_solver_that_it_does_not_know(self, options, message, colour, tmp_path):
        with pytest.raises(UserError, match=message):
            torch_engine.get_solver(solver(tmp_path, colour, **options))

    def test_a_caffemodel_of_another_shape(self, colour, tmp_path):
        s = torch_engine.get_solver(solver(tmp_path, colour))
        network = s.net.save()
        blob = next(x for x in network.layer if x.name == "fc").blobs[0]
        blob.shape.dim[:] = [5, 64]
        del blob.data[320:]
        (tmp_path / "other.caffemodel").write_bytes(network.SerializeToString())
        with pytest.raises(UserError, match=r"other.caffemodel: layer fc, blob 0 is 5x64, .* needs 10x64"):
            s.net.copy_from(tmp_path / "other.caffemodel")

    @pytest.mark.parametrize("name", ["s_iter_1.caffemodel", "s_iter_1.solverstate"])
    def test_a_truncated_file(self, name, colour, tmp_path):
        s = torch_engine.get_solver(solver(tmp_path, colour))
        s.step(1)
        s.snapshot()
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(UserError, match=f"{name}|damaged"):
            s.restore(str(tmp_path / "s_iter_1.solverstate"))

    def test_a_solverstate_of_another_network(self, colour, tmp_path):
        s = torch_engine.get_solver(solver(tmp_path, colour))
        state = caffe_pb2.SolverState(iter=3)
        (tmp_path / "x.solverstate").write_bytes(state.SerializeToString())
        with pytest.raises(UserError, match=r"x.solverstate has 0 blobs"):
            s.restore(str(tmp_path / "x.solverstate"))

    def test_without_pytorch_it_says_how_to_get_it(self, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *more: None if name == "torch" else real(name, *more)
        )
        with pytest.raises(UserError, match=r"make torch.*pip install '\.\[torch\]'"):
            torch_engine.require()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--engine", "torch", "--precision", "tf32", "--cpu"], ["--precision tf32", "fp32 or bf16"]),
            (["--precision", "bf16"], ["--precision bf16", "Caffe computes in fp32"]),
            (["--engine", "torch", "--gpu", "9"], ["--gpu 9"]),
            (["--engine", "jax"], ["--engine", "jax"]),
        ],
    )
    def test_a_wrong_argument_is_one_line(self, words, said):
        one_line(command(RUN, *words, "--dry-run"), *said)


# --- through the driver -------------------------------------------------------------------------------------------------------


WORDS = ["--experiment", "fashion-mnist-r14-r8", "--stage", "baseline", "--scale", "0.004", "--set", "batch=8"]
STAGE = "fashion-mnist/scale0.004-seed1/r8-baseline-net1+batch=8"


def start(runs, folder, engine):
    words = [*WORDS, "--data", folder, "--runs", runs, "--engine", engine, "--snapshot-seconds", "0.1"]
    return begin(RUN, *words)


def stopped_at_a_snapshot(process, stage, number):
    wait_for_a_snapshot(process, stage)
    assert process.poll() is None
    process.send_signal(number)
    process.communicate()


@pytest.fixture(scope="module")
def whole(fashion, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    finish(start(runs, fashion, "torch"))
    return runs / STAGE


@pytest.mark.slow
def test_a_whole_method_by_torch_and_its_table(fashion, tmp_path):
    words = [
        "--experiment",
        "fashion-mnist-r14-r8",
        "--scale",
        "0.0005",
        "--set",
        "batch=8",
        "--runs",
        tmp_path,
        "--data",
        fashion,
    ]
    command(RUN, *words, "--engine", "torch", "--method", "layerwise", check=0)
    record = records.read_record(tmp_path / "fashion-mnist/scale0.0005-seed1/r14-r8-layerwise-kd-net1+batch=8")
    assert record["engine"] == "torch" and record["versions"]["torch"]
    where = ["--experiment", "fashion-mnist-r14-r8", "--runs", tmp_path, "--out", tmp_path / "out"]
    done = command("python/make_tables.py", *where, check=0)
    assert "| layer-wise hints, then KD, engine torch, not the official images |" in done.stdout
    one_line(command(RUN, *words, "--method", "layerwise"), "was finished by engine torch, not caffe", "--runs")


@pytest.mark.slow
def test_killed_five_times_it_ends_in_the_same_bytes(fashion, whole, tmp_path):
    for _ in range(5):
        process = start(tmp_path, fashion, "torch")
        wait_for_a_snapshot(process, tmp_path / STAGE)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path, fashion, "torch"))
    for name in ("final.caffemodel", "log.jsonl"):
        assert sha256(tmp_path / STAGE / name) == sha256(whole / name), name


@pytest.mark.parametrize(("one", "other"), [("caffe", "torch"), ("torch", "caffe")])
def test_begun_by_one_engine_and_finished_by_the_other(one, other, fashion, tmp_path):
    stage = tmp_path / STAGE
    stopped_at_a_snapshot(start(tmp_path, fashion, one), stage, signal.SIGTERM)
    said = finish(start(tmp_path, fashion, other))
    assert "resumed at iteration" in said
    record = records.read_record(stage)
    assert record["engine"] == f"{one}+{other}" and record["sessions"] == 2 and record["Pc"]["last"] > 20


class TestExport:
    def export(self, form, weights, folder, out, *more):
        words = [
            "--experiment",
            "fashion-mnist-r14-r8",
            "--export",
            form,
            "--weights",
            weights,
            "--data",
            folder,
            "--out",
            out,
        ]
        return command("python/compare_torch.py", *words, *more)

    @pytest.mark.parametrize("form", ["safetensors", "onnx"])
    def test_a_trained_student_gives_caffes_answers(self, form, whole, fashion, tmp_path):
        done = self.export(form, whole / "final.caffemodel", fashion, tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
        about = json.loads((tmp_path / "student.json").read_text())
        assert about["Pc"] == records.read_record(whole)["Pc"]["last"] and about["test_images"] == 200
        assert about["largest_relative_difference_from_caffe"] < 1e-4
        shape = {"depth": 8, "width": 16, "channels": 1, "classes": 10, "shortcut": "A"}
        assert about["architecture"] == shape
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
        (tmp_path / "plain").touch()
        assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}  # what the umask allows

    def test_it_is_readable_and_needs_nothing_of_ours(self, whole, fashion, tmp_path):
        self.export("safetensors", whole / "final.caffemodel", fashion, tmp_path)
        script = (
            "import torch, safetensors.torch as s, student; m = student.ResNet(8, 16, 1, 10);"
            "m.load_state_dict(s.load_file('student.safetensors')); print(m.eval()(torch.zeros(3, 1, 28, 28)).shape)"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout == "torch.Size([3, 10])\n", done.stderr
        assert "hkd" not in (tmp_path / "student.py").read_text()

    def test_projections_too(self, colour, tmp_path):
        from hkd.engines import export

        e = experiments.experiment("cifar10-r14-r8", ("shortcut=projection", "batch=16", "base_lr=0.01"))
        stage = planned(e, "baseline", "baseline")
        (tmp_path / "net.prototxt").write_text(prototxt.text(stage.network(colour, 200), []))
        parameter = stage.solver(str(tmp_path / "net.prototxt"), str(tmp_path / "s"), 200)
        (tmp_path / "solver.prototxt").write_text(text_format.MessageToString(parameter))
        s = torch_engine.get_solver(tmp_path / "solver.prototxt")
        s.step(5)
        s.snapshot()
        _, checked = export.write(
            "safetensors", e, e.student, tmp_path / "s_iter_5.caffemodel", colour, tmp_path / "out"
        )
        assert checked.passes and checked.images == 200

    def test_a_teacher_is_exported_whole_or_refused(self, fashion, tmp_path):
        words = ["--experiment", "fashion-mnist-r14-r8", "--stage", "teacher", "--scale", "0.0005", "--set", "batch=8"]
        command(RUN, *words, "--data", fashion, "--runs", tmp_path, check=0)
        (weights,) = tmp_path.rglob("final.caffemodel")
        out = tmp_path / "out"
        one_line(self.export("safetensors", weights, fashion, out, "--stage", "kd"), "--stage kd", "says teacher")
        shutil.copy(weights, tmp_path / "alone.caffemodel")
        one_line(self.export("safetensors", tmp_path / "alone.caffemodel", fashion, out), "block2", "--stage")
        assert not out.exists()
        done = self.export("safetensors", weights, fashion, out)
        assert done.returncode == 0, done.stderr
        about = json.loads((out / "student.json").read_text())
        assert about["architecture"]["depth"] == 14
        assert about["Pc"] == records.read_record(weights.parent)["Pc"]["last"]

    def test_what_is_no_whole_student_is_refused(self, whole, fashion, tmp_path):
        network = caffe_pb2.NetParameter.FromString((whole / "final.caffemodel").read_bytes())
        kept = [layer for layer in network.layer if layer.name != "fc"]
        del network.layer[:]
        network.layer.extend(kept)
        (tmp_path / "cut.caffemodel").write_bytes(network.SerializeToString())
        one_line(self.export("onnx", tmp_path / "cut.caffemodel", fashion, tmp_path / "out"), "no layer fc")
        shutil.copy(whole / "final.caffemodel", tmp_path / "alone.caffemodel")
        one_line(
            self.export("onnx", tmp_path / "alone.caffemodel", fashion, tmp_path / "out", "--stage", "teacher"),
            "block2",
        )
        one_line(
            command(
                "python/compare_torch.py", "--export", "onnx", "--data", fashion, "--experiment", "fashion-mnist-r14-r8"
            ),
            "--weights",
        )


def test_bf16_is_recorded(fashion, tmp_path):
    words = [*WORDS, "--data", fashion, "--runs", tmp_path, "--engine", "torch", "--precision", "bf16"]
    command(RUN, *words, check=0, env={"OMP_NUM_THREADS": "1"})
    assert records.read_record(tmp_path / STAGE)["engine"] == "torch-bf16"
