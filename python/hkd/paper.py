"""What the papers state, number by number. Data only; each entry names its place in the paper.

ETRI: Bae, Yim, Kim, Pyo, Kim, "Layer-wise hint-based training for knowledge transfer in a teacher-student framework",
      ETRI Journal 41(2), 242-253, 2019.
HE:   He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Learning rate `base_lr`, divided by 10 at each iteration of `stepvalue`, until iteration `max_iter`."""

    base_lr: float
    stepvalue: tuple[int, ...]
    max_iter: int


# ETRI section 3.1.1 (CIFAR-10, after HE), 3.1.2 (CIFAR-100), 3.1.3 (MNIST): baseline, teacher and stage 2.
SCHEDULE = {
    "cifar10": Schedule(0.1, (32_000, 48_000), 64_000),
    "cifar100": Schedule(0.1, (32_000, 48_000), 64_000),
    "mnist": Schedule(0.1, (18_000, 27_000), 36_000),
}
BATCH = {"cifar10": 128, "cifar100": 128, "mnist": 64}  # ETRI 3.1.1-3.1.3

MOMENTUM = 0.9  # ETRI 3.1.1, after HE
WEIGHT_DECAY = 1e-4  # ETRI 3.1.1, after HE
TAU = 3.0  # ETRI 3.1: temperature, in all experiments
LAMBDA_KD = 5.0  # ETRI 3.1.1: best of 3 to 7
HINT_LR = 1e-4  # ETRI 3.1.1-3.1.3: stage 1, constant
HINT_ITERATIONS = {  # ETRI 3.1.1-3.1.3: steps 1, 2, 3
    "cifar10": (3_000, 7_000, 15_000),
    "cifar100": (5_000, 15_000, 15_000),
    "mnist": (3_000, 7_000, 15_000),
}
STACK_WIDTHS = (16, 32, 64)  # HE 4.2, ETRI figure 2: channels of the three stacks

# Accuracy Pc in percent: reported means. ETRI section 3.2 (baselines) and Table 1 (nets 1, 2, 3).
BASELINE_PC = {("cifar10", 8): 88.09, ("cifar10", 14): 90.79, ("cifar10", 26): 91.75}
TABLE_1 = {
    "kd": (90.77, 90.78, 90.74),
    "hint-kd": (91.05, 91.23, 91.19),
    "hint-kd-plus": (90.77, 90.37, 90.75),
    "layerwise": (91.66, 91.80, 91.64),
}
