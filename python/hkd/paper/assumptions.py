"""What the paper leaves open: each choice, its reason, and how to change it. README.md here shows this list (a
test compares)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumption:
    """`change`: how to choose otherwise, as it is typed, or where it is written."""

    question: str
    choice: str
    why: str
    change: str


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
        "mirrored digit is none.",
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
    Assumption(
        "Between which layers is a FSP matrix (`fsp`)?",
        "The input of a stack (for the first: the first convolution after its ReLU) and its output, the larger map max-pooled.",
        "'The first and last layer of a section' can be read so, or as its first module; the paper pools, which only the first "
        "reading needs, and 8 layers have one module a stack.",
        "--set fsp_pairs=block",
    ),
    Assumption(
        "How is the FSP loss weighted and normalised?",
        "As equation (2) of Yim et al.: no half, summed over the matrix, averaged over the batch, lambda_i = 1.",
        "'The same lambda for all', not which. Public ports take means over the matrix.",
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


def markdown():
    """The list as README.md shows it."""
    rows = [f"| {a.question} | {a.choice} | {a.why} | {_code(a.change)} |" for a in ASSUMPTIONS]
    return "\n".join(["| open question | choice | why | to change it |", "|---|---|---|---|", *rows]) + "\n"


def _code(change):
    return f"`{change}`"
