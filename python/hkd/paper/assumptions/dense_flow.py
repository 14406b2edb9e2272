"""What is not known to us of the densely distilled flow (Bae et al. 2020)."""

from hkd.paper.assumptions.assumption import Assumption

ASSUMPTIONS = (
    Assumption(
        "Which matrices has the densely distilled flow (`dense-flow`), and in which steps?",
        "All six between the first convolution and the ends of the stacks; step i trains those that end at node i, from the "
        "weights of step i - 1, none frozen.",
        "The paper (Bae et al. 2020) could not be had: its abstract says overlapped, dense, bottom-up, sequential. This is the "
        "project's reading of it.",
        "--method dense-flow-cumulative, dense-concurrent, fsp-sequential",
    ),
    Assumption(
        "Which schedule have the steps of the dense flow?",
        "FSP's 21,000 (CIFAR-100: 32,000) iterations and rates, divided 3 : 7 : 15 as the layer-wise hints are.",
        "Nothing is known of it.",
        "--set flow_iterations=3000,7000,15000",
    ),
)
