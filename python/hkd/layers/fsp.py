"""The FSP matrix, the flow of solution procedure between two layers (Yim et al. 2017, equation 1)."""

import json

import caffe
import numpy as np


class FSP(caffe.Layer):
    """Bottoms F1, N x m x h x w, and F2, N x n x h x w; top G, N x m x n: the mean over all positions of F1_i F2_j.

    param_str, JSON, may have "rows" and "columns": the channels of F1 and F2 in the order that the matrix has them.
    """

    def setup(self, bottom, top):
        given = json.loads(self.param_str or "{}")
        if len(bottom) != 2 or len(top) != 1 or given.keys() - {"rows", "columns"}:
            raise ValueError("FSP: two bottoms, one top, and nothing but rows and columns in param_str")
        self.orders = [given.get(key) for key in ("rows", "columns")]

    def reshape(self, bottom, top):
        first, second = (tuple(bottom[i].data.shape) for i in (0, 1))
        if first[:1] + first[2:] != second[:1] + second[2:]:
            raise ValueError(f"FSP: maps of one size are needed, not {first} and {second}")
        for order, shape in zip(self.orders, (first, second), strict=True):
            if order is not None and sorted(order) != list(range(shape[1])):
                raise ValueError(f"FSP: {order} is no order of {shape[1]} channels")
        top[0].reshape(first[0], first[1], second[1])

    def forward(self, bottom, top):
        first, second = (flat(bottom[i].data, self.orders[i]) for i in (0, 1))
        np.matmul(first, second.transpose(0, 2, 1), out=top[0].data)
        top[0].data[...] /= first.shape[2]

    def backward(self, top, propagate_down, bottom):
        gradient = top[0].diff / bottom[0].data[0, 0].size
        for i in (0, 1):
            if not propagate_down[i]:
                continue
            other = flat(bottom[1 - i].data, self.orders[1 - i])
            below = np.matmul(gradient if i == 0 else gradient.transpose(0, 2, 1), other)
            mine = bottom[i].diff
            mine[:, self.orders[i] or slice(None)] = below.reshape(mine.shape)


def flat(maps, order):
    """N x C x h x w as N x C x hw, the channels in `order`."""
    if order is not None:
        maps = maps[:, order]
    return maps.reshape(*maps.shape[:2], -1)
