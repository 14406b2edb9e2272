"""A CIFAR ResNet of 6n+2 layers (He et al. 2016, section 4.2) in plain PyTorch. Needs nothing but torch.

model = ResNet(depth=8, width=16, channels=3, classes=10)
model.load_state_dict(safetensors.torch.load_file("student.safetensors"))
logits = model.eval()(images)    # N x channels x size x size, pixels 0 to 255, as "input" in the .json beside it says

depth, width, channels and classes are in that .json; projection is True where its shortcut is "projection". Shortcut "A"
appends its zeros after the channels that it keeps, where other ports of this network put half of them on each side.
"""

import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN plus the shortcut, then ReLU."""

    def __init__(self, inputs, outputs, projection):
        super().__init__()
        self.stride = 2 if inputs != outputs else 1
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        if projection and self.stride == 2:
            self.projection, self.projection_bn = nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs)

    def shortcut(self, x):
        if self.stride == 1:
            return x
        if hasattr(self, "projection"):
            return self.projection_bn(self.projection(x))
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))  # option A: zeros for the new channels

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Images N x channels x size x size to logits N x classes. width: of the first stack, half and a quarter of the others'."""

    def __init__(self, depth, width=16, channels=3, classes=10, projection=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for stack in (1, 2, 3):
            outputs = width * 2 ** (stack - 1)
            blocks = nn.ModuleDict()
            for block in range(1, (depth - 2) // 6 + 1):
                blocks[f"block{block}"] = Block(inputs, outputs, projection)
                inputs = outputs
            setattr(self, f"stack{stack}", blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stack in (self.stack1, self.stack2, self.stack3):
            for block in stack.values():
                x = block(x)
        return self.fc(x.mean((2, 3)))
