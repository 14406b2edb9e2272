"""What a network takes of a GPU's memory at the least, from the shapes of its blobs.

Counted: blobs, gradients of what learns, weights with momentum and update, and the buffers that Caffe's layers keep for
themselves. Not counted, so that nothing is refused that would run: cuDNN's workspaces, cuBLAS, the compiled kernels.
"""

import os
import sys
from contextlib import contextmanager

import caffe

from hkd.base.cli import UserError
from hkd.engines import devices, nvidia
from hkd.networks import prototxt

FLOAT = 4  # bytes


def check(stages, test_images, device):
    """Raises UserError for a GPU of `device` that this Caffe has no code for, or that has too little memory for one of the
    stages, before Caffe aborts on it."""
    needs = {stage.name: of_training(stage, test_images, len(device.gpus)) for stage in stages}
    largest = max(needs, key=needs.get)
    for number in device.gpus:
        try:
            found = nvidia.describe(number)
        except nvidia.NoGpu as reason:
            raise UserError(f"GPU {number}: {reason}: choose another one with --gpu, or use --cpu") from None
        nvidia.check_code(number, found, devices.caffe_build().get("architectures", []))
        if found.free < needs[largest]:
            raise UserError(
                f"GPU {number} ({found.name}) has {found.free >> 20:,} of its {found.total >> 20:,} MB free, {largest} needs "
                f"at least {needs[largest] >> 20:,}: end what else runs there, choose another one with --gpu, or use --cpu"
            )


def of_training(stage, test_images, shares=1):
    """Bytes of one training iteration of `stage` (stage.Stage) and of its test, with a batch divided over `shares` GPUs."""
    network, facts = stage.network("DATA", test_images), stage.experiment.facts
    with _quiet_caffe():
        return of_phase(network, facts, caffe.TRAIN, shares) + of_phase(network, facts, caffe.TEST, 1)


@contextmanager
def _quiet_caffe():
    """Keeps Caffe's log of every layer from the terminal."""
    sys.stderr.flush()
    terminal, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nothing)


def of_phase(network, facts, phase, shares):
    """Bytes of the blobs, gradients and weights of one phase of a network, its batch divided among `shares` processes."""
    net = prototxt.built(network, facts, phase, shares)
    learning = {layer.name: not layer.param or any(p.lr_mult for p in layer.param) for layer in network.layer}
    training = phase == caffe.TRAIN
    blobs = list(net.blobs.values())
    data, gradients, weights, buffers = set(), set(), 0, 0
    for i, (name, layer) in enumerate(zip(net._layer_names, net.layers, strict=True)):
        tops, bottoms = list(net._top_ids(i)), list(net._bottom_ids(i))
        if layer.type != "Split":  # its tops share the bottom's data
            data.update(tops)
        learns = training and len(layer.blobs) > 0 and learning[name]
        if learns or (training and gradients.intersection(bottoms)):
            gradients.update(tops)
        if training:  # the test shares them
            weights += sum(blob.count for blob in layer.blobs) * (4 if learns else 1)
        buffers += sum(_buffer(layer, blobs[bottom], [blobs[top] for top in tops]) for bottom in bottoms[:1])
    counted = sum(blobs[i].count for i in data) + sum(blobs[i].count for i in gradients)
    return FLOAT * (counted + weights + buffers)


def _buffer(layer, bottom, tops):
    """Floats that a layer keeps beside its blobs."""
    if layer.type == "BatchNorm":
        return 2 * bottom.count  # temp_ and x_norm_ (batch_norm_layer.cpp)
    if layer.type == "Scale":
        return bottom.count  # a copy of its input, which it overwrites (scale_layer.cpp)
    if layer.type == "Convolution":
        kernel, (height, width) = layer.blobs[0], tops[0].shape[2:]
        # One image as columns (base_conv_layer.cpp); a 1x1 kernel of stride 1 reads the image as it is.
        if tuple(kernel.shape[2:]) == (1, 1) and (height, width) == tuple(bottom.shape[2:]):
            return 0
        return kernel.count // kernel.shape[0] * height * width
    return 0
