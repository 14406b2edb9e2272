"""What is not known to us of hint-dynamic KD (Liu et al. 2022)."""

from hkd.paper.assumptions.assumption import Assumption

ASSUMPTIONS = (
    Assumption(
        "Which hints does hint-dynamic KD weigh (`hint-dynamic`)?",
        "Softened outputs (tau squared times the Kullback-Leibler divergence, tau = 3) and the maps after stack 3 "
        "(mean squared difference; through a 1x1 regressor where the widths differ).",
        "The paper (Liu et al. 2022) could not be had: its abstract names 'prediction logits, feature embedding, "
        "etc.'. All of this method is the project's reading, and results are called HKD-like.",
        "--set dynamic_hints=soft,feature,fsp (the FSP matrix of stack 3 too), dynamic_tau=4",
    ),
    Assumption(
        "How are the hints of hint-dynamic KD brought to one scale?",
        "Each is divided by its mean in the first training batch, so that it begins near 1; cross entropy has the "
        "weight 1.",
        "Not known. A weight of mean 1 then means the same for each.",
        "--set dynamic_scales=5,1,1 (of soft, feature, fsp)",
    ),
    Assumption(
        "What is the meta-weight network of hint-dynamic KD told, and what does it give?",
        "An image's cross entropy and hint losses (divided by their running means), the student's largest probability "
        "and entropy, the share of the iterations done. One hidden layer of 100 ReLU units; softmax times the number "
        "of hints, so that an image's weights have the mean 1. They begin at 1.",
        "The abstract says 'in the perception of the dynamical learning progress'. The size is Meta-Weight-Net's, "
        "whose output is a sigmoid.",
        "--set dynamic_output=sigmoid (twice, to begin at 1), dynamic_hidden=50",
    ),
    Assumption(
        "How is that network trained?",
        "After every 5th iteration, on that iteration's batch: a virtual SGD step of the current rate, without "
        "momentum and weight decay; the cross entropy of a meta batch after it; its gradient by each weight from two "
        "passes forward (central differences); one step of Adam (1e-3, weight decay 1e-4). The virtual step uses the "
        "network's weights as they are, not averaged.",
        "Meta-Weight-Net's recipe in a form that needs no second derivatives, which Caffe does not have.",
        "--set dynamic_every=1 (dynamic_optimizer=sgd, dynamic_lr=1e-4, dynamic_weight_decay=0)",
    ),
    Assumption(
        "Which images are the meta batches of hint-dynamic KD?",
        "100 at a time of 1,000 training images drawn at random, as a test shows them (centre crop, no mirror). They "
        "stay in the training set.",
        "Meta-Weight-Net holds 1,000 out; then its student would be trained on fewer images than those it is compared "
        "with.",
        "--set dynamic_images=5000 (dynamic_batch=256)",
    ),
    Assumption(
        "How are an image's weights in hint-dynamic KD averaged with its earlier ones?",
        "Half the new weights, half their running mean (0.9 from visit to visit, this one with it, corrected for its "
        "beginning).",
        "The abstract says 'exploiting the historical statics'.",
        "--set dynamic_ensemble=uncertainty (the more an image's weights vary, the more of the mean), dynamic_mu=0.8, "
        "dynamic_u=0.3",
    ),
    Assumption(
        "Which schedule has hint-dynamic KD?",
        "KD's, from random weights.",
        "Not known; the methods of one table are trained alike.",
        "--set max_iter=48000",
    ),
)
