"""The ResNet against the numbers of the paper, and the refusals."""

from dataclasses import replace

import caffe
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkd.base.cli import UserError
from hkd.engines import choice
from hkd.networks import deploy, prototxt
from hkd.paper import experiments
from hkd.paper.architecture import Architecture

BN = ("bn", "projection_bn")


def count(architecture, dataset="cifar10", shortcut="A"):
    """Learned parameters: convolutions, BatchNorm's gamma and beta (Scale), the fully connected layer."""
    name = "cifar10-r26-r14" if dataset != "fashion-mnist" else "fashion-mnist-r14-r8"
    experiment = experiments.experiment(name, [f"shortcut={shortcut}"])
    if dataset == "cifar100":
        experiment = replace(experiment, dataset="cifar100")
    shapes = choice.parameter_shapes("caffe", deploy.network(experiment, architecture), experiment.facts)
    learned = {k: v for k, v in shapes.items() if not k.split("/")[-1].startswith(BN)}
    return sum(int(np.prod(shape)) for blobs in learned.values() for shape in blobs)


# Derived from He et al. 2016 by hand; convolutions without bias, projection with BatchNorm.
@pytest.mark.parametrize(
    ("depth", "option_a", "projection"),
    [
        (8, 75_290, 78_042),
        (14, 172_506, 175_258),
        (20, 269_722, 272_474),
        (26, 366_938, 369_690),
        (32, 464_154, 466_906),
    ],
)
def test_parameter_counts(depth, option_a, projection):
    assert count(Architecture(depth)) == option_a
    assert count(Architecture(depth), shortcut="projection") == projection


def test_parameter_counts_of_wide_networks_and_other_data_sets():
    assert count(Architecture(26, 32)) == 1_461_930
    assert count(Architecture(26, 32), shortcut="projection") == 1_472_554
    wide = {8: 1_208_996, 14: 2_759_076, 20: 4_309_156, 26: 5_859_236, 32: 7_409_316}
    assert {depth: count(Architecture(depth, 64), "cifar100") for depth in wide} == wide
    assert count(Architecture(14, 80), "cifar100") == 4_301_300
    assert count(Architecture(8), "fashion-mnist") == 75_002
    assert count(Architecture(32), "fashion-mnist") == 463_866


@given(st.integers(-100, 200))
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth):
    if depth >= 8 and depth % 6 == 2:
        assert Architecture(depth).blocks * 6 + 2 == depth
    else:
        with pytest.raises(UserError, match="6n"):
            Architecture(depth)


def test_option_a_is_every_second_pixel_and_zeros(tmp_path):
    """The shortcut blob of a real network against NumPy."""
    experiment = experiments.experiment("cifar10-r14-r8")
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt.text(deploy.network(experiment, Architecture(8)), []))
    net = caffe.Net(str(path), caffe.TEST)
    for name, blobs in net.params.items():
        if name.split("/")[-1].startswith("bn"):
            blobs[1].data[...], blobs[2].data[...] = 1, 1  # variance 1: an untrained network passes its input on
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=net.blobs["data"].data.shape)
    net.forward()
    below, shortcut = net.blobs["stack1/block1/sum"].data, net.blobs["stack2/block1/shortcut"].data
    assert shortcut.shape == (1, 32, 16, 16)
    np.testing.assert_array_equal(shortcut[:, :16], below[:, :, ::2, ::2])
    assert not shortcut[:, 16:].any()


def test_the_gradient_of_option_a_goes_back_to_every_second_pixel(tmp_path):
    """On even maps of both data sets' sizes and on an odd one; nothing is written beside them."""
    from caffe import layers as L

    from hkd.networks.resnet import Style, option_a

    for size in (28, 32, 7):
        n = caffe.NetSpec()
        n.data = L.Input(shape={"dim": [2, 3, size, size]})
        option_a(n, Style(), "", n.data, size)
        path = tmp_path / "net.prototxt"
        path.write_text("force_backward: true\n" + str(n.to_proto()))
        net = caffe.Net(str(path), caffe.TRAIN)
        rng = np.random.default_rng(4)
        net.blobs["data"].data[...] = rng.normal(size=(2, 3, size, size))
        net.forward()
        np.testing.assert_array_equal(net.blobs["shortcut"].data[:, :3], net.blobs["data"].data[:, :, ::2, ::2])
        gradient = net.blobs["shortcut"].diff[...] = rng.normal(size=net.blobs["shortcut"].data.shape)
        net.backward()
        expected = np.zeros((2, 3, size, size), np.float32)
        expected[:, :, ::2, ::2] = gradient[:, :3]
        np.testing.assert_array_equal(net.blobs["data"].diff, expected)


def test_no_layer_takes_the_maximum_of_an_empty_window():
    """Caffe's MAX pooling writes out of bounds there, and where it meets NaN."""
    for experiment in experiments.EXPERIMENTS.values():
        for layer in deploy.network(experiment, experiment.student).layer:
            assert layer.type != "Pooling" or layer.pooling_param.pool == layer.pooling_param.AVE


def test_the_shapes_of_the_stacks(tmp_path):
    experiment = experiments.experiment("cifar10-r26-r14")
    path = tmp_path / "net.prototxt"
    path.write_text(prototxt.text(deploy.network(experiment, experiment.student), []))
    net = caffe.Net(str(path), caffe.TEST)
    shapes = [net.blobs[f"stack{i}/block2/sum"].data.shape[1:] for i in (1, 2, 3)]
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
