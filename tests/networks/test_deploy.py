"""The deploy networks in hands other than Caffe's."""

import json
from dataclasses import replace

import caffe
import cv2
import numpy as np
import pytest

from conftest import ROOT, command
from hkd.networks import deploy, prototxt, resnet
from hkd.paper import experiments
from lmdbs import read_lmdb

EXPERIMENT = "fashion-mnist-r14-r8"


@pytest.fixture(scope="module")
def student(fashion, tmp_path_factory):
    """The folder of a student that Caffe has trained."""
    runs = tmp_path_factory.mktemp("runs")
    words = ["--experiment", EXPERIMENT, "--stage", "baseline", "--scale", "0.001", "--set", "batch=8"]
    command("python/run_stage.py", *words, "--data", fashion, "--runs", runs, check=0)
    (record,) = runs.rglob("record.json")
    return record.parent


def test_opencv_gives_caffes_answers(student, fashion):
    answers = np.load(student / "test_scores.npy")
    images, labels = read_lmdb(fashion / "test_lmdb")
    files = ROOT / "prototxt/fashion-mnist/r8-deploy.prototxt", student / "final.caffemodel"
    net = cv2.dnn.readNetFromCaffe(*map(str, files))
    net.setInput(images.astype(np.float32))
    scores = net.forward("fc")
    np.testing.assert_allclose(scores, answers["scores"], atol=1e-4 * np.abs(answers["scores"]).max())
    Pc = 100 * (scores.argmax(1) == labels).mean()
    assert Pc == pytest.approx(json.loads((student / "record.json").read_text())["Pc"]["last"])


def test_cropping_by_slices_gives_the_same_bytes(student, fashion, tmp_path):
    images, _ = read_lmdb(fashion / "test_lmdb")
    e = experiments.experiment(EXPERIMENT)
    found = []
    for sliced in (False, True):
        n = caffe.NetSpec()
        n.data = caffe.layers.Input(shape={"dim": list(images.shape)})
        resnet.logits(n, e, replace(resnet.student(e), sliced=sliced), e.student)
        path = tmp_path / f"{sliced}.prototxt"
        path.write_text(str(n.to_proto()))
        net = caffe.Net(str(path), str(student / "final.caffemodel"), caffe.TEST)
        net.blobs["data"].data[...] = images
        found.append(net.forward()["fc"].tobytes())
    assert found[0] == found[1]


def test_every_deploy_network_has_only_layers_that_others_read():
    common = {"Input", "Convolution", "BatchNorm", "Scale", "ReLU", "Eltwise", "Pooling", "InnerProduct", "Softmax"}
    for e in experiments.EXPERIMENTS.values():
        kinds = {layer.type for layer in deploy.network(e, e.student).layer}
        assert kinds == common | {"Slice", "Silence", "Power", "Concat"}, prototxt.text(
            deploy.network(e, e.student), []
        )
