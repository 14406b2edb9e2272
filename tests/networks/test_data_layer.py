"""What Caffe's own Data layer makes of our LMDBs, against NumPy: padding, crops, mirroring, mean, order."""

import caffe
import numpy as np
import pytest

from hkd.networks import prototxt
from hkd.networks.feed import Feed, both_phases, data_layers
from hkd.paper import experiments
from lmdbs import read_lmdb, read_mean
from nets import data_net

PAD, SIZE = 4, 32


def test_the_padding_minus_the_mean_is_exactly_zero(colour):
    images, _ = read_lmdb(colour / "train_lmdb")
    mean = read_mean(colour / "mean_train.binaryproto")
    assert images.shape[1:] == mean.shape == (3, 40, 40)
    padding = np.ones((40, 40), bool)
    padding[PAD:-PAD, PAD:-PAD] = False
    assert not images[:, :, padding].any() and not mean[:, padding].any()
    np.testing.assert_allclose(mean[:, PAD:-PAD, PAD:-PAD], images[:, :, PAD:-PAD, PAD:-PAD].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(mean[:, PAD:-PAD, PAD:-PAD], read_mean(colour / "mean_test.binaryproto"))


def test_training_images_are_random_crops_and_mirrors_of_the_padded_ones(colour, tmp_path):
    images, labels = read_lmdb(colour / "train_lmdb")
    centred = images.astype(np.float32) - read_mean(colour / "mean_train.binaryproto")
    caffe.set_random_seed(5)
    net = data_net(colour, caffe.TRAIN, tmp_path)
    seen = []
    for batch in range(10):
        net.forward()
        np.testing.assert_array_equal(net.blobs["label"].data, labels[batch * 100 : batch * 100 + 100])
        for i, found in enumerate(net.blobs["data"].data):
            whole = centred[batch * 100 + i]
            matches = [
                (top, left, mirrored)
                for top in range(2 * PAD + 1)
                for left in range(2 * PAD + 1)
                for mirrored in (False, True)
                if np.array_equal(found, whole[:, top : top + SIZE, left : left + SIZE][:, :, :: -1 if mirrored else 1])
            ]
            assert matches, f"image {batch * 100 + i} is no crop of its padded image"
            if len(matches) == 1:
                seen += matches
    tops, lefts, mirrors = (set(values) for values in zip(*seen, strict=True))
    assert tops == lefts == set(range(2 * PAD + 1)) and mirrors == {False, True}
    assert 0.4 < np.mean([mirrored for *_, mirrored in seen]) < 0.6


def test_test_images_are_whole_unmirrored_and_in_the_official_order(colour, colour_source, tmp_path):
    raw = np.frombuffer((colour_source / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    mean = read_mean(colour / "mean_test.binaryproto")
    net = data_net(colour, caffe.TEST, tmp_path)
    for _ in range(2):  # twice over: wrapped round, the order is the same
        for half in (raw[:100], raw[100:]):
            net.forward()
            np.testing.assert_array_equal(net.blobs["label"].data, half[:, 0])
            np.testing.assert_array_equal(
                net.blobs["data"].data, half[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) - mean
            )


def test_without_mirror_no_image_is_mirrored(colour, tmp_path):
    images, _ = read_lmdb(colour / "train_lmdb")
    centred = images.astype(np.float32) - read_mean(colour / "mean_train.binaryproto")
    net = data_net(colour, caffe.TRAIN, tmp_path, changes=["mirror=false"])
    net.forward()
    for found, whole in zip(net.blobs["data"].data, centred, strict=False):
        crops = (whole[:, t : t + SIZE, x : x + SIZE] for t in range(9) for x in range(9))
        assert any(np.array_equal(found, crop) for crop in crops)


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_without_augmentation_training_images_are_the_images_themselves(colour, colour_source, tmp_path, engine):
    """Against the source: whatever the LMDB's order, each pixel is the official one less the mean, in every pass."""
    files = [colour_source / f"data_batch_{i}.bin" for i in range(1, 6)]
    raw = np.concatenate([np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)[:, 1:] for path in files])
    mean = read_mean(colour / "mean_test.binaryproto")
    expected = {(image.reshape(3, 32, 32).astype(np.float32) - mean).tobytes() for image in raw}
    if engine == "caffe":
        net = data_net(colour, caffe.TRAIN, tmp_path, 500, changes=["augment=false"])
        batches = [(net.forward(), net.blobs["data"].data.copy())[1] for _ in range(4)]
    else:
        data = pytest.importorskip("hkd.engines.torch.data", exc_type=ImportError)
        experiment = experiments.experiment("cifar10-r14-r8", ["augment=false"])
        n = caffe.NetSpec()
        data_layers(n, experiment, Feed(str(colour), 500, 100))
        feed = data.Feed(n.to_proto().layer[0], caffe.TRAIN, 5)
        batches = [feed.next()[0] for _ in range(4)]
    assert {image.tobytes() for image in np.concatenate(batches[:2])} == expected
    for first, again in zip(batches[:2], batches[2:], strict=True):
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_mnist_format_goes_in_as_it_is(fashion, tmp_path, phase):
    images, labels = read_lmdb(fashion / ("train_lmdb" if phase == caffe.TRAIN else "test_lmdb"))
    experiment = experiments.experiment("fashion-mnist-r14-r8")
    n = caffe.NetSpec()
    test = data_layers(n, experiment, Feed(str(fashion), 100, 100))
    n.silent = caffe.layers.Silence(n.data, n.label, ntop=0)
    path = tmp_path / "data.prototxt"
    path.write_text(prototxt.text(both_phases("data", n, test), []))
    net = caffe.Net(str(path), phase)
    net.forward()
    np.testing.assert_array_equal(net.blobs["data"].data, images[:100])
    np.testing.assert_array_equal(net.blobs["label"].data, labels[:100])
    assert images.shape[1:] == (1, 28, 28)
