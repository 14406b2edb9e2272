"""A method is a list of stages, as data: adding one of known kinds of stages is an entry of METHODS. The teacher is in no
list: it is trained once and serves every method."""

from dataclasses import dataclass

from hkd.base.cli import UserError, did_you_mean

PAIRS = (1, 2, 3)
# Between the nodes 0 (the first convolution), 1, 2 and 3 (the ends of the stacks): FSP's pairs, and all that overlap.
FLOWS = ((0, 1), (1, 2), (2, 3))
DENSE_FLOWS = tuple((first, last) for last in PAIRS for first in range(last))


TEACHER = ("", -1)  # where another method's part is named


@dataclass(frozen=True)
class Part:
    """One stage of a method.

    kind:   what is trained in it, a name of networks.kinds.KINDS: baseline, hint, fsp, kd, dynamic (hint-dynamic KD), grow (the
            student up to a stack, with a classifier of its own) or finetune (the whole student by cross entropy).
    step:   its number among the stages of that kind; 0 where there is one only.
    pairs:  of kind hint: which of the pairs (H1, G1), (H2, G2), (H3, G3). Their places are settings of the experiment,
            by default the ends of stacks 1, 2 and 3.
    flows:  of kind fsp: the FSP matrices, each between two of the nodes 0 (the first convolution), 1, 2 and 3 (the ends of
            the stacks).
    permuted: of kind fsp: each net has the teacher's channels in an order of its own.
    weights: of kind dynamic: where the hints' weights come from (layers/instance_weights.py).
    ensemble: of kind dynamic: whether an image's weights are averaged with those that it had before.
    weight: of kind kd: the setting that has the softened term's weight, a number, or two between which it falls.
    fitnet: of kind hint: by the FSP paper's schedule of FitNets.
    after:  the part whose student it starts from: an index into the same method, (method, index), or TEACHER, whose weights it
            then starts from; None: random weights.
    shared: one run serves nets 1 to 3, as the papers' first stages do.
    """

    kind: str
    step: int = 0
    pairs: tuple[int, ...] = ()
    flows: tuple[tuple[int, int], ...] = ()
    permuted: bool = False
    weights: str = ""
    ensemble: bool = False
    weight: str = "lambda_kd"
    fitnet: bool = False
    after: int | tuple[str, int] | None = None
    shared: bool = False

    @property
    def name(self):
        """hint2, or kd where there is one of its kind only."""
        return f"{self.kind}{self.step}" if self.step else self.kind

    @property
    def learns_weights(self):
        """Whether it has a meta-weight network, and so takes meta steps."""
        return self.weights in ("learned", "global")

    @property
    def last_node(self):
        """The last of the nodes that its hints or flows read: the networks in it are cut above it. None: they are whole."""
        return max((*self.pairs, *(last for _, last in self.flows)), default=None)


class Method(tuple):
    """Its parts, in order. title: what tables and figures call it. own: {setting: the method's own in its place}."""

    def __new__(cls, title, *parts, own=None):
        method = super().__new__(cls, parts)
        method.title, method.own = title, own or {}
        return method


def _hints_then_kd(*pairs):
    return (Part("hint", pairs=pairs, shared=True), Part("kd", after=0))


def _fitnet(title, *pairs):
    """As the FSP paper trains it: a schedule of its own, and a weight of KD that falls."""
    own = {"lambda_kd": "fitnet_lambda", "hint_kd_iterations": "fitnet_iterations"}
    hints = Part("hint", pairs=pairs, fitnet=True, shared=True)
    return Method(title, hints, Part("kd", weight="fitnet_lambda", after=0), own=own)


def _flows(*steps):
    """FSP stages one after another, each from the weights of the one before."""
    if len(steps) == 1:
        return (Part("fsp", flows=steps[0], shared=True),)
    after = (None, *range(len(steps)))
    return tuple(Part("fsp", i + 1, flows=flows, after=after[i], shared=True) for i, flows in enumerate(steps))


def _ending_at(node, flows):
    return tuple(flow for flow in flows if flow[1] == node)


METHODS = {
    # The student alone.
    "baseline": Method("student alone", Part("baseline")),
    # Equation (2) from random weights: knowledge distillation without hints.
    "kd": Method("KD without hints", Part("kd")),
    # Equation (1) on the middle pair, then equation (2).
    "hint-kd": Method("Hint-KD", *_hints_then_kd(2)),
    # The same on the whole network but its fully connected layer.
    "hint-kd-plus": Method("Hint-KD+", *_hints_then_kd(3)),
    # The proposed method (equations 5 and 6): each step starts from the one before, then equation (2).
    "layerwise": Method(
        "layer-wise hints, then KD",
        Part("hint", 1, (1,), shared=True),
        Part("hint", 2, (2,), after=0, shared=True),
        Part("hint", 3, (3,), after=1, shared=True),
        Part("kd", after=2),
    ),
    # Its hints without KD, as a teacher of other classes leaves it: cross entropy.
    "layerwise-ce": Method("layer-wise hints, then cross entropy", Part("finetune", after=("layerwise", 2))),
    # Equation (7): all pairs at once, equally weighted.
    "concurrent": Method("concurrent hints, then KD", *_hints_then_kd(*PAIRS)),
    # Section 3.3, after Roy et al.: three growing networks, each trained by cross entropy, then the whole fine-tuned.
    "sl-resnet": Method(
        "SL-ResNet",
        Part("grow", 1, shared=True),
        Part("grow", 2, after=0, shared=True),
        Part("grow", 3, after=1, shared=True),
        Part("finetune", after=2),
    ),
    # The same growing networks, fine-tuned by equation (2).
    "sl-resnet-kd": Method(
        "SL-ResNet with KD",
        Part("kd", weight="sl_lambda_kd", after=("sl-resnet", 2)),
        own={"lambda_kd": "sl_lambda_kd"},
    ),
    # FSP, algorithm 1: its three matrices at once, then cross entropy.
    "fsp": Method("FSP", *_flows(FLOWS), Part("finetune", after=0)),
    # FSP section 4.1, marked with a dagger: the teacher's matrices permuted, in another way for each net.
    "fsp-permuted": Method("FSP, teacher permuted", Part("fsp", flows=FLOWS, permuted=True), Part("finetune", after=0)),
    # What FSP compares with in its tables: FitNets with one hint and with three, and its teacher trained on.
    "fitnet": _fitnet("FitNet", 2),
    "fitnet-3": _fitnet("FitNet with three hints", *PAIRS),
    "continued": Method("teacher trained on", Part("finetune", after=TEACHER)),
    # Densely distilled flow, as this project reads it: step i trains all matrices that end at node i, then cross entropy.
    "dense-flow": Method(
        "dense flow step by step", *_flows(*(_ending_at(i, DENSE_FLOWS) for i in PAIRS)), Part("finetune", after=2)
    ),
    # The same steps, then equation (2).
    "dense-flow-kd": Method("dense flow step by step, then KD", Part("kd", after=("dense-flow", 2))),
    # Step i trains all matrices up to node i.
    "dense-flow-cumulative": Method(
        "dense flow step by step, cumulative",
        *_flows(*(tuple(f for f in DENSE_FLOWS if f[1] <= i) for i in PAIRS)),
        Part("finetune", after=2),
    ),
    # Its controls: all six at once; FSP's three one after another.
    "dense-concurrent": Method("dense flow at once", *_flows(DENSE_FLOWS), Part("finetune", after=0)),
    "fsp-sequential": Method(
        "FSP step by step", *_flows(*(_ending_at(i, FLOWS) for i in PAIRS)), Part("finetune", after=2)
    ),
    # Hint-dynamic KD, as this project reads it: a meta-weight network gives each image weights of its hints.
    "hint-dynamic": Method("hint-dynamic KD (HKD-like)", Part("dynamic", weights="learned", ensemble=True)),
    # Its controls: without the weights' history; learned weights that all images share; random ones; equal ones.
    "hint-dynamic-no-ensemble": Method("hint-dynamic KD (HKD-like), no history", Part("dynamic", weights="learned")),
    "hint-dynamic-global": Method("HKD-like, learned weights for all images alike", Part("dynamic", weights="global")),
    "hint-dynamic-random": Method("HKD-like, random weights", Part("dynamic", weights="random")),
    "hint-dynamic-equal": Method("HKD-like, equal weights", Part("dynamic", weights="equal")),
}
DEFAULT = "layerwise"
KINDS = ("teacher", *dict.fromkeys(part.kind for parts in METHODS.values() for part in parts))


def default_for(kind, among=METHODS):
    """The method of those that `--stage kind` means without --method: the proposed one if it has such a stage."""
    having = [name for name in among if any(part.kind == kind for part in METHODS[name])]
    return DEFAULT if DEFAULT in having or not having else having[0]


def find(method, kind, step):
    """The index of the part of `method` that `--stage kind --step step` means. step None: the last one of that kind."""
    if method not in METHODS:
        raise did_you_mean(method, METHODS, "method")
    parts = METHODS[method]
    steps = [part.step for part in parts if part.kind == kind]
    if not steps:
        known = ", ".join(dict.fromkeys(part.kind for part in parts))
        raise UserError(f"method {method} has no stage {kind}: its stages are {known} (choose another with --method)")
    if steps == [0]:
        if step is not None:
            raise UserError(f"--step {step}: stage {kind} of method {method} has no steps, leave --step out")
        step = 0
    elif step is None:
        step = steps[-1]
    elif step not in steps:
        raise UserError(f"--step {step}: method {method} has steps {steps[0]} to {steps[-1]}")
    return next(i for i, part in enumerate(parts) if (part.kind, part.step) == (kind, step))
