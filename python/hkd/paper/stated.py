"""What the papers state, number by number. Data only; each entry names its place in the paper.

ETRI: Bae, Yim, Kim, Pyo, Kim, "Layer-wise hint-based training for knowledge transfer in a teacher-student framework",
      ETRI Journal 41(2), 242-253, 2019.
FSP:  Yim, Joo, Bae, Kim, "A gift from knowledge distillation: fast optimization, network minimization and transfer
      learning", CVPR 2017.
HE:   He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Learning rate `base_lr`, multiplied by GAMMA at each iteration of `stepvalue`, until iteration `max_iter`."""

    base_lr: float
    stepvalue: tuple[int, ...]
    max_iter: int

    def scaled(self, scale):
        """Every count of iterations times `scale`, at least 1."""
        steps = sorted({scaled(step, scale) for step in self.stepvalue})
        return Schedule(self.base_lr, tuple(steps), scaled(self.max_iter, scale))

    def part(self, iterations):
        """Its steps in the same proportions, but of `iterations` in all."""
        steps = tuple(scaled(step, iterations / self.max_iter) for step in self.stepvalue)
        return Schedule(self.base_lr, steps, iterations)


def scaled(count, scale):
    """A count of iterations times the scale, rounded, at least 1."""
    return max(1, round(count * scale))


# ETRI section 3.1.1 (CIFAR-10, after HE), 3.1.2 (CIFAR-100), 3.1.3 (MNIST): baseline, teacher and stage 2.
SCHEDULE = {
    "cifar10": Schedule(0.1, (32_000, 48_000), 64_000),
    "cifar100": Schedule(0.1, (32_000, 48_000), 64_000),
    "mnist": Schedule(0.1, (18_000, 27_000), 36_000),
}
BATCH = {"cifar10": 128, "cifar100": 128, "mnist": 64}  # ETRI 3.1.1-3.1.3

GAMMA = 0.1  # ETRI 3.1.1, after HE: "divide it by 10"
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
HINT_KD_ITERATIONS = {"cifar10": 25_000, "cifar100": 35_000, "mnist": 25_000}  # ETRI 3.1: stage 1 with one pair
SL_ITERATIONS = {"cifar10": 12_000, "mnist": 8_000}  # ETRI 3.3: each of the three steps of SL-ResNet
SL_LAMBDA_KD = {"cifar10": 5.0, "mnist": 3.0}  # ETRI 3.3: SL-ResNet with KD
FSP_SCHEDULE = {  # FSP 4.1.1, 4.1.2: stage 1
    "cifar10": Schedule(1e-3, (11_000, 16_000), 21_000),
    "cifar100": Schedule(1e-3, (16_000, 24_000), 32_000),
}
FSP_FAST_SCHEDULE = Schedule(0.1, (11_000, 16_000), 21_000)  # FSP 4.1: stage 2 where fast optimisation is shown
FITNET_SCHEDULE = Schedule(1e-4, (25_000,), 35_000)  # FSP 4: the hints of the FitNets that it compares with
FITNET_LAMBDA = (4.0, 1.0)  # FSP 4: the weight of their KD, at the first and after the last iteration; tau = 3
STACK_WIDTHS = (16, 32, 64)  # HE 4.2, ETRI figure 2: channels of the three stacks

# Accuracy Pc in percent of a network trained alone, by data set, layers and width of the first stack: ETRI section 3.2.
# The 14-layer teacher of figure 10 is not reported. MNIST's are 100 - error.
BASELINE_PC = {
    ("cifar10", 8, 16): 88.09,
    ("cifar10", 14, 16): 90.79,
    ("cifar10", 26, 16): 91.75,
    ("cifar10", 26, 32): 93.36,
    ("cifar100", 8, 64): 69.51,
    ("cifar100", 20, 64): 74.43,
    ("cifar100", 26, 64): 74.65,
    ("cifar100", 14, 80): 73.49,
    ("mnist", 32, 16): 99.61,
    ("mnist", 8, 16): 99.4,
}

# Nets 1, 2 and 3 of each method: Pc in percent, for tables 3 and 4 the error Pe in percent.
TABLE_1 = {
    "kd": (90.77, 90.78, 90.74),
    "hint-kd": (91.05, 91.23, 91.19),
    "hint-kd-plus": (90.77, 90.37, 90.75),
    "layerwise": (91.66, 91.80, 91.64),
}
TABLE_2 = {
    "kd": (70.60, 71.25, 70.66),
    "hint-kd": (71.73, 71.57, 71.93),
    "hint-kd-plus": (71.24, 71.60, 71.35),
    "layerwise": (72.49, 72.91, 73.07),
}
TABLE_3_PE = {
    "kd": (0.56, 0.57, 0.55),
    "hint-kd": (0.51, 0.56, 0.45),
    "hint-kd-plus": (0.60, 0.50, 0.61),
    "layerwise": (0.41, 0.40, 0.44),
}
TABLE_4_PE = {  # the same pair as table 3, a second set of runs
    "kd": (0.58, 0.58, 0.56),
    "hint-kd": (0.52, 0.54, 0.62),
    "sl-resnet": (0.49, 0.49, 0.51),
    "sl-resnet-kd": (0.49, 0.47, 0.41),
    "layerwise": (0.38, 0.40, 0.39),
}
# With the regressor. The paper sets beside them what table 1 and figure 10 have without it (91.15, 91.70; 71.85, 72.65).
TABLE_5 = {"hint-kd": (91.25, 91.31, 91.09), "layerwise": (92.01, 92.05, 91.97)}
TABLE_6 = {"hint-kd": (71.88, 72.16, 72.35), "layerwise": (73.07, 72.94, 73.32)}

# Of the figures the full text has the axes and a few numbers; what stands in no text is absent here. Pc in percent, means
# of the three nets. Teachers and students alone are in BASELINE_PC.
FIGURE_10 = {"hint-kd": 71.85, "layerwise": 72.65}  # ETRI table 6, footnote
FIGURE_4_WINDOW = (30_000, 60_000)  # ETRI figure 4: iterations of stage 2 on its axis
FIGURE_4_TEST_LOSS = (27.6, 29.0)  # ETRI figure 4: the test loss on its left axis


@dataclass(frozen=True)
class Nets:
    """A row of FSP's tables 1 and 2: Pc of nets 1 to 3 and of the three as an ensemble, and the iterations of all three, without
    those of the teacher that they learn from. In the tables '' is the teacher."""

    Pc: tuple[float, float, float]
    ensemble: float
    iterations: int


FSP_TABLE_1 = {
    "": Nets((91.61, 91.56, 92.09), 93.48, 192_000),
    "baseline": Nets((90.47, 90.83, 90.62), 92.6, 63_000),  # 'Teacher*'
    "continued": Nets((91.84, 92.26, 92.01), 92.71, 63_000),  # the teacher with a double dagger
    "fitnet": Nets((91.69, 91.85, 91.64), 92.98, 98_000),
    "fitnet-3": Nets((88.90, 89.35, 89.02), 89.92, 98_000),
    "fsp": Nets((92.28, 92.08, 92.07), 93.26, 84_000),
    "fsp-permuted": Nets((92.28, 91.89, 92.08), 93.67, 126_000),  # 'Student*' with a dagger
}
FSP_TABLE_2 = {
    "": Nets((64.06, 64.19, 64.21), 69.3, 192_000),
    "baseline": Nets((61.29, 61.26, 61.41), 67.2, 63_000),
    "fitnet": Nets((62.85, 62.46, 62.35), 67.6, 98_000),
    "fsp": Nets((64.66, 64.64, 64.65), 68.8, 95_000),
}
# One number a network: Pc in percent.
FSP_TABLE_3 = {"": 91.91, "baseline": 87.91, "fitnet": 88.57, "fsp": 88.70}
FSP_TABLE_4 = {"": 64.06, "baseline": 58.65, "fitnet": 61.28, "fsp": 63.33}
