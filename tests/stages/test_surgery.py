"""Weights from stage to stage: what is copied, dropped and left, and every refusal by the layer's name."""

from dataclasses import replace

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.engines import choice
from hkd.networks import plain, resnet
from hkd.networks.feed import Feed
from hkd.paper import experiments
from hkd.paper.architecture import Architecture
from hkd.stages import surgery
from hkd.stages.stage import planned
from hkd.stages.surgery import Source

E = experiments.experiment("cifar10-r14-r8")


def weights(path, network, facts=E.facts, prefix=""):
    """A caffemodel of random weights for every layer of `network` whose name starts with `prefix`."""
    rng = np.random.default_rng(0)
    model = caffe_pb2.NetParameter()
    for name, shapes in choice.parameter_shapes("caffe", network, facts).items():
        if name.startswith(prefix):
            layer = model.layer.add(name=name)
            for shape in shapes:
                blob = layer.blobs.add(data=rng.normal(size=int(np.prod(shape))))
                blob.shape.dim.extend(shape)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def teacher(tmp_path):
    return weights(tmp_path / "teacher.caffemodel", plain.network(E, E.teacher, Feed("D", 1, 1)))


def stage(kind, step=None, method="layerwise"):
    return planned(E, method, kind, step)


def transplant(target, teacher, student=None):
    sources, fresh = surgery.declared(target, lambda parent: parent.folder(""))
    paths = {resnet.TEACHER: teacher, "": student}
    sources = [Source(paths[s.prefix], s.prefix, s.drops) for s in sources]
    network = target.network("D", 100)
    return surgery.transplant(network, choice.parameter_shapes("caffe", network, E.facts), sources, fresh)


def test_hint_step_1_copies_the_teacher_below_h1_and_leaves_the_student(teacher):
    init, report = transplant(stage("hint", 1), teacher)
    assert {layer.name for layer in init.layer} == set(report.copied)
    assert all(
        name.startswith(("teacher/conv1", "teacher/bn1", "teacher/scale1", "teacher/stack1/")) for name in report.copied
    )
    assert all(name.startswith(("stack2/", "stack3/", "fc")) for name in report.dropped)
    assert (
        set(report.fresh) == {n for n in report.fresh if n.startswith(("conv1", "bn1", "scale1", "stack1/"))}
        and report.fresh
    )


def test_values_are_copied_blob_by_blob(teacher):
    init, _ = transplant(stage("hint", 1), teacher)
    source = {layer.name: layer for layer in surgery.read(teacher).layer}
    for layer in init.layer:
        assert list(layer.blobs) == list(source[layer.name.removeprefix("teacher/")].blobs)


def test_hint_step_2_starts_from_step_1(tmp_path, teacher):
    student = weights(tmp_path / "hint1.caffemodel", stage("hint", 1).network("D", 100))
    init, report = transplant(stage("hint", 2), teacher, student)
    assert {"conv1", "stack1/block1/conv1", "teacher/stack2/block2/conv2"} <= set(report.copied)
    assert set(report.fresh) == {n for n in report.fresh if n.startswith("stack2/")}
    copied = {layer.name: layer for layer in init.layer}
    trained = {layer.name: layer for layer in surgery.read(student).layer}
    assert list(copied["conv1"].blobs) == list(trained["conv1"].blobs)


def test_kd_after_the_hints_leaves_the_fully_connected_layer_alone(tmp_path, teacher):
    student = weights(tmp_path / "hint3.caffemodel", stage("hint", 3).network("D", 100))
    _, report = transplant(stage("kd"), teacher, student)
    assert set(report.fresh) == {"fc"} and "teacher/fc" in report.copied
    _, report = transplant(stage("kd", method="kd"), teacher)
    assert not any(name.startswith("teacher/") for name in report.fresh) and {"conv1", "fc"} <= set(report.fresh)


def test_the_growing_networks_get_a_classifier_of_their_own_at_every_step(tmp_path, teacher):
    grown = weights(tmp_path / "grow1.caffemodel", stage("grow", 1, "sl-resnet").network("D", 100))
    _, report = transplant(stage("grow", 2, "sl-resnet"), teacher, grown)
    assert set(report.dropped) == {"fc"} and "stack1/block1/conv1" in report.copied
    assert set(report.fresh) == {n for n in report.fresh if n.startswith(("stack2/", "fc"))} and "fc" in report.fresh
    grown = weights(tmp_path / "grow3.caffemodel", stage("grow", 3, "sl-resnet").network("D", 100))
    for last in (stage("finetune", None, "sl-resnet"), stage("kd", None, "sl-resnet-kd")):
        _, report = transplant(last, teacher, grown)
        assert set(report.dropped) == set(report.fresh) == {"fc"} and "stack3/block1/conv1" in report.copied


def test_the_last_growing_network_may_keep_its_classifier(tmp_path, teacher):
    kept = replace(experiments.experiment("cifar10-r14-r8"), sl_fc="kept")
    grown = weights(tmp_path / "grow3.caffemodel", stage("grow", 3, "sl-resnet").network("D", 100))
    finetune, kd = (planned(kept, *x) for x in (("sl-resnet", "finetune"), ("sl-resnet-kd", "kd")))
    _, report = transplant(finetune, teacher, grown)
    assert not report.fresh and not report.dropped and "fc" in report.copied
    _, report = transplant(kd, teacher, grown)
    assert not report.fresh and {"fc", "teacher/fc"} <= set(report.copied)
    assert finetune.name == "r8-sl-resnet-finetune-net1+sl_fc=kept" and kd.name == "r14-r8-sl-resnet-kd-net1+sl_fc=kept"
    assert finetune.parents["student"].name == "r8-sl-resnet-grow3", "the growing ones are the same"


def test_after_one_middle_pair_the_third_stack_is_left_to_its_fillers(tmp_path, teacher):
    student = weights(tmp_path / "hint.caffemodel", stage("hint", None, "hint-kd").network("D", 100))
    _, report = transplant(stage("kd", None, "hint-kd"), teacher, student)
    assert {name.split("/")[0] for name in report.fresh} == {"stack3", "fc"}


def test_a_regressor_is_dropped_after_its_step(tmp_path):
    e = experiments.experiment("cifar10-r26w32-r14")
    teacher = weights(tmp_path / "t.caffemodel", plain.network(e, e.teacher, Feed("D", 1, 1)))
    first, second = (planned(e, "layerwise", "hint", step) for step in (1, 2))
    _, report = transplant(first, teacher)
    assert "regressor1" in report.fresh
    student = weights(tmp_path / "hint1.caffemodel", first.network("D", 100))
    _, report = transplant(second, teacher, student)
    assert "regressor1" in report.dropped and "regressor2" in report.fresh and "conv1" in report.copied


def test_every_blob_is_reported(tmp_path, teacher):
    _, report = transplant(stage("hint", 1), teacher)
    lines = list(report.lines())
    assert len(lines) == len(report.copied) + len(report.dropped) + len(report.fresh)
    assert any(line.startswith("copied   teacher/conv1  16x3x3x3  from ") for line in lines)
    assert any(line.startswith("dropped  fc  10x64 10 ") for line in lines)
    assert any(line.startswith("filler   conv1  16x3x3x3") for line in lines)


def broken(path, change):
    model = surgery.read(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def layer(model, name):
    return next(x for x in model.layer if x.name == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.layer.remove(layer(m, "stack1/block2/conv1")),
            "no source has weights for layer teacher/stack1/block2/conv1",
        ),
        (lambda m: m.layer.add(name="hint9", blobs=layer(m, "conv1").blobs), "layer hint9 has no place"),
        (lambda m: layer(m, "conv1").blobs[0].shape.dim.__setitem__(0, 8), "layer conv1 is 8x3x3x3, .* needs 16x3x3x3"),
        (lambda m: m.layer.add(name="conv1", blobs=layer(m, "conv1").blobs), "teacher/conv1 was copied from"),
        (lambda m: layer(m, "bn1").blobs.pop(), "layer bn1 is 16 16, .* needs 16 16 1"),
    ],
    ids=["missing", "undeclared", "shape", "twice", "blobs"],
)
def test_what_was_not_declared_is_an_error_that_names_the_layer(teacher, change, message):
    with pytest.raises(UserError, match=message):
        transplant(stage("hint", 1), broken(teacher, change))


def test_a_student_of_another_width_is_refused_by_shape(tmp_path):
    wide = replace(E, teacher=Architecture(14, 32))
    path = weights(tmp_path / "w.caffemodel", plain.network(wide, wide.teacher, Feed("D", 1, 1)))
    with pytest.raises(UserError, match="layer conv1 is 32x3x3x3"):
        transplant(stage("hint", 1), path)


def test_a_file_that_is_missing_or_no_caffemodel(tmp_path):
    with pytest.raises(UserError, match="is missing: train that stage first"):
        surgery.read(tmp_path / "none.caffemodel")
    (tmp_path / "torn.caffemodel").write_bytes(b"\x0a\xff\xff\xff\xff\xff")
    with pytest.raises(UserError, match="no caffemodel, or a torn one"):
        surgery.read(tmp_path / "torn.caffemodel")
