"""Data sets that the papers do not use, or say little of, and transfers between them."""

from hkd.paper.assumptions.assumption import Assumption

ASSUMPTIONS = (
    Assumption(
        "Which settings has Fashion-MNIST, which the paper does not use?",
        "MNIST's.",
        "It has MNIST's format and size.",
        "--set ...",
    ),
    Assumption(
        "Which networks and schedule have SVHN and Tiny-ImageNet?",
        "14 to 8 layers; SVHN with CIFAR-10's settings, Tiny-ImageNet with CIFAR-100's and its networks four times as wide.",
        "Of the papers that use them we know the data sets' names only. So all papers' methods stand side by side.",
        "--set ...",
    ),
    Assumption(
        "Which pairs stand in for FSP's transfer from ImageNet to CUB200-2011?",
        "CIFAR-100 to CIFAR-10 and MNIST to Fashion-MNIST, 14 to 8 layers; any other of one image shape can be named.",
        "ImageNet's size. The same networks as without transfer, so that both can be compared.",
        "--experiment svhn-to-cifar10-r26-r14",
    ),
    Assumption(
        "Which schedule has a transfer?",
        "The student's data set's: stage 1 from 1e-3 in FSP's 21,000 iterations, stage 2 as the student alone. The teacher has "
        "its own data set's.",
        "FSP's 30,000 iterations of stage 2 are for a data set of 11,788 images; its 0.1 in stage 1 may be a slip. The student alone is the "
        "one that other tables have.",
        "--set fsp_lr=0.1 (max_iter and stepvalue reach the teacher too)",
    ),
    Assumption(
        "What does a transferred teacher see?",
        "What the student sees: the student's images, less their mean, not the mean that the teacher was trained with.",
        "One Data layer serves both networks; not stated. The stored statistics of its BatchNorm are its own data set's.",
        "python/hkd/networks/feed.py",
    ),
    Assumption(
        "Is there KD in a transfer?",
        "No: it is refused. Hints end in plain cross entropy there, `layerwise-ce`.",
        "The teacher's outputs are of other classes, also where their number is the same. FSP's second stage has no KD.",
        "--method fsp, dense-flow, layerwise-ce",
    ),
    Assumption(
        "How is SVHN prepared (2020 paper)?",
        "As CIFAR: per-pixel mean, padded by 4. The 73,257 training images without the 531,131 extra ones.",
        "Only the data set's name is known of that paper to us. The extra images are easier, and many times as many.",
        "python/hkd/paper/datasets.py",
    ),
    Assumption(
        "How is Tiny-ImageNet prepared (HKD)?",
        "As CIFAR: per-pixel mean, padded by an eighth of the side, 8 pixels; a grey image has three equal channels.",
        "Not known to us. Public code pads by 4 or 8; 8 of 64 shifts an image as far as 4 of 32.",
        "python/hkd/paper/datasets.py",
    ),
    Assumption(
        "Which images test Tiny-ImageNet?",
        "The 10,000 validation images.",
        "The labels of its test images are not published.",
        "data_tools/tiny_imagenet.py",
    ),
)
