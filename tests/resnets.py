"""CIFAR ResNets as PyTorch's projects have them, for tests: option A both ways, projections, biases, names of several kinds."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, shortcut, bias):
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.kind, self.extra = shortcut, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride == 2 and shortcut in ("shortcut", "downsample"):
            setattr(
                self, shortcut, nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
            )

    def around(self, x):
        if not self.extra:
            return x
        if self.kind in ("shortcut", "downsample"):
            return getattr(self, self.kind)(x)
        before = 0 if self.kind == "appended" else self.extra // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.extra - before))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.around(x))


class ResNet(nn.Module):
    """shortcut: appended or two-sided (option A), shortcut or downsample (projections by that name)."""

    def __init__(self, depth=8, width=4, channels=3, classes=10, shortcut="appended", head="linear", bias=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=bias), nn.BatchNorm2d(width)
        inputs, self.head = width, head
        for stack in (1, 2, 3):
            outputs, blocks = width * 2 ** (stack - 1), []
            for _ in range((depth - 2) // 6):
                blocks.append(Block(inputs, outputs, shortcut, bias))
                inputs = outputs
            setattr(self, f"layer{stack}", nn.Sequential(*blocks))
        setattr(self, head, nn.Linear(inputs, classes))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return getattr(self, self.head)(x.mean((2, 3)))


def random_resnet(seed=1, **shape):
    """One in eval(), no two of whose channels are alike: weights, statistics, scales and biases at random."""
    torch.manual_seed(seed)
    network = ResNet(**shape)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for blob in (module.weight, module.running_var):
                    blob.uniform_(0.5, 1.5)
                for blob in (module.bias, module.running_mean):
                    blob.normal_(0, 0.3)
    return network.eval()
