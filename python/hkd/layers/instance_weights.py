"""The weights of each image's hint losses in hint-dynamic KD (after Liu et al. 2022, in this project's reading)."""

import caffe
import numpy as np

from hkd.layers.weighing import BLOBS, Weighing, certainty

__all__ = ["BLOBS", "InstanceWeights", "certainty"]


class InstanceWeights(caffe.Layer, Weighing):
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
        self.begin(self.param_str, len(top) if len(bottom) == len(top) + 3 else -1)
        for values in self.first():
            self.blobs.add_blob(*values.shape)
        for blob, values in zip(self.network, self.first()[2:], strict=True):
            blob.data[...] = values

    def reshape(self, bottom, top):
        for i in range(self.hints):
            top[i].reshape(bottom[0].data.shape[0])

    def forward(self, bottom, top):
        logits, labels = bottom[0].data.astype(np.float64), bottom[1].data.astype(int)
        losses = np.stack([bottom[2 + k].data for k in range(self.hints)], axis=1).astype(np.float64)
        self.weigh(logits, labels, losses, bottom[2 + self.hints].data.astype(int), self.phase == caffe.TRAIN)
        for k in range(self.hints):
            top[k].data[...] = self.used[:, k] * self.scales[k]

    def backward(self, top, propagate_down, bottom):
        """Weights are constants to what is below them."""
