"""How each image's hint losses are weighed in hint-dynamic KD, in NumPy: what Caffe's layer and the torch engine's share."""

import json

import numpy as np

from hkd.layers import history, meta_network

BLOBS = 6  # parameter blobs: scales, means, and the four of the meta-weight network
FADING = 0.99  # of the running means from batch to batch
WAYS = ("learned", "global", "random", "equal")
FIELDS = {"weights", "output", "ensemble", "mu", "u", "v0", "hidden", "scales", "iterations", "seed"}


class Weighing:
    """See instance_weights.InstanceWeights. `blobs`: its parameter blobs, each with an array `data` that can be written to."""

    def begin(self, param_str, hints):
        """To be called once. Raises ValueError for a param_str that is not of `hints` hints."""
        self.given = json.loads(param_str)
        if (
            self.given.keys() != FIELDS
            or len(self.given["scales"]) != hints
            or self.given["weights"] not in WAYS
            or self.given["output"] not in meta_network.OUTPUTS
        ):
            raise ValueError(
                "InstanceWeights: logits, labels, a loss for each top, indices, and every field in param_str"
            )
        self.hints, self.iteration, self.history, self.frozen = hints, 0, None, False

    def first(self):
        """The arrays that its parameter blobs begin with."""
        inputs = 1 + self.hints + 3
        network = meta_network.first(inputs, self.given["hidden"], self.hints, self.given["seed"])
        return [np.zeros(self.hints), np.zeros(1 + self.hints), *network]

    @property
    def scales(self):
        """The number that each hint's loss is multiplied by, one a hint."""
        return self.blobs[0].data

    @property
    def network(self):
        """The blobs of the meta-weight network."""
        return [self.blobs[i] for i in range(2, BLOBS)]

    def weigh(self, logits, labels, losses, index, training):
        """Sets `used`, the weights w_ik, N x K, of float64 `losses`, N x K; in a test they are 1."""
        self.losses = losses
        self.used = self._weights(logits, labels, index) if training else np.ones_like(losses)

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
