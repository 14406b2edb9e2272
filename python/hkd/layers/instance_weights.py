"""The weights of each image's hint losses in hint-dynamic KD (after Liu et al. 2022, in this project's reading)."""

import json

import caffe
import numpy as np

from hkd.layers import history, meta_network

BLOBS = 6  # its parameter blobs: scales, means, and the four of the meta-weight network
FADING = 0.99  # of the running means from batch to batch
WAYS = ("learned", "global", "random", "equal")
FIELDS = {"weights", "output", "ensemble", "mu", "u", "v0", "hidden", "scales", "iterations", "seed"}


class InstanceWeights(caffe.Layer):
    """Bottoms: the student's logits, N x classes; labels, N; K hint losses, N each; the images' indices, N. Tops: K
    times N: the weights w_ik, multiplied by the scale c_k.

    c_k, blob 0, is `scales` divided by the hint's mean loss in the first training batch. w_ik has the mean 1: from the
    meta-weight network (weights: learned), from the same network where it is told nothing, so that all images share
    them (global), uniform among those of sum K (random), or 1 (equal). In the TEST phase it is 1.

    What the network is told of an image: its cross entropy and hint losses, each divided by its running mean over the
    batches (blob 1), the student's largest probability and its entropy (divided by that of no idea), and the share of
    the `iterations` that are done. Nothing is differentiated through it.

    Where the driver gives it a `history` (history.py) learned weights are averaged with those that the image had;
    `frozen`, in the driver's probe, it gives the network's weights as they are and counts and keeps nothing.
    """

    def setup(self, bottom, top):
        self.given = json.loads(self.param_str)
        hints = len(top)
        if (
            self.given.keys() != FIELDS
            or len(bottom) != hints + 3
            or len(self.given["scales"]) != hints
            or self.given["weights"] not in WAYS
            or self.given["output"] not in meta_network.OUTPUTS
        ):
            raise ValueError(
                "InstanceWeights: logits, labels, a loss for each top, indices, and every field in param_str"
            )
        self.hints, self.iteration, self.history, self.frozen = hints, 0, None, False
        inputs = 1 + hints + 3
        shapes = meta_network.shapes(inputs, self.given["hidden"], hints)
        for shape in ((hints,), (1 + hints,), *shapes):
            self.blobs.add_blob(*shape)
        for blob, values in zip(
            self.network, meta_network.first(inputs, self.given["hidden"], hints, self.given["seed"]), strict=True
        ):
            blob.data[...] = values

    @property
    def scales(self):
        return self.blobs[0].data

    @property
    def network(self):
        """The blobs of the meta-weight network."""
        return [self.blobs[i] for i in range(2, BLOBS)]

    def reshape(self, bottom, top):
        for i in range(self.hints):
            top[i].reshape(bottom[0].data.shape[0])

    def forward(self, bottom, top):
        self.losses = np.stack([bottom[2 + k].data for k in range(self.hints)], axis=1).astype(np.float64)
        if self.phase == caffe.TEST:
            self.used = np.ones_like(self.losses)
        else:
            logits, labels = bottom[0].data.astype(np.float64), bottom[1].data.astype(int)
            self.used = self._weights(logits, labels, bottom[2 + self.hints].data.astype(int))
        for k in range(self.hints):
            top[k].data[...] = self.used[:, k] * self.scales[k]

    def backward(self, top, propagate_down, bottom):
        """Weights are constants to what is below them."""

    def _weights(self, logits, labels, index):
        cross, largest, entropy = certainty(logits, labels)
        losses = np.column_stack([cross, self.losses])
        if not self.frozen:
            self._measure(losses.mean(axis=0))
        done = self.iteration / self.given["iterations"]
        state = np.column_stack([losses / self.blobs[1].data, largest, entropy, np.full(len(losses), done)])
        weights = self._raw(state, self.iteration)
        if not self.frozen:
            self.iteration += 1
            if self.history is not None and self.given["weights"] == "learned":
                rule = (self.given[key] for key in ("ensemble", "mu", "u", "v0"))
                return history.ensemble(self.history, index, weights, *rule)
        return weights

    def _measure(self, means):
        if not self.blobs[1].data.any():
            self.blobs[1].data[...] = means
            self.scales[...] = self.given["scales"] / means[1:]
        else:
            self.blobs[1].data[...] = FADING * self.blobs[1].data + (1 - FADING) * means

    def _raw(self, state, iteration):
        way = self.given["weights"]
        if way == "equal":
            return np.ones((len(state), self.hints))
        if way == "random":
            rng = np.random.Generator(np.random.Philox(key=self.given["seed"], counter=[0, iteration, 0, 0]))
            drawn = rng.exponential(size=(len(state), self.hints))
            return drawn / drawn.sum(axis=1, keepdims=True) * self.hints
        told = state if way == "learned" else np.zeros_like(state)
        weights, self.cache = meta_network.forward([blob.data for blob in self.network], told, self.given["output"])
        return weights


def certainty(logits, labels):
    """(cross entropy, largest probability, entropy divided by log of the classes), N each."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    return -log_p[np.arange(len(labels)), labels], p.max(axis=1), -(p * log_p).sum(axis=1) / np.log(logits.shape[1])
