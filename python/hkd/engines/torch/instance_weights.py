"""Hint-dynamic KD's layer of weights (hkd/layers/instance_weights.py) in the torch engine: the same arithmetic, in NumPy."""

import numpy as np
import torch
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.engines.torch.layers import Kind
from hkd.layers.weighing import Weighing

MODULE, LAYER = "hkd.layers.instance_weights", "InstanceWeights"


class InstanceWeights(Weighing):
    """What a network's `layer_dict` has under the layer's name. layer: its LayerParameter; phase: of the network; view: makes of
    a tensor an array in the same memory (net.Blob)."""

    type = "Python"

    def __init__(self, layer, phase, view):
        self.training, self.view = phase == caffe_pb2.TRAIN, view
        try:
            self.begin(layer.python_param.param_str, len(layer.top) if len(layer.bottom) == len(layer.top) + 3 else -1)
        except ValueError as error:
            raise UserError(f"layer {layer.name}: {error}") from None

    @property
    def kind(self):
        return Kind(self.run, "python_param", ("module", "layer", "param_str"), self.parameter_blobs)

    def parameter_blobs(self, p, x):
        return [(values.shape, values.astype(np.float32)) for values in self.first()]

    def hold(self, tensors):
        """Has these parameter blobs from now on."""
        self.blobs = [self.view(tensor) for tensor in tensors]

    def run(self, p, w, x):
        if x[0].is_meta:
            return tuple(x[0].new_empty(len(x[0])) for _ in range(self.hints))
        self.hold(w)
        logits, labels, *losses, index = (t.detach().cpu().numpy() for t in x)
        losses = np.stack(losses, axis=1).astype(np.float64)
        self.weigh(logits.astype(np.float64), labels.astype(int), losses, index.astype(int), self.training)
        return tuple(torch.from_numpy((self.used[:, k] * self.scales[k]).astype(np.float32)) for k in range(self.hints))
