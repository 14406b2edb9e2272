"""The hand-written port of eager_port.py as a public one would do bfloat16 on a CPU: torch.autocast, channels-last memory,
the frozen teacher's BatchNorm folded into its convolutions. What tests/bench.py compares --precision bf16 with, as it is and
through torch.compile."""

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from eager_port import Port


def folded(network):
    """`network`, in inference mode, with every BatchNorm folded into the convolution before it."""
    for module in list(network.modules()):
        for conv, bn in (("conv", "bn"), ("conv1", "bn1"), ("conv2", "bn2")):
            if hasattr(module, bn):
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
                setattr(module, bn, torch.nn.Identity())
    return network


class Bf16Port(Port):
    """Port's iteration in bfloat16; compiled: with both networks through torch.compile."""

    def __init__(self, *arguments, compiled=False):
        super().__init__(*arguments)
        self.teacher = folded(self.teacher).to(memory_format=torch.channels_last)
        self.student.to(memory_format=torch.channels_last)
        if compiled:
            self.loss = torch.compile(self.loss)

    def iterate(self):
        images, labels = (torch.from_numpy(array) for array in self.batches())
        images = images.to(memory_format=torch.channels_last)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.loss(images, labels)
        loss.backward()
        self.optimizer.step()
