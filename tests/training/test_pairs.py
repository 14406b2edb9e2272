"""Teacher and student on SVHN and on Tiny-ImageNet's 64 x 64 images of 200 classes: trained on real ones."""

import importlib.util
import json
import zipfile

import caffe
import numpy as np
import pytest
from scipy.io import loadmat

from conftest import command, few_of_tiny_imagenet, official, write_svhn, write_zip
from hkd.engines import choice
from hkd.networks import deploy, prototxt
from hkd.paper import datasets, experiments, methods
from hkd.stages.stage import lineage, planned
from nets import weights

RUN = "python/run_stage.py"
NAMES = {"svhn": "svhn-r14-r8", "tiny-imagenet": "tiny-imagenet-r14-r8"}
LAST = {"kd": "kd", "layerwise": "kd", "fsp": "finetune", "dense-flow": "finetune"}


def build(dataset, source, folder):
    out = folder / dataset
    command("data_tools/make_lmdb.py", "--dataset", dataset, "--source", source, "--out", out, check=0)
    return out


@pytest.fixture(scope="module")
def svhn(tmp_path_factory):
    """500 + 100 of the official test images."""
    folder, whole = tmp_path_factory.mktemp("svhn"), loadmat(official("svhn_test_first4000_32x32.mat"))
    images, digits = whole["X"].transpose(3, 2, 0, 1)[:600], whole["y"].ravel()[:600] % 10
    return build("svhn", write_svhn(folder / "source", images, digits, 500), folder)


@pytest.fixture(scope="module")
def real_tiny_imagenet(tmp_path_factory):
    """A training image of each class and 4 validation images, of the official ones."""
    folder, top = tmp_path_factory.mktemp("tiny"), "tiny-imagenet-200/"
    with zipfile.ZipFile(official("tiny-imagenet-200-small.zip")) as archive:
        files = {name.removeprefix(top): archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    kept = few_of_tiny_imagenet(files, 4)
    return build("tiny-imagenet", write_zip(folder / "tiny-imagenet-200.zip", kept), folder)


@pytest.mark.parametrize("dataset", NAMES)
@pytest.mark.parametrize("method", [*LAST, "sl-resnet"])
def test_caffe_builds_every_network_of_its_size(dataset, method):
    e = experiments.named(NAMES[dataset])
    last = methods.METHODS[method][-1]
    for stage in lineage(planned(e, method, last.kind)):
        shapes = choice.parameter_shapes("caffe", stage.network("DATA", e.facts.test_images), e.facts)
        if stage.declared.classifies:
            width = stage.learner.widths[stage.learner_end[0] - 1]
            assert shapes["fc"] == [(e.facts.classes, width), (e.facts.classes,)]


@pytest.mark.parametrize("shortcut", ["A", "projection"])
@pytest.mark.parametrize(("dataset", "sizes"), [("svhn", (32, 16, 8)), ("tiny-imagenet", (64, 32, 16))])
def test_the_maps_halve_and_global_pooling_takes_any_size(dataset, sizes, shortcut, tmp_path):
    e = experiments.experiment(NAMES[dataset], [f"shortcut={shortcut}"])
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt.text(deploy.network(e, e.student), []))
    net = caffe.Net(str(path), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=net.blobs["data"].data.shape)
    net.forward()
    for i, (width, size) in enumerate(zip(e.student.widths, sizes, strict=True), start=1):
        assert net.blobs[f"stack{i}/block1/sum"].data.shape == (1, width, size, size)
    assert net.blobs["pool"].data.shape == (1, e.student.widths[-1], 1, 1)
    last = net.blobs["stack3/block1/sum"].data
    np.testing.assert_allclose(net.blobs["pool"].data[0, :, 0, 0], last[0].mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
    assert net.blobs["prob"].data.shape == (1, e.facts.classes) and net.blobs["prob"].data.sum() == pytest.approx(
        1, 1e-4
    )


def test_only_images_that_look_the_same_in_a_mirror_are_mirrored():
    mirrored = {e.dataset: e.mirror for e in experiments.EXPERIMENTS.values()}
    assert mirrored == {
        "cifar10": True, "cifar100": True, "tiny-imagenet": True, "svhn": False, "mnist": False, "fashion-mnist": False,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dataset", NAMES)
def test_methods_trained_on_real_images(dataset, request, tmp_path):
    """An iteration a stage of a batch of two; every stage of four methods."""
    folder = request.getfixturevalue({"svhn": "svhn", "tiny-imagenet": "real_tiny_imagenet"}[dataset])
    words = ("--experiment", NAMES[dataset], "--scale", "0.00001", "--set", "batch=2", "--set", "fsp_lr=1e-6")
    for method, kind in LAST.items():
        done = command(RUN, *words, "--method", method, "--stage", kind, "--data", folder, "--runs", tmp_path, check=0)
        assert "Pc " in done.stdout.splitlines()[-1]
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/*/*/record.json")]
    assert len(records) == len({r["stage"] for r in records}) == 1 + 1 + 4 + 2 + 4
    assert all(np.isfinite(r["test_loss"]) and not r["official_data"] for r in records)
    facts = datasets.dataset(dataset)
    for path in tmp_path.glob("*/*/*-net1*/final.caffemodel"):
        assert weights(path)["fc"].shape == (
            facts.classes * (1 + experiments.named(NAMES[dataset]).student.widths[-1]),
        )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: make torch")
@pytest.mark.parametrize(("method", "kind", "step"), [("kd", "kd", None), ("dense-flow", "fsp", 3)])
def test_the_torch_engine_gives_caffes_numbers_at_64_pixels(method, kind, step, tiny_imagenet):
    from hkd.engines import parity

    e = experiments.experiment("tiny-imagenet-r14-r8", ["batch=2"])
    found = parity.compare(
        planned(e, method, kind, step), tiny_imagenet, datasets.read_manifest(tiny_imagenet, e.facts), iterations=1
    )
    assert found and not [d for d in found if not d.passes]
