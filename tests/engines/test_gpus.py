"""The GPU path as far as it goes without a GPU: which one is chosen, what is said where there is none, code and memory
that a card must have, the networks against Caffe's list of layers with CUDA code, and the shares of several GPUs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import caffe
import pytest
from google.protobuf import text_format

from conftest import ROOT, command, one_line
from hkd.base.cli import UserError
from hkd.engines import choice, devices, memory, nvidia, parallel
from hkd.networks import prototxt
from hkd.paper import experiments
from hkd.stages import committed, records
from hkd.stages.stage import planned
from hkd.training import driver

RUN = "python/run_stage.py"


@pytest.fixture(scope="session")
def sources():
    """{path: text} of the layers in the archive that docker/build_caffe.sh compiles."""
    archive = Path(os.environ.get("CAFFE_SDIST") or ROOT / "build/caffe/brocolli-caffe-3.0.0.tar.gz")
    if not archive.exists():
        pytest.skip(f"no {archive} (make setup leaves it there, CAFFE_SDIST names another)")
    wanted = re.compile(r"[^/]+/((?:src|include)/caffe/(?:layers/[^/]+|layer_factory\.cpp))$")
    with tarfile.open(archive) as tar:
        return {
            found.group(1): tar.extractfile(member).read().decode()
            for member in tar
            if member.isfile() and (found := wanted.match(member.name))
        }


@pytest.fixture(scope="session")
def with_cuda(sources):
    """The types of layers that have CUDA code of their own, of a class that they derive from, or by cuDNN."""

    def found(pattern, suffix):
        return {match for path, text in sources.items() if path.endswith(suffix) for match in re.findall(pattern, text)}

    compiled = found(r"INSTANTIATE_LAYER_GPU_(?:FUNCS|FORWARD)\((\w+)\)", ".cu")
    bases = dict(found(r"class (\w+) *: *public (\w+)<Dtype>", ".hpp"))
    types = found(r"REGISTER_LAYER_(?:CLASS|CREATOR)\((\w+)", ".cpp")

    def has_code(name):
        return name in compiled or (name in bases and has_code(bases[name]))

    return {name for name in types if has_code(f"{name}Layer") or has_code(f"CuDNN{name}Layer")}


def every_stage():
    for experiment in experiments.EXPERIMENTS.values():
        yield from committed.stages(experiment)


# --- what the networks are made of ------------------------------------------------------------------------------------


def test_the_archive_knows_layers_with_and_without_cuda_code(with_cuda):
    assert {"Data", "Convolution", "SoftmaxWithLoss", "BatchNorm"} <= with_cuda
    assert with_cuda.isdisjoint({"Python", "ArgMax", "MultinomialLogisticLoss", "DummyData", "Input"})


@pytest.mark.parametrize("stage", list(every_stage()), ids=lambda s: f"{s.experiment.dataset}-{s.stem}")
def test_every_layer_of_every_network_has_cuda_code(stage, with_cuda):
    network = stage.network("DATA", 10_000)
    # Constants are filled once, before the first iteration (dummy_data_layer.cpp); a Parameter hands on its blob, wherever that
    # is (parameter_layer.hpp).
    constant = {
        x.name
        for x in network.layer
        if (x.type == "DummyData" and all(f.type == "constant" for f in x.dummy_data_param.data_filler))
        or x.type == "Parameter"
    }
    on_the_cpu = {x.name: x.type for x in network.layer if x.type not in with_cuda and x.name not in constant}
    assert on_the_cpu == dict.fromkeys(prototxt.without_cuda(network), "Python")


def test_a_python_layer_is_named_as_one_of_the_cpu():
    network = prototxt.parse('layer { name: "relu" type: "ReLU" } layer { name: "fsp" type: "Python" }')
    assert prototxt.without_cuda(network) == ["fsp"]


# --- which device ---------------------------------------------------------------------------------------------------------


class TestChoice:
    @pytest.mark.parametrize(
        ("count", "gpu", "one_gpu", "words"),
        [
            (None, 0, "", ["--gpu 0: this Caffe was built without CUDA", "make setup", "--cpu"]),
            (None, "all", "", ["--gpu all: this Caffe was built without CUDA"]),
            (2, 2, "", ["--gpu 2", "shows 2 of them, numbered from 0", "--cpu"]),
            (1, "all", "", ["--gpu all", "shows 1 GPU, 2 or more", "--gpu 0"]),
            (4, "all", "built without NCCL: do so", ["--gpu all: built without NCCL: do so, or use --gpu N"]),
        ],
    )
    def test_what_cannot_be_had(self, count, gpu, one_gpu, words):
        with pytest.raises(UserError) as error:
            devices.choose(count, "this Caffe", "run make setup", gpu, threads=2, one_gpu=one_gpu)
        assert all(word in str(error.value) for word in words), error.value

    @pytest.mark.parametrize(
        ("count", "asked", "chosen"),
        [
            (4, {}, (0,)),
            (4, {"gpu": 3}, (3,)),
            (4, {"gpu": "all"}, (0, 1, 2, 3)),
            (4, {"cpu": True}, ()),
            (0, {}, ()),
            (None, {}, ()),
        ],
    )
    def test_what_can(self, count, asked, chosen):
        assert devices.choose(count, "this Caffe", "", threads=2, **asked).gpus == chosen

    def test_what_is_printed_and_recorded(self):
        two = devices.Device((0, 1), 2, "--gpu all")
        assert str(two) == "GPUs 0, 1 (--gpu all)" and str(devices.Device((1,), 2, "--gpu")) == "GPU 1 (--gpu)"
        assert choice.label("caffe", "fp32", 2) == "caffe-2gpu" and choice.label("torch", "bf16") == "torch-bf16"
        assert [choice.deterministic("caffe", devices.Device(g, 2, "")) for g in ((), (0,), (0, 1))] == [1, 1, 0]
        assert not choice.deterministic("torch", devices.Device((0,), 2, ""))

    @pytest.mark.parametrize(
        ("made", "asked", "way"),
        [
            ("caffe-2gpu", "caffe", "--gpu all on 2 GPUs"),
            ("caffe", "caffe-2gpu", "--engine caffe on one GPU or the CPU"),
            ("torch-bf16+caffe", "caffe", "--engine torch --precision bf16"),
        ],
    )
    def test_a_stage_finished_otherwise_is_not_taken_for_it(self, made, asked, way, tmp_path):
        kept = next((ROOT / "results/measured/records/torch").rglob("record.json")).parent
        records.write_record(tmp_path, {**records.read_record(kept), "engine": made})
        with pytest.raises(UserError, match=f"finished by engine {re.escape(made)}, not {asked}.*{way}$"):
            driver.refuse_other_engine(tmp_path, asked)
        driver.refuse_other_engine(tmp_path, made)

    def test_a_word_that_is_no_gpu(self):
        one_line(command(RUN, "--gpu", "first", "--dry-run"), "--gpu", "a number or all", "first")

    def test_one_gpu_for_the_torch_engine(self):
        pytest.importorskip("torch")
        done = command(RUN, "--gpu", "all", "--engine", "torch", "--dry-run")
        one_line(done, "--gpu all", "built without CUDA" if choice.gpus("torch") is None else "on one GPU")


def test_without_a_driver_the_reason_is_said():
    if not nvidia.why_none():
        pytest.skip("an NVIDIA GPU is here")
    assert re.match(r"no NVIDIA driver is here|NVIDIA's driver (says|shows)", nvidia.why_none())
    with pytest.raises(nvidia.NoGpu):
        nvidia.describe(0)


def test_the_driver_is_asked_by_names_that_it_has():
    nvcc = shutil.which("nvcc") or pytest.skip("no CUDA toolkit: no cuda.h to compare with")
    said = subprocess.run([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null"], capture_output=True, text=True).stderr
    header = Path(re.search(r"^#\$ TOP=(.*)$", said, re.M).group(1)) / "include/cuda.h"
    if not header.exists():
        header = Path("/usr/include/cuda.h")
    declared = header.read_text()
    for name in set(re.findall(r"driver\.(cu\w+)", Path(nvidia.__file__).read_text())):
        assert re.search(rf"\b{name}\b", declared), name
    for name, value in (("MAJOR", nvidia.MAJOR), ("MINOR", nvidia.MINOR)):
        assert re.search(rf"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{name} = {value}\b", declared)


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["75-real", "80-real", "90"], (7, 5), True),
        (["75-real", "80-real", "90"], (8, 9), True),  # machine code of 8.0
        (["75-real", "80-real", "90"], (12, 0), True),  # PTX of 9.0
        (["75-real", "80-real", "90"], (7, 0), False),
        (["75-real", "80-real"], (9, 0), False),
        (["86-real"], (8, 0), False),
        (["70-virtual"], (12, 1), True),
        (["100"], (10, 3), True),
    ],
)
def test_which_cards_run_the_code(architectures, capability, runs):
    assert nvidia.runs_on(architectures, capability) == runs
    if not runs:
        number = "".join(map(str, capability))
        with pytest.raises(UserError, match=f"architecture {number}.*CAFFE_CUDA_ARCHITECTURES={number}"):
            nvidia.check_code(0, nvidia.Gpu("a card", capability, 0, 0), architectures)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_what_a_small_network_takes_counted_by_hand():
    network = prototxt.parse(
        """
        layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { batch_size: 8 } }
        layer { name: "fixed" type: "Convolution" bottom: "data" top: "fixed" param { lr_mult: 0 }
                convolution_param { num_output: 2 kernel_size: 3 pad: 1 bias_term: false } }
        layer { name: "learns" type: "InnerProduct" bottom: "fixed" top: "fc" inner_product_param { num_output: 10 } }
        layer { name: "relu" type: "ReLU" bottom: "fc" top: "fc" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
        """
    )
    facts = experiments.experiment("fashion-mnist-r14-r8").facts
    assert (facts.channels, facts.size) == (1, 28)

    def floats(batch):
        image = 28 * 28
        data = batch * image + batch + batch * 2 * image + batch * 10 + 1  # data, label, fixed, fc, loss
        gradients = batch * 10 + 1  # fc, loss
        weights = 2 * 9 + 4 * (10 * 2 * image + 10)  # with gradient, momentum and update where it learns
        return data + gradients + weights + 9 * image  # one image as columns

    assert memory.of_phase(network, facts, caffe.TRAIN, 1) == 4 * floats(8)
    assert memory.of_phase(network, facts, caffe.TRAIN, 2) == 4 * floats(4)


MEASURED = """
import sys, re
import caffe
from hkd.engines import devices
from hkd.networks import prototxt
from hkd.paper import experiments
from hkd.stages.stage import planned

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) * 1024

caffe.set_mode_cpu()
experiment, method, kind = sys.argv[1:]
stage = planned(experiments.experiment(experiment), method, kind)
network = stage.network("DATA", 10_000)
nets = [prototxt.built(network, stage.experiment.facts, phase) for phase in (caffe.TRAIN, caffe.TEST)]
before = resident()
nets[0].forward()
nets[0].backward()
nets[1].forward()
taken = resident() - before
if "cpu-batch-norm-in-one-pass.patch" in devices.caffe_build()["patches"]:  # has no use for temp_, the GPU code has
    for net in nets:
        for i, layer in enumerate(net.layers):
            taken += 4 * net.blobs[net._blob_names[net._bottom_ids(i)[0]]].count if layer.type == "BatchNorm" else 0
print(taken)
"""


@pytest.mark.parametrize("names", [("fashion-mnist-r14-r8", "kd", "kd"), ("cifar10-r14-r8", "baseline", "baseline")])
def test_the_estimate_is_what_an_iteration_takes_or_a_little_less(names):
    """On the CPU the blobs are the same. momentum, update and the weights themselves are not in this measurement, BLAS
    and what the allocator keeps are."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED, *names], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    stage = planned(experiments.experiment(names[0]), *names[1:])
    assert 0.8 < memory.of_training(stage, 10_000) / int(done.stdout) < 1.1


def test_counting_says_nothing():
    code = (
        "import sys; from hkd.engines import memory; from hkd.paper import experiments; from hkd.stages.stage import planned; "
        "stage = planned(experiments.experiment('fashion-mnist-r14-r8'), 'kd', 'kd'); "
        "print(memory.of_training(stage, 10_000)); print('after', file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python"), "GLOG_minloglevel": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert int(done.stdout) > 0 and done.stderr == "after\n"


# --- several GPUs -------------------------------------------------------------------------------------------------------


RANK = """
import json, sys
import caffe
from hkd.engines import devices

net_file, rank, gpus = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
devices.take_part(rank, gpus)
net = caffe.Net(net_file, caffe.TRAIN)
for _ in range(3):
    net.forward(end="data")
    print(json.dumps([net.blobs["data"].data.sum(axis=(1, 2, 3)).tolist(), net.blobs["label"].data.tolist()]))
"""


def test_the_shares_of_a_batch_are_the_batch(fashion, tmp_path):
    """MNIST's format has no crop and no mirror: image for image the same."""
    stage = planned(experiments.experiment("fashion-mnist-r14-r8", ["batch=16"]), "baseline", "baseline")
    whole = tmp_path / "net.prototxt"
    whole.write_text(prototxt.text(stage.network(fashion, 200), []))

    def batches(net_file, rank, gpus):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
        words = [sys.executable, "-c", RANK, str(net_file), str(rank), str(gpus)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return [list(zip(*json.loads(line), strict=True)) for line in done.stdout.splitlines()]

    one = batches(whole, 0, 1)
    shares = [batches(parallel.share_of(whole, rank, 2), rank, 2) for rank in (0, 1)]
    assert [len(images) for images in one] == [16] * 3
    for k in range(3):
        assert shares[0][k] == one[k][0::2] and shares[1][k] == one[k][1::2]


def test_a_share_divides_the_training_batch_alone():
    stage = planned(experiments.experiment("cifar10-r14-r8"), "kd", "kd")
    network = stage.network("DATA", 10_000)
    divided = parallel.share(network, 4)
    batches = {x.include[0].phase: x.data_param.batch_size for x in divided.layer if x.type == "Data"}
    assert batches == {caffe.TRAIN: stage.experiment.batch // 4, caffe.TEST: 100}
    for x in divided.layer:
        if x.type == "Data" and x.include[0].phase == caffe.TRAIN:
            x.data_param.batch_size *= 4
    assert text_format.MessageToString(divided) == text_format.MessageToString(network)


@pytest.mark.parametrize(
    ("batch", "count", "words"), [(128, 3, ["128", "3 GPUs", "2 of them", "batch=126"]), (4, 8, ["4 of them"])]
)
def test_a_batch_that_cannot_be_divided(batch, count, words):
    with pytest.raises(UserError) as error:
        parallel.check_batch(batch, count)
    assert all(word in str(error.value) for word in words), error.value
    parallel.check_batch(batch, 2)


class TestSupervision:
    @staticmethod
    def children(*scripts):
        return [subprocess.Popen(["sh", "-c", script]) for script in scripts]

    def test_one_that_fails_ends_all(self):
        children = self.children("exec sleep 60", "sleep 0.2; exit 3", "exec sleep 60")
        began = time.monotonic()
        assert parallel.supervise(children) == (1, 3)
        assert time.monotonic() - began < 10 and all(child.poll() is not None for child in children)

    def test_the_first_ends_those_that_wait_for_it(self):
        children = self.children("sleep 0.2; exit 143", "exec sleep 60")
        assert parallel.supervise(children) == (0, 143) and children[1].poll() == -9

    def test_one_that_is_through_earlier_is_no_failure(self):
        assert parallel.supervise(self.children("sleep 0.5", "true")) == (0, 0)
