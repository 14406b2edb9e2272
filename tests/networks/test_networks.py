"""Every kind of network as it is written: what is in it, what learns, what each phase does to the images."""

import functools

import caffe
import pytest
from caffe.proto import caffe_pb2

from hkd.networks import deploy, hint, kd, losses, prototxt
from hkd.networks.feed import Feed
from hkd.paper import experiments
from hkd.stages import committed
from hkd.stages.stage import planned

TRAIN, TEST = caffe.TRAIN, caffe.TEST


def every_stage():
    for experiment in experiments.EXPERIMENTS.values():
        yield from committed.stages(experiment)
    for name in ("cifar10-r14-r8", "cifar10-r26w32-r14", "mnist-r32-r8"):
        yield planned(experiments.experiment(name), "hint-dynamic", "dynamic")


@functools.cache
def network(stage):
    return stage.network("DATA", 10_000)


CUT_ABOVE = {
    "hint-kd-hint": 2, "fitnet-hint": 2, "layerwise-hint1": 1, "layerwise-hint2": 2, "sl-resnet-grow1": 1,
    "sl-resnet-grow2": 2, "dense-flow-fsp1": 1, "dense-flow-fsp2": 2,
}  # fmt: skip


def last_stack(stage):
    """The stack that its networks end with: 3 but for the stages of CUT_ABOVE."""
    return next((stack for name, stack in CUT_ABOVE.items() if stage.stem.endswith(f"-{name}")), 3)


def layers(net, phase):
    return [x for x in net.layer if not x.include or x.include[0].phase == phase]


@pytest.mark.parametrize("stage", list(every_stage()), ids=lambda s: f"{s.experiment.dataset}-{s.stem}")
class TestEveryNetwork:
    def test_the_teacher_inside_uses_stored_statistics_and_does_not_learn(self, stage):
        for layer in network(stage).layer:
            if not layer.name.startswith("teacher/"):
                # The meta-weight network learns by the driver's meta step, not by the solver.
                not_the_solvers = layer.name == losses.WEIGHTS or layer.name.startswith(losses.COUNTED)
                assert not_the_solvers or not any(p.lr_mult == 0 for p in layer.param)
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
        assert train.transform_param.mirror == stage.experiment.mirrors
        assert (train.phase == TEST) != stage.experiment.augment
        assert train.transform_param.crop_size == (facts.size if facts.pad else 0)
        assert list(train.transform_param.mean_file) == list("DATA/mean_train.binaryproto" if facts.mean else "")
        assert list(test.transform_param.mean_file) == list("DATA/mean_test.binaryproto" if facts.mean else "")
        assert train.data_param.batch_size == stage.experiment.batch and test.data_param.batch_size == 100
        assert list(train.top) == list(test.top)

    def test_every_layer_has_a_name_of_its_own(self, stage):
        net = network(stage)
        for phase in (TRAIN, TEST):
            names = [layer.name for layer in layers(net, phase)]
            assert len(names) == len(set(names))

    def test_the_network_is_cut_above_its_last_stack(self, stage):
        net, classifies = network(stage), stage.declared.classifies
        stacks = {name for layer in net.layer for name in layer.name.split("/") if name.startswith("stack")}
        assert stacks == {f"stack{i}" for i in range(1, last_stack(stage) + 1)}
        assert any(layer.type == "InnerProduct" for layer in net.layer) == classifies
        assert any(layer.type == "Accuracy" for layer in layers(net, TEST)) == classifies
        assert not any(layer.type == "Accuracy" for layer in layers(net, TRAIN))

    def test_the_student_has_the_same_names_everywhere(self, stage):
        experiment = stage.experiment
        architecture = experiment.teacher if stage.kind == "teacher" else experiment.student
        whole = {x.name for x in deploy.network(experiment, architecture).layer if x.type == "Convolution"}
        own = {x.name for x in network(stage).layer if x.type == "Convolution"}
        own = {name for name in own if not name.startswith(("teacher/", "regressor"))}
        assert own <= whole
        assert (own < whole) == (last_stack(stage) < 3)

    def test_a_regressor_stands_where_the_widths_differ_and_nowhere_else(self, stage):
        found = {x.name for x in network(stage).layer if x.name.startswith("regressor")}
        e = stage.experiment
        pairs = stage.part.pairs or ((3,) if stage.kind == "dynamic" else ())
        assert found == {f"regressor{i}" for i in pairs if e.teacher.width != e.student.width}

    def test_iterations_can_be_read_off_the_file_name(self, stage):
        thousands, rest = divmod(stage.iterations, 1000)
        assert stage.file_stem.endswith(f"-{stage.iterations}" if rest else f"-{thousands}k")


FEED = Feed("D", 128, 100)


def test_hints_join_the_ends_of_the_stacks():
    e = experiments.experiment("cifar10-r26-r14")
    for step in (1, 2, 3):
        loss = hint.network(e, (step,), FEED).layer[-1]
        assert loss.type == "EuclideanLoss" and list(loss.loss_weight) == [1]
        assert list(loss.bottom) == [f"stack{step}/block2/sum", f"teacher/stack{step}/block4/sum"]


class TestHintLayersElsewhere:
    """Hint and guided layers at other modules, and before the ReLU."""

    PLACES = ("hint_layers=1.2,2.3,3.end", "guided_layers=1.1,2.1,3.1")

    def losses(self, *changes, pairs=(1, 2, 3)):
        net = hint.network(experiments.experiment("cifar10-r26-r14", (*self.PLACES, *changes)), pairs, FEED)
        return net, {x.name: list(x.bottom) for x in net.layer if x.type == "EuclideanLoss"}

    def test_a_loss_joins_the_modules_that_were_named(self):
        _, found = self.losses()
        assert found == {
            "hint1": ["stack1/block1/sum", "teacher/stack1/block2/sum"],
            "hint2": ["stack2/block1/sum", "teacher/stack2/block3/sum"],
            "hint3": ["stack3/block1/sum", "teacher/stack3/block4/sum"],
        }

    def test_both_networks_are_cut_above_the_last_pair(self):
        net, _ = self.losses(pairs=(2,))
        names = {x.name.rpartition("/")[0] for x in net.layer}
        assert {"stack2/block1", "teacher/stack2/block3"} <= names
        assert not {"stack2/block2", "teacher/stack2/block4"} & names

    def test_before_the_relu_the_loss_reads_what_no_relu_overwrites(self):
        """In place, Caffe's ReLU would change the blob under the loss; the student's next module reads another blob."""
        net, found = self.losses("hint_relu=before")
        for blobs in found.values():
            for blob in blobs:
                assert [x.name for x in net.layer if blob in x.top] == [blob]
        assert next(x for x in net.layer if x.name == "stack1/block2/conv1").bottom == ["stack1/block1/relu"]
        unread = {"stack3/block1/relu", "teacher/stack3/block4/relu"}
        assert not unread & {x.name for x in net.layer}

    def test_caffe_sees_negative_values_before_the_relu_only(self, colour, tmp_path):
        """Real images through a network of random weights."""
        least = {}
        for relu in ("after", "before"):
            e = experiments.experiment("cifar10-r14-r8", (f"hint_relu={relu}", "guided_layers=1.1,2.1,3.1"))
            path = tmp_path / f"{relu}.prototxt"
            path.write_text(prototxt.text(hint.network(e, (1, 2), Feed(str(colour), 8, 8)), []))
            net = caffe.Net(str(path), TEST)
            net.forward()
            least[relu] = [float(net.blobs[f"stack{i}/block1/sum"].data.min()) for i in (1, 2)]
        assert min(least["after"]) == 0 and max(least["before"]) < 0

    def test_a_regressor_goes_by_the_stack_not_by_the_pair(self):
        e = experiments.experiment("cifar10-r26w32-r14", ("hint_layers=1.1,1.2,3.4", "guided_layers=1.1,1.2,3.2"))
        net = hint.network(e, (1, 2, 3), FEED)
        found = {x.name: x.convolution_param.num_output for x in net.layer if x.name.startswith("regressor")}
        assert found == {"regressor1": 32, "regressor2": 32, "regressor3": 128}


def test_the_concurrent_hints_are_a_mean():
    """Equation (7): 1 / 2N of the sum over N pairs, and EuclideanLoss halves by itself."""
    net = hint.network(experiments.experiment("cifar10-r26-r14"), (1, 2, 3), FEED)
    found = {x.name: x.loss_weight[0] for x in net.layer if x.type == "EuclideanLoss"}
    assert found == pytest.approx({f"hint{i}": 1 / 3 for i in (1, 2, 3)})


def test_the_regressor_is_1x1_gaussian_and_without_bias():
    net = hint.network(experiments.experiment("cifar10-r26w32-r14"), (2,), FEED)
    layer = next(x for x in net.layer if x.name == "regressor2")
    p = layer.convolution_param
    assert (p.num_output, list(p.kernel_size), p.bias_term) == (64, [1], False)
    assert (p.weight_filler.type, p.weight_filler.std) == ("gaussian", pytest.approx(0.01))
    assert list(layer.bottom) == ["stack2/block2/sum"] and net.layer[-1].bottom[0] == "regressor2"


@pytest.mark.parametrize(
    ("changes", "weight"),
    [([], 5), (["lambda_kd=3"], 3), (["kd_tau_squared=true"], 45), (["kd_tau_squared=true", "tau=2"], 20)],
)
def test_the_weight_of_the_softened_term(changes, weight):
    e = experiments.experiment("cifar10-r26-r14", changes)
    net = kd.network(e, FEED, e.lambda_kd)
    losses = {x.name: x.loss_weight[0] for x in net.layer if x.loss_weight}
    assert losses == {"hard": 1, "soft": weight}


def test_sl_resnet_with_kd_has_a_weight_of_its_own():
    for name, weight in (("mnist-r32-r8", 3), ("cifar10-r14-r8", 5)):
        net = planned(experiments.experiment(name), "sl-resnet-kd", "kd").network("D", 10_000)
        assert {x.name: x.loss_weight[0] for x in net.layer if x.loss_weight} == {"hard": 1, "soft": weight}


def test_the_hard_term_is_softened_only_if_told_to():
    for changes, bottom in (([], "fc"), (["hard_tau=3"], "hard/logits")):
        e = experiments.experiment("cifar10-r26-r14", changes)
        net = kd.network(e, FEED, e.lambda_kd)
        assert next(x for x in net.layer if x.name == "hard").bottom[0] == bottom


WITH_A_TEACHER = [
    stage
    for name in ("cifar10-r14-r8", "fashion-mnist-r14-r8", "cifar10-r26w32-r14")
    for stage in committed.stages(experiments.experiment(name, ["batch=10"]))
    if stage.declared.taught
]


@pytest.mark.parametrize("stage", WITH_A_TEACHER, ids=lambda s: f"{s.experiment.dataset}-{s.stem}")
def test_the_teacher_gets_no_backward_pass(stage, fashion, colour, tmp_path):
    """Caffe itself, asked of each layer of a network on real LMDBs."""
    folder = {"fashion-mnist": fashion, "cifar10": colour}[stage.experiment.dataset]
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt.text(stage.network(folder, 200), []))
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
    stage = planned(experiments.experiment("cifar10-r26-r14"), "layerwise", "kd")
    net = network(stage)
    assert prototxt.parse(prototxt.text(net, stage.header())) == net
    assert isinstance(net, caffe_pb2.NetParameter)
