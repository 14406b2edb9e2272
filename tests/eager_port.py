"""The networks written by hand in plain PyTorch (NCHW, nn.Module, torch.optim), as public ports have them: what
tests/bench.py compares speeds with. Not Caffe's semantics in every detail, but its multiply-adds."""

import torch
import torch.nn.functional as F
from torch import nn

from hkd.paper import stated


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride = stride
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))
        return F.relu(x + y)


class ResNet(nn.Module):
    def __init__(self, depth, width=16, classes=10):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv, self.bn = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.stacks = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(width * 2**s if b or not s else width * 2 ** (s - 1), width * 2**s, 2 if s and not b else 1)
                    for b in range(blocks)
                )
            )
            for s in range(3)
        )
        self.fc = nn.Linear(4 * width, classes)

    def features(self, x, last=3):
        x = F.relu(self.bn(self.conv(x)))
        for stack in self.stacks[:last]:
            x = stack(x)
        return x

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Port:
    """One iteration of `kind`: baseline, kd, or hint at the end of stack `step`. depths: of teacher and student."""

    def __init__(self, kind, step, batches, depths=(26, 14)):
        self.kind, self.step, self.batches = kind, step, batches
        self.teacher, self.student = ResNet(depths[0]).eval(), ResNet(depths[1])
        rate = stated.HINT_LR if kind == "hint" else stated.SCHEDULE["cifar10"].base_lr
        rules = {"momentum": stated.MOMENTUM, "weight_decay": stated.WEIGHT_DECAY}
        self.optimizer = torch.optim.SGD(self.student.parameters(), rate, **rules)

    def iterate(self):
        images, labels = (torch.from_numpy(array) for array in self.batches())
        self.optimizer.zero_grad()
        self.loss(images, labels).backward()
        self.optimizer.step()

    def loss(self, images, labels):
        if self.kind == "hint":
            with torch.no_grad():
                hint = self.teacher.features(images, self.step)
            return (self.student.features(images, self.step) - hint).square().sum() / (2 * len(images))
        logits = self.student(images)
        loss = F.cross_entropy(logits, labels)
        if self.kind == "kd":
            with torch.no_grad():
                target = F.softmax(self.teacher(images) / stated.TAU, 1)
            loss = loss - stated.LAMBDA_KD * (target * F.log_softmax(logits / stated.TAU, 1)).sum(1).mean()
        return loss
