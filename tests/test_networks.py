"""Every kind of network as it is written: what is in it, what learns, what each phase does to the images."""

import caffe
import pytest
from caffe.proto import caffe_pb2

from hkd import experiments, generated, networks, plans

TRAIN, TEST = caffe.TRAIN, caffe.TEST

# Layers with CUDA code in BVLC Caffe, .cu or through cuBLAS (Data copies to the GPU by itself).
ON_THE_GPU = {
    "Data", "Convolution", "BatchNorm", "Scale", "ReLU", "Eltwise", "Pooling", "InnerProduct", "Softmax", "SoftmaxWithLoss",
    "Accuracy", "EuclideanLoss", "Power", "Log", "Reduction", "Concat", "Crop", "Input",
}  # fmt: skip


def every_stage():
    for experiment in experiments.EXPERIMENTS.values():
        yield from generated.stages(experiment)


def network(stage):
    return stage.network("DATA", 10_000)


def layers(net, phase):
    return [x for x in net.layer if not x.include or x.include[0].phase == phase]


@pytest.mark.parametrize("stage", list(every_stage()), ids=lambda s: f"{s.experiment.dataset}-{s.stem}")
class TestEveryNetwork:
    def test_the_teacher_inside_uses_stored_statistics_and_does_not_learn(self, stage):
        for layer in network(stage).layer:
            if not layer.name.startswith("teacher/"):
                assert not any(p.lr_mult == 0 for p in layer.param)
                continue
            if layer.type == "BatchNorm":
                assert layer.batch_norm_param.use_global_stats
            blobs = {"Convolution": 1, "BatchNorm": 3, "Scale": 2, "InnerProduct": 2}.get(layer.type, 0)
            assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(0, 0)] * blobs

    def test_no_mirror_and_no_crop_in_the_test_phase(self, stage):
        train, test = (next(x for x in layers(network(stage), p) if x.type == "Data") for p in (TRAIN, TEST))
        assert (train.data_param.source, test.data_param.source) == ("DATA/train_lmdb", "DATA/test_lmdb")
        assert not test.transform_param.mirror and not test.transform_param.crop_size
        facts = stage.experiment.facts
        assert train.transform_param.mirror == stage.experiment.mirror
        assert train.transform_param.crop_size == (facts.size if facts.pad else 0)
        assert list(train.transform_param.mean_file) == list("DATA/mean_train.binaryproto" if facts.mean else "")
        assert list(test.transform_param.mean_file) == list("DATA/mean_test.binaryproto" if facts.mean else "")
        assert train.data_param.batch_size == stage.experiment.batch and test.data_param.batch_size == 100
        assert list(train.top) == list(test.top)

    def test_every_layer_has_cuda_code_and_a_name_of_its_own(self, stage):
        net = network(stage)
        assert {layer.type for layer in net.layer} <= ON_THE_GPU
        for phase in (TRAIN, TEST):
            names = [layer.name for layer in layers(net, phase)]
            assert len(names) == len(set(names))

    def test_the_network_is_cut_above_the_hint(self, stage):
        net = network(stage)
        step = stage.part.step
        stacks = {part for layer in net.layer for part in layer.name.split("/") if part.startswith("stack")}
        assert stacks == {f"stack{i}" for i in range(1, (step or 3) + 1)}
        assert any(layer.type == "InnerProduct" for layer in net.layer) == (step == 0)
        assert any(layer.type == "Accuracy" for layer in layers(net, TEST)) == (step == 0)
        assert not any(layer.type == "Accuracy" for layer in layers(net, TRAIN))

    def test_the_student_has_the_same_names_everywhere(self, stage):
        experiment = stage.experiment
        architecture = experiment.teacher if stage.kind == "teacher" else experiment.student
        whole = {x.name for x in networks.deploy(experiment, architecture).layer if x.type == "Convolution"}
        own = {x.name for x in network(stage).layer if x.type == "Convolution" and not x.name.startswith("teacher/")}
        assert own <= whole
        assert (own < whole) == (stage.part.step in (1, 2))

    def test_iterations_can_be_read_off_the_file_name(self, stage):
        assert stage.file_stem.endswith(f"-{stage.iterations // 1000}k")


def test_hints_join_the_ends_of_the_stacks():
    e = experiments.experiment("cifar10-r26-r14")
    for step in (1, 2, 3):
        loss = networks.hint(e, step, networks.Feed("D", 128, 100)).layer[-1]
        assert loss.type == "EuclideanLoss"
        assert list(loss.bottom) == [f"stack{step}/block2/sum", f"teacher/stack{step}/block4/sum"]


@pytest.mark.parametrize(
    ("changes", "weight"),
    [([], 5), (["lambda_kd=3"], 3), (["kd_tau_squared=true"], 45), (["kd_tau_squared=true", "tau=2"], 20)],
)
def test_the_weight_of_the_softened_term(changes, weight):
    e = experiments.experiment("cifar10-r26-r14", changes)
    net = networks.kd(e, networks.Feed("D", 128, 100))
    losses = {x.name: x.loss_weight[0] for x in net.layer if x.loss_weight}
    assert losses == {"hard": 1, "soft": weight}


def test_the_hard_term_is_softened_only_if_told_to():
    for changes, bottom in (([], "fc"), (["hard_tau=3"], "hard/logits")):
        net = networks.kd(experiments.experiment("cifar10-r26-r14", changes), networks.Feed("D", 128, 100))
        assert next(x for x in net.layer if x.name == "hard").bottom[0] == bottom


@pytest.mark.parametrize("stage", [s for s in every_stage() if s.part.needs_teacher], ids=lambda s: s.stem)
def test_the_teacher_gets_no_backward_pass(stage, fashion, colour, tmp_path):
    """Caffe itself, asked of each layer of a network on real LMDBs."""
    folder = fashion if stage.experiment.dataset == "fashion-mnist" else colour
    path = tmp_path / "net.prototxt"
    path.write_text(networks.text(stage.network(folder, 200), []))
    net = caffe.Net(str(path), caffe.TRAIN)
    net.forward()
    net.backward()
    learned = 0
    for name, blobs in net.params.items():
        moved = any(blob.diff.any() for blob in blobs)
        assert not (name.startswith("teacher/") and moved), name
        learned += moved
    assert learned
    frozen = [name for name in net.blobs if name.startswith("teacher/")]
    assert frozen and not any(net.blobs[name].diff.any() for name in frozen)


def test_prototxt_survives_a_round_trip():
    stage = plans.stage(experiments.experiment("cifar10-r26-r14"), "layerwise", "kd")
    net = network(stage)
    assert networks.parse(networks.text(net, stage.header())) == net
    assert isinstance(net, caffe_pb2.NetParameter)
