"""What Bae et al. 2019 (ETRI Journal) leave open, here `the paper`, and what holds for all papers."""

from hkd.paper.assumptions.assumption import Assumption

ASSUMPTIONS = (
    Assumption(
        "Is the softened term of equation (2) multiplied by tau squared?",
        "No: its weight is lambda_kd = 5.",
        "The equation has none, nor has the FitNets code that the paper builds on. (Hinton et al. multiply.) Our own runs speak for "
        "that: with tau squared KD ends where the student alone does (results/measured/softened-term.md). The axis of the paper's "
        "Figure 4 fits neither.",
        "--set kd_tau_squared=true",
    ),
    Assumption(
        "Is the hard term softened too?",
        "No: temperature 1.",
        "Equation (2) read to the letter softens it; FitNets and Hinton et al. use the plain output.",
        "--set hard_tau=3",
    ),
    Assumption(
        "Which shortcut where the maps halve?",
        "Option A: every second pixel, zeros for the new channels, no parameters.",
        "The paper says 'as in [5]', and He et al. use option A on CIFAR. Public Caffe ports use projections.",
        "--set shortcut=projection",
    ),
    Assumption(
        "Are training images mirrored?",
        "Yes on CIFAR and Tiny-ImageNet, no on MNIST, Fashion-MNIST and SVHN.",
        "The paper names padding and crops only, but refers to He et al., who mirror; its baselines lie on their curve. A "
        "mirrored digit is no digit.",
        "--set mirror=false",
    ),
    Assumption(
        "Where is the mean subtracted?",
        "Per pixel, before padding: a padded pixel is exactly 0. None on MNIST.",
        "He et al. subtract the per-pixel mean; the paper uses MNIST 'without data preprocessing'.",
        "data_tools/make_lmdb.py",
    ),
    Assumption(
        "What is subtracted where the teacher is from elsewhere (`--teacher-weights`)?",
        "What its training subtracted, a number a channel, from the student's images too. A padded pixel is black.",
        "One Data layer serves both networks, and PyTorch's recipes pad before they subtract. Nothing of the papers is like that.",
        "--set input_mean=125.307,122.961,113.8575",
    ),
    Assumption(
        "How many residual modules has a stack?",
        "n for 6n+2 layers: 1, 2, 4 for 8, 14, 26 layers.",
        "The paper's text says 2n modules, its figure 6 and its layer counts n (2n layers).",
        "python/hkd/networks/resnet.py",
    ),
    Assumption(
        "Is a hint taken before or after the ReLU?",
        "After the last ReLU of a stack: the blob that the next stack reads.",
        "The paper's figure draws the arrow from the module's outside.",
        "--set hint_relu=before",
    ),
    Assumption(
        "Which pair is the middle one of the original hint training (`hint-kd`)?",
        "The ends of stack 2 (H2, G2).",
        "The literal middle layer lies inside stack 2; its end is the only end of a module there in 8 layers.",
        "--set hint_layers=1.end,2.1,3.end (stack.block; guided_layers likewise)",
    ),
    Assumption(
        "Which maps are 'the whole network except the FC layer' (`hint-kd-plus`)?",
        "The ends of stack 3, before pooling (H3, G3).",
        "Equation (1) is defined on maps.",
        "python/hkd/paper/methods.py",
    ),
    Assumption(
        "How are the three losses of equation (7) weighted?",
        "A third each: the equation's 1/2N with all a_i = 1.",
        "The paper says equal weights, not which.",
        "python/hkd/networks/hint.py",
    ),
    Assumption(
        "What is the regressor between networks of different widths?",
        "A 1x1 convolution on the student's side, Gaussian of standard deviation 0.01, no bias; dropped after its step.",
        "'Convolutional, Gaussian initialization, no bias'; kernel and deviation are not stated. FitNets' kernel is 1x1 "
        "where the maps have one size.",
        "python/hkd/networks/losses.py",
    ),
    Assumption(
        "Which learning rate has stage 1 of SL-ResNet?",
        "0.1, constant.",
        "Not stated. It is what stage 2 and the baseline start from.",
        "--set sl_lr=0.01",
    ),
    Assumption(
        "What does stage 2 of SL-ResNet start from?",
        "The third network with a fresh fully connected layer. The three growing networks are shared by nets 1 to 3.",
        "The paper puts a fresh pooling and FC layer 'at each step' of stage 1, and says nothing of stage 2. With the old layer "
        "the three nets on MNIST, which has no crops, are one and the same; the paper's own differ there. Both were run "
        "(results/measured/sl-resnet-fc.md).",
        "--set sl_fc=kept",
    ),
    Assumption(
        "How is the hint loss normalised?",
        "Half the squared distance, summed over a sample's elements, averaged over the batch.",
        "Caffe's EuclideanLoss is exactly equation (1) so; a learning rate of 1e-4 fits a sum, not a mean.",
        "python/hkd/networks/losses.py",
    ),
    Assumption(
        "What is kept from one stage to the next?",
        "Weights and BatchNorm statistics; a new solver, momentum zero, for every stage.",
        "`caffe train -weights` does so, and equation (6) speaks of weights.",
        "python/hkd/stages/surgery.py",
    ),
    Assumption(
        "Weight decay and momentum in stage 1?",
        "As in stage 2: 1e-4 and 0.9, on every parameter that learns.",
        "The paper states them once, for all training.",
        "--set weight_decay=0 (all stages)",
    ),
    Assumption(
        "How far back do BatchNorm's stored statistics reach?",
        "Caffe's default fraction 0.999; a scaled run scales that reach of 1,000 iterations too, down to 10.",
        "Not stated. Unscaled, a run of 720 iterations tested at 76.6 %, and with a fraction of 0.9 at 86.4 % (8 layers, "
        "Fashion-MNIST, one run each): its statistics were those of its first iterations.",
        "--set bn_fraction=0.9",
    ),
    Assumption(
        "Does the teacher inside a student's network use its stored statistics?",
        "Yes, and it neither learns nor changes.",
        "Caffe would silently use batch statistics in the TRAIN phase and update the stored ones.",
        "python/hkd/networks/resnet.py",
    ),
    Assumption(
        "What differs between nets 1, 2 and 3?",
        "The random weights that the hint steps did not train, the order of crops and mirrors; not the shuffle.",
        "The paper copies the result of stage 1 to three nets.",
        "--net, --seed",
    ),
    Assumption(
        "Which iterate is reported?",
        "The last; the best is recorded beside it and never used to choose anything.",
        "Not stated; choosing the best would select on the test set.",
        "python/hkd/results/tables.py",
    ),
    Assumption(
        "How are the losses of Figure 9 normalised?",
        "Each hint's by the first value that the log of the concurrent training has of it; the proposed steps follow one "
        "another.",
        "Not stated. Both methods must share one scale, and both start from random weights there.",
        "python/hkd/results/figures.py",
    ),
    Assumption(
        "Do the bars of Figure 5, 'averaging the predictions of three', show an ensemble?",
        "No: the mean accuracy of three nets, as in the tables.",
        "Its axis ends below the single nets of Table 2, which an ensemble would exceed.",
        "python/hkd/results/figures.py",
    ),
)
