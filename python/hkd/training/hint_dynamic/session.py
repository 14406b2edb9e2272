"""What the training loop calls for hint-dynamic KD: the meta step, and what of it is in snapshots and in the log.

The meta-weight network is in the network (layer `weights`), and so in every caffemodel. In a snapshot are besides: its
optimizer's state with what the next line of the log is made from, and the history of the images' weights.
"""

import io

import numpy as np

from hkd.layers import history, meta_network
from hkd.networks import losses
from hkd.stages.records import HISTORY
from hkd.training.hint_dynamic.gradient import MetaGradient
from hkd.training.hint_dynamic.images import MetaImages
from hkd.training.hint_dynamic.optimizer import Optimizer

STATE = "meta.npz"
QUANTILES = (10, 50, 90)


class Session:
    """stage: stage.Stage of kind dynamic; net: its TRAIN net; folder: where the mapped history lies meanwhile; engine: that of
    `net`."""

    def __init__(self, stage, net, folder, manifest, engine="caffe"):
        self.experiment, self.net = stage.experiment, net
        self.layer = net.layer_dict[losses.WEIGHTS]
        self.path = folder / f".{HISTORY}"
        self.images = manifest.train_images
        e = self.experiment
        self.optimizer = None
        if stage.part.learns_weights:
            network = stage.network("DATA", manifest.test_images)
            self.gradient = MetaGradient(network, net, e, engine)
            seed = stage.random_seed
            self.meta_images = MetaImages(manifest, e.facts, e.dynamic_images, seed, e.channel_means)
            shapes = [blob.data.shape for blob in self.layer.network]
            self.optimizer = Optimizer(e.dynamic_optimizer, e.dynamic_lr, e.dynamic_weight_decay, shapes)
        self.keeps_history = stage.part.weights == "learned"
        self.seen, self.losses = [], []  # weights of each image, and meta losses, since the last line of the log

    @property
    def last_data_layer(self):
        """Its place in the network: up to there a resumed run is run forward."""
        return list(self.net._layer_names).index("index")

    def begin(self):
        """At iteration 0."""
        if self.keeps_history:
            self.layer.history = history.create(self.path, self.images, self.layer.hints)

    def resume(self, snapshot, iteration):
        """Goes on from the files in the folder `snapshot`, written after `iteration`."""
        self.layer.iteration = iteration
        self.begin()
        if self.keeps_history:
            self.layer.history[...] = np.load(snapshot / HISTORY)
        with np.load(snapshot / STATE) as state:
            self.seen, self.losses = [state["seen"]], state["losses"].tolist()
            if self.optimizer:
                self.optimizer.restore(state)

    def after_iteration(self, iteration, lr):
        """The meta step, where it is due, on the batch that was just trained on."""
        self.seen.append(self.layer.used.astype(np.float32))
        if self.optimizer is None or iteration % self.experiment.dynamic_every:
            return
        slope, cache, loss = self.meta_gradient(iteration, lr)
        self.losses.append(loss)
        self.optimizer.step([blob.data for blob in self.layer.network], meta_network.backward(cache, slope))

    @property
    def learns(self):
        """Whether it takes meta steps."""
        return self.optimizer is not None

    def meta_gradient(self, iteration, lr):
        """What MetaGradient gives for the meta batch of an iteration."""
        return self.gradient(lr, *self.meta_images.batch(self.experiment.dynamic_batch, iteration))

    @property
    def kept(self):
        """The files that stay when the stage has ended."""
        return [HISTORY] if self.keeps_history else []

    @property
    def names(self):
        """Those of `files`."""
        return [*self.kept, STATE]

    def files(self):
        """{name: bytes} for a snapshot."""
        found = {}
        if self.keeps_history:
            found[HISTORY] = _bytes(np.save, self.layer.history)
        seen = np.concatenate([np.empty((0, self.layer.hints), np.float32), *self.seen])
        state = self.optimizer.state if self.optimizer else {}
        return {**found, STATE: _bytes(np.savez, seen=seen, losses=np.array(self.losses), **state)}

    def log(self):
        """What stands in the next line of the log: of each hint the weights' mean and quantiles over all images since
        the last line, and the mean cross entropy of the meta batches."""
        seen = np.concatenate(self.seen)
        of_hints = {
            hint: {"mean": float(weights.mean(dtype=np.float64))}
            | {f"q{q}": float(value) for q, value in zip(QUANTILES, np.percentile(weights, QUANTILES), strict=True)}
            for hint, weights in zip(self.experiment.dynamic_hints, seen.T, strict=True)
        }
        meta = {"meta_loss": float(np.mean(self.losses))} if self.losses else {}
        self.seen, self.losses = [], []
        return {"weights": of_hints, **meta}


def _bytes(write, *arrays, **named):
    stream = io.BytesIO()
    write(stream, *arrays, **named)
    return stream.getvalue()
