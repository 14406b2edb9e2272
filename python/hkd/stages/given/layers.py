"""Weights on their way into our network: its layers with their blobs, where each is from, and what did not fit."""

import hashlib
import re
from dataclasses import dataclass, field

import numpy as np

from hkd.networks.resnet import module_name


@dataclass
class Layers:
    """blobs: {layer of ours: [float32 arrays]}, notes: {layer: what it was made from}, in the order of the file; missing, left_over,
    unused: names as the file has them; what is unused is of no use in a network that is not trained on there."""

    blobs: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    left_over: list = field(default_factory=list)
    unused: list = field(default_factory=list)

    def put(self, layer, arrays, note):
        self.blobs[layer] = [np.ascontiguousarray(array, np.float32) for array in arrays]
        self.notes[layer] = note

    def say(self, layer, words):
        """Adds to what a layer was made from."""
        self.notes[layer] += f", {words}"

    def reorder(self, layer, axis, order):
        """Every blob of a layer that has as many channels along `axis` in another order."""
        self.blobs[layer] = [
            np.ascontiguousarray(blob.take(order, axis))
            if blob.ndim > axis and blob.shape[axis] == len(order)
            else blob
            for blob in self.blobs[layer]
        ]
        if (order != np.arange(len(order))).any():
            self.say(layer, f"{'outputs' if axis == 0 else 'inputs'} in our order")

    def shapes(self):
        return {layer: [blob.shape for blob in blobs] for layer, blobs in self.blobs.items()}

    def digest(self):
        """sha256 over the blobs, each with its layer's name and its shape: that of the same network in any file."""
        whole = hashlib.sha256()
        for layer, blobs in sorted(self.blobs.items()):
            for blob in blobs:
                whole.update(f"{layer} {blob.shape}\n".encode())
                whole.update(blob.astype("<f4").tobytes())
        return whole.hexdigest()


def wanted(architecture, channels, classes, projection):
    """{layer: [shape of each blob]} of the whole network: what Caffe says of it too, without building it."""
    shapes = {}

    def conv_bn(conv, bn, scale, outputs, inputs, kernel):
        shapes[conv] = [(outputs, inputs, kernel, kernel)]
        shapes[bn] = [(outputs,), (outputs,), (1,)]
        shapes[scale] = [(outputs,), (outputs,)]

    before = architecture.width
    conv_bn("conv1", "bn1", "scale1", before, channels, 3)
    for stack, block in architecture.modules:
        name, width = module_name((stack, block)), architecture.widths[stack - 1]
        conv_bn(f"{name}conv1", f"{name}bn1", f"{name}scale1", width, before, 3)
        conv_bn(f"{name}conv2", f"{name}bn2", f"{name}scale2", width, width, 3)
        if projection and width != before:
            conv_bn(*(f"{name}projection{part}" for part in ("", "_bn", "_scale")), width, before, 1)
        before = width
    return shapes | {"fc": [(classes, before), (classes,)]}


def blocks_of(found):
    """[(stack, block)] of some Layers, bottom up."""
    matched = [re.match(r"stack(\d)/block(\d+)/conv1$", name) for name in found.blobs]
    return sorted((int(m[1]), int(m[2])) for m in matched if m)
