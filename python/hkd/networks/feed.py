"""Where the images come from: the Data layers of both phases, which every network that trains begins with."""

from dataclasses import dataclass
from pathlib import Path

import caffe
from caffe import layers as L
from caffe import params as P

from hkd.paper.datasets import INDEX_FILE


@dataclass(frozen=True)
class Feed:
    """Where the images come from: the folder of the LMDBs, as it is to stand in the file, and the batch sizes."""

    folder: str
    train_batch: int
    test_batch: int


def data_layers(n, experiment, feed, label=True, index=False):
    """Puts the TRAIN data layer into `n`; returns the TEST one, whose tops have the same names, as a list of layers.

    Training images: random crop and mirror, without augmentation the centre of the padded image, which is the image; test
    images: as they are (Caffe would mirror them too if told to).
    index: also each training image's place in the official order, blob `index`; test images have none, there it is 0.
    """
    facts = experiment.facts
    means = [_mean(experiment, feed, phase) for phase in ("train", "test")]
    crop = {"crop_size": facts.size} if facts.pad else {}
    mirror = {"mirror": True} if experiment.mirrors else {}
    # A layer that computes as in the TEST phase crops the centre (data_transformer.cpp); which network it is in is `include`'s.
    centre = {"phase": caffe.TEST} if facts.pad and not experiment.augment else {}

    def data(included_in, lmdb, batch, transform, **more):
        # Without the label a hint network has one blob less to carry about.
        return L.Data(
            name="data",
            ntop=2 if label else 1,
            include={"phase": included_in},
            data_param={"source": f"{feed.folder}/{lmdb}", "batch_size": batch, "backend": P.Data.LMDB},
            transform_param=transform,
            **more,
        )

    test = caffe.NetSpec()
    for spec, tops in (
        (test, data(caffe.TEST, "test_lmdb", feed.test_batch, means[1])),
        (n, data(caffe.TRAIN, "train_lmdb", feed.train_batch, {**crop, **mirror, **means[0]}, **centre)),
    ):
        spec.data, *rest = tops if label else (tops,)
        if label:
            spec.label = rest[0]
    if index:
        source = {"source": f"{feed.folder}/{Path(INDEX_FILE).parent}", "batch_size": feed.train_batch}
        n.index_pixel, n.index = L.Data(
            name="index", ntop=2, include={"phase": caffe.TRAIN}, data_param={**source, "backend": P.Data.LMDB}
        )
        n["index/silence"] = L.Silence(n.index_pixel, ntop=0, include={"phase": caffe.TRAIN})
        test.index = L.DummyData(shape={"dim": [feed.test_batch]}, include={"phase": caffe.TEST})
    return list(test.to_proto().layer)


def _mean(experiment, feed, phase):
    """The part of transform_param that subtracts the mean: an image of it, or a number a channel. A padded pixel is 0 after the
    first; before the second it is 0, black, as in networks that were trained on images padded before they were normalised."""
    if experiment.channel_means:
        return {"mean_value": list(experiment.channel_means)}
    return {"mean_file": f"{feed.folder}/mean_{phase}.binaryproto"} if experiment.facts.mean else {}


def both_phases(name, n, test_data):
    """The NetParameter of the layers in `n`, with those of the TEST phase, `test_data` (data_layers), behind its first."""
    network = n.to_proto()
    network.name = name
    layers = list(network.layer)
    del network.layer[:]
    network.layer.extend(layers[:1] + test_data + layers[1:])
    return network
