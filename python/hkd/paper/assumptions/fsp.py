"""What Yim et al. 2017 (FSP) leave open."""

from hkd.paper.assumptions.assumption import Assumption

ASSUMPTIONS = (
    Assumption(
        "Between which layers is a FSP matrix (`fsp`)?",
        "The input of a stack (for the first: the first convolution after its ReLU) and its output, the larger map max-pooled.",
        "'The first and last layer of a section' can be read so, or as its first module; the paper pools, which only the first "
        "reading needs, and 8 layers have one module a stack.",
        "--set fsp_pairs=block",
    ),
    Assumption(
        "How is the FSP loss weighted and normalised?",
        "As equation (2) of Yim et al.: no half, summed over the matrix, averaged over the batch; lambda_i = 1, but 0.01 where the "
        "student has its teacher's 26 or 32 layers.",
        "'The same lambda for all', not which. From 26 to 26 layers the loss begins near 7e7, and with 1 it is infinite after 4 to 7 "
        "iterations, in Caffe and in PyTorch; with 0.01 it falls. From 14 to 8 layers 0.01 ends higher "
        "(results/measured). Public ports take means over the matrix.",
        "--set fsp_lambda=0.01",
    ),
    Assumption(
        "What is permuted in the FSP paper's runs with a dagger (`fsp-permuted`)?",
        "The teacher's channels at each node, in one random order a net; rows and columns of its matrices follow.",
        "'Randomly permuted' rows and columns; one order a node is what a permuted teacher would give.",
        "--net, --seed",
    ),
    Assumption(
        "Are training images cropped and mirrored in the FSP paper?",
        "On CIFAR-10 as in the ETRI paper, by the same authors. On CIFAR-100 neither: its 'without augmentation' leaves the image "
        "as it is, less the mean.",
        "It names padding and crops for CIFAR-10, no mirroring; for CIFAR-100 it says twice that there is no augmentation.",
        "--set augment=true",
    ),
    Assumption(
        "Which batch has the FSP paper, and is there a BatchNorm on its input?",
        "128, and no: the networks are the ETRI paper's.",
        "The batch is not stated; He et al. have 128. Its figure 2 draws a BatchNorm before the first convolution, its text has "
        "none.",
        "--set batch=64",
    ),
    Assumption(
        "Which are the FSP paper's three teachers, and which one is trained on (`continued`)?",
        "Net 1 is the one that teaches, and that is trained on, three times, by the students' schedule; nets 2 and 3 are trained "
        "like it (`--stage teacher --net 2`).",
        "Its table 4 has net 1 of table 2 as the teacher, and the ensemble of those trained on gains least, as if of one origin.",
        "python/hkd/results/fsp.py",
    ),
    Assumption(
        "Which layers have the FSP paper's FitNets (`fitnet`, `fitnet-3`), and how are three losses weighted?",
        "The ends of stack 2; of all three stacks, a third each.",
        "'Middle layer' and 'three intermediate layers' are as ETRI's pairs. A weight of 1 each is three times the rate.",
        "--set hint_lr=0.0003",
    ),
    Assumption(
        "How does the weight of FitNet's KD fall 'linearly from 4 to 1'?",
        "At every iteration, from 4 at the first to 1 after the last one of the stage.",
        "Neither the steps nor the end are stated. FitNets lower it with each epoch.",
        "--set fitnet_lambda=4,1",
    ),
    Assumption(
        "What is an ensemble of three nets?",
        "The class of the largest mean of their softmax outputs.",
        "The FSP paper says 'ensemble' only.",
        "python/hkd/results/ensembles.py",
    ),
    Assumption(
        "Do the iterations of stage 1 count in the curve of fast optimisation?",
        "Both are drawn: the last stage alone, and dotted with those of stage 1 before it.",
        "The FSP paper's figure 3 does not say.",
        "python/hkd/results/figures.py",
    ),
)
