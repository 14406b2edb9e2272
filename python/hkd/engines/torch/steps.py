"""What runs of a network, step by step: one layer, or several as one, where that is faster and gives the same.

Caffe writes convolution, BatchNorm, Scale and ReLU in place on one blob; only what the last of them leaves there can be seen.
"""

import numpy as np
import torch
import torch.nn.functional as F

from hkd.engines.torch import convolutions, fused, layers, memo
from hkd.engines.torch.fields import number

AGAIN = " again"
"""What the second reader of a map asks for, after its name."""


class Single:
    """One layer by itself."""

    def __init__(self, net, b):
        self.net, self.b = net, b

    def __call__(self, tensors):
        x = [tensors[name] for name in self.b.layer.bottom]
        tops = layers.run(self.b, self.b.blobs, x, self.net.phase)
        device = self.net.device
        for name, top in zip(self.b.layer.top, tops, strict=True):
            tensors[name] = top.to(device)

    def changed(self):
        pass


class Summable:
    """A step to a map that the sum of it and another map, and the ReLU of that, may be added to."""

    def __init__(self, chain, length):
        """chain: of `length` layers, then perhaps ReLU, all in place on one top."""
        self.relu, self.top, self.other = len(chain) > length, chain[0].layer.top[0], None

    def add(self, sum):
        """Adds the other bottom of the Eltwise layer `sum` and its ReLU."""
        self.other = next(name for name in sum.layer.bottom if name != self.top)
        self.relu, self.top = True, sum.layer.top[0]


class Normalized(Summable):
    """BatchNorm, Scale and perhaps ReLU in one call, with the statistics of the batch."""

    def __init__(self, net, chain):
        super().__init__(chain, 2)
        self.bn, self.scale = chain[:2]
        self.bottom = self.bn.layer.bottom[0]

    def __call__(self, tensors):
        x, other = tensors[self.bottom], tensors[self.other] if self.other else None
        p, blobs, (weight, bias) = self.bn.own, self.bn.blobs, self.scale.blobs
        if fused.usable(x, other):
            made, again, saved = fused.Normalized.apply(x, other, weight, bias, p.eps, self.relu)
            fused.accumulate(saved, x.numel() // x.shape[1], p.moving_average_fraction, blobs)
        else:
            made = layers.normalized(p, blobs, x, weight, bias)
            made = made if other is None else made + other
            made = again = F.relu_(made) if self.relu else made
        tensors[self.top], tensors[self.top + AGAIN] = made, again

    def changed(self):
        pass


class Summed:
    """The sum of two maps and its ReLU, in place on the sum."""

    def __init__(self, net, chain):
        self.bottoms, self.top = list(chain[0].layer.bottom), chain[0].layer.top[0]

    def __call__(self, tensors):
        one, other = (tensors[name] for name in self.bottoms)
        tensors[self.top] = F.relu_(one + other)

    def changed(self):
        pass


class Folded(Summable):
    """A convolution with the stored statistics, Scale and perhaps ReLU folded into its weights; for no gradient."""

    def __init__(self, net, chain):
        super().__init__(chain, 3)
        self.conv, self.bn, self.scale = chain[:3]
        self.bottom = self.conv.layer.bottom[0]
        self.folded = None

    def __call__(self, tensors):
        x, other = tensors[self.bottom], tensors[self.other] if self.other else None
        if self.folded is None:
            p = self.conv.own
            self.folded = convolutions.Folded(x, *self._fold(), number(p.stride, 1, "", ""), number(p.pad, 0, "", ""))
        tensors[self.top] = self.folded(x, other, self.relu)

    @torch.no_grad()
    def _fold(self):
        mean, variance = layers.stored_statistics(self.bn.blobs)
        factor = self.scale.blobs[0] / torch.sqrt(variance + self.bn.own.eps)
        weight = self.conv.blobs[0] * factor.view(-1, 1, 1, 1)
        return weight.to(memory_format=torch.channels_last), self.scale.blobs[1] - mean * factor

    def changed(self):
        self.folded = None


class Halved(torch.autograd.Function):
    """Every second pixel and as many channels of zeros again. PyTorch's own backward of a slice would make its gradient
    in another memory format than the maps', and all below it slow."""

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        half = x[:, :, ::2, ::2]
        n, channels, height, width = half.shape
        like = {"dtype": x.dtype, "device": x.device, "memory_format": torch.channels_last}
        top = torch.empty((n, 2 * channels, height, width), **like)
        top[:, :channels], top[:, channels:] = half, 0
        return top

    @staticmethod
    def backward(ctx, gradient):
        like = {"dtype": gradient.dtype, "device": gradient.device, "memory_format": torch.channels_last}
        below = torch.empty(ctx.shape, **like).zero_()
        below[:, :, ::2, ::2] = gradient[:, : ctx.shape[1]]
        return below


class Nothing:
    """Where layers stand whose work is done with a later one's."""

    def __call__(self, tensors):
        pass

    def changed(self):
        pass


class Shortcut:
    """Option A as hkd.networks.resnet.option_a writes it: frame, crop, pooling over one pixel, zeros, concatenation."""

    TYPES = ("DummyData", "Crop", "Pooling", "Power", "Concat")

    def __init__(self, net, chain):
        self.bottom, self.top = chain[1].layer.bottom[0], chain[4].layer.top[0]

    def __call__(self, tensors):
        x = tensors[self.bottom]
        tensors[self.top] = (fused.Halved if fused.usable(x) else Halved).apply(x)

    def changed(self):
        pass

    @classmethod
    def is_one(cls, chain):
        """Whether these five layers are one: the crop to an odd size leaves out no second pixel, the power is zero."""
        frame, crop, pool, zeros, concat = chain
        size = frame.own.shape[0].dim[-1] if frame.own.shape else 0
        p = pool.own
        return (
            size % 2 == 1
            and crop.own.axis == 2
            and (p.pool, p.kernel_size, p.stride, p.global_pooling) == (p.AVE, 1, 2, False)
            and (zeros.own.power, zeros.own.scale, zeros.own.shift) == (1, 0, 0)
            and list(crop.layer.bottom)[1:] == list(frame.layer.top)
            and list(pool.layer.bottom) == list(crop.layer.top)
            and list(zeros.layer.bottom) == list(pool.layer.top)
            and list(concat.layer.bottom) == [*pool.layer.top, *zeros.layer.top]
        )


class Frozen:
    """Steps without a learning layer under them: no gradient is recorded."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, tensors):
        with torch.no_grad():
            for step in self.steps:
                step(tensors)

    def changed(self):
        for step in self.steps:
            step.changed()


class Teacher(Frozen):
    """The teacher's steps, where one blob of it is read by other layers. An answer to an image must not depend on the images
    beside it, so that it may be kept (memo.py): it is asked for in chunks of one size.

    memo: a memo.Memo, or None.
    """

    CHUNK = 64

    def __init__(self, net, steps, top):
        super().__init__(steps)
        self.net, self.top, self.memo = net, top, None

    def __call__(self, tensors):
        images = tensors["data"]
        if self.memo is None:
            tensors[self.top] = self._ask(images)
            return
        slots = self.net.feed.slots(self.net.feed.next_batch - 1)
        kept = torch.from_numpy(self.memo.answers(slots, lambda places: self._ask_for(images[places])))
        kept = kept.view(torch.bfloat16) if kept.dtype == torch.uint16 else kept
        tensors[self.top] = kept.permute(0, 3, 1, 2) if kept.dim() == 4 else kept

    def keep(self, folder, key, say):
        """Keeps its answers in `folder`; see memo.Memo."""
        _, *shape = self.net.shapes[self.top]
        is_map = len(shape) == 3
        shape = (*shape[1:], shape[0]) if is_map else shape  # channels last, as the engine has them
        dtype = np.uint16 if is_map and self.net.bf16 else np.float32  # NumPy has no bfloat16
        slots = len(self.net.feed.images) * self.net.feed.crops
        self.memo = memo.Memo(folder, {**key, "blob": self.top}, slots, shape, dtype, say)

    def _ask_for(self, images):
        made = self._ask(images)
        made = made.permute(0, 2, 3, 1).contiguous() if made.dim() == 4 else made
        return (made.view(torch.uint16) if made.dtype == torch.bfloat16 else made).numpy()

    def _ask(self, images):
        rest = -len(images) % self.CHUNK
        images = torch.cat([images, images[:1].expand(rest, -1, -1, -1)]) if rest else images
        made = []
        for chunk in images.split(self.CHUNK):
            tensors = {"data": chunk.contiguous(memory_format=torch.channels_last)}
            super().__call__(tensors)
            made.append(tensors[self.top])
        whole = torch.cat(made) if len(made) > 1 else made[0]
        return whole[: len(whole) - rest]
