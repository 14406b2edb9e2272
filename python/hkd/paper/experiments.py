"""An experiment: a teacher, a student, a data set, and every setting that decides what is trained.

Settings that a paper leaves open have their default here and their reason in assumptions.py. `--set name=value` changes
any of them for one command; a changed setting gets a run folder of its own.
"""

import copy
import dataclasses
import re
from dataclasses import dataclass, replace

from hkd.base.cli import UserError, did_you_mean
from hkd.paper import datasets, own, stated
from hkd.paper.architecture import ENDS, Architecture, modules
from hkd.paper.methods import KINDS
from hkd.paper.settings import HINTS, OF_DATA_SET, TRAINED, checked, number_text, read, setting


@dataclass(frozen=True)
class Experiment:
    """A teacher, a student, a data set and every setting, as one record; those made by `setting` can be changed by --set. Raises
    UserError where settings contradict each other."""

    name: str
    reported_in: str  # the paper's table or figure
    dataset: str
    teacher: Architecture
    student: Architecture

    batch: int = setting(least=1, everywhere=True)
    base_lr: float = setting(above=0)
    stepvalue: tuple = setting()
    max_iter: int = setting(least=1)
    hint_iterations: tuple = setting()
    hint_kd_iterations: int = setting(least=1)
    sl_iterations: int = setting(least=1)
    fsp_stepvalue: tuple = setting()
    fsp_iterations: int = setting(least=1)
    flow_iterations: tuple = setting()  # of the steps of dense-flow and its controls
    sl_lambda_kd: float = setting(least=0)
    # What the names of its stages have to say because other experiments on the data set have it otherwise: `tag` of every
    # stage, `student_tag` of those that train the whole student by base_lr, stepvalue and max_iter.
    tag: str = ""
    student_tag: str = ""
    teacher_schedule: stated.Schedule | None = None  # None: the student's
    methods: tuple = ()  # what the paper reports of it; every method can be run on every experiment
    teacher_dataset: str | None = None  # where it is not the student's: transfer to another task
    # What stages of one kind have otherwise than its other settings say: (("kd.base_lr", 0.05), ...), by SCHEDULES' names.
    schedules: tuple = ()

    momentum: float = setting(stated.MOMENTUM, least=0, everywhere=True)
    weight_decay: float = setting(stated.WEIGHT_DECAY, least=0, everywhere=True)
    hint_lr: float = setting(stated.HINT_LR, above=0)
    hint_layers: tuple = setting(ENDS)  # H1, H2, H3 as stack.block
    guided_layers: tuple = setting(ENDS)  # G1, G2, G3
    hint_relu: str = setting("after", choices=("after", "before"))
    tau: float = setting(stated.TAU, above=0)
    lambda_kd: float = setting(stated.LAMBDA_KD, least=0)
    sl_lr: float = setting(0.1, above=0)
    sl_fc: str = setting("fresh", choices=("fresh", "kept"))  # of a net that starts from the third step
    fsp_lr: float = setting(1e-3, above=0)
    fsp_lambda: float = setting(1.0, above=0)  # FSP equation 2, one for all pairs
    fitnet_stepvalue: tuple = setting(stated.FITNET_SCHEDULE.stepvalue)  # of its hints, from hint_lr
    fitnet_iterations: int = setting(stated.FITNET_SCHEDULE.max_iter, least=1)
    fitnet_lambda: tuple = setting(stated.FITNET_LAMBDA)  # of its KD: from the first to the second
    fsp_pairs: str = setting("input", choices=("input", "block"))  # the first map of a pair

    augment: bool = setting(True, everywhere=True)  # False: training images neither cropped at random nor mirrored
    mirror: bool = setting(False, everywhere=True)
    input_mean: tuple = setting(
        (OF_DATA_SET,), everywhere=True
    )  # of each channel, in pixel values; else the data set's
    teacher_weights: str = setting(TRAINED, everywhere=True)  # of a teacher from elsewhere: the head of their digest
    shortcut: str = setting("A", choices=("A", "projection"), everywhere=True)
    bn_fraction: float = setting(0.999, above=0, everywhere=True)
    kd_tau_squared: bool = setting(False)
    hard_tau: float = setting(1.0, above=0)

    # Hint-dynamic KD.
    dynamic_hints: tuple = setting(HINTS[:2])
    dynamic_scales: tuple = setting((1.0, 1.0, 1.0))  # of HINTS: c_k times the mean of the first batch
    dynamic_tau: float = setting(stated.TAU, above=0)
    dynamic_every: int = setting(5, least=1)  # iterations from one meta step to the next
    dynamic_images: int = setting(1000, least=1)  # that the meta batches are drawn from
    dynamic_batch: int = setting(100, least=1)  # of a meta step
    dynamic_hidden: int = setting(100, least=1)
    dynamic_output: str = setting("softmax", choices=("softmax", "sigmoid"))
    dynamic_optimizer: str = setting("adam", choices=("adam", "sgd"))
    dynamic_lr: float = setting(1e-3, above=0)
    dynamic_weight_decay: float = setting(1e-4, least=0)
    dynamic_ensemble: str = setting("ema", choices=("ema", "uncertainty", "none"))
    dynamic_mu: float = setting(0.9, least=0)  # of the running mean of an image's weights
    dynamic_u: float = setting(0.5, least=0)  # of ema: the history's share
    dynamic_v0: float = setting(0.01, above=0)  # of uncertainty: the variance of equal shares

    def __post_init__(self):
        _refuse_other_shape(self)
        pairs = zip(self.hint_modules, self.guided_modules, strict=True)
        for i, (hint, guided) in enumerate(pairs, start=1):
            if hint[0] != guided[0]:
                raise UserError(
                    f"hint layer {self.hint_layers[i - 1]} and guided layer {self.guided_layers[i - 1]} of pair {i}: maps of "
                    f"different stacks differ in size, choose both in one stack with --set hint_layers and guided_layers"
                )
        if self.channel_means and len(self.channel_means) != self.facts.channels:
            raise UserError(
                f"--set input_mean={','.join(self.input_mean)}: images of {self.facts.title} have {self.facts.channels} "
                f"channel{'s' * (self.facts.channels > 1)}: expected a number for each"
            )
        if self.dynamic_batch > self.dynamic_images:
            raise UserError(
                f"--set dynamic_batch={self.dynamic_batch}: expected at most dynamic_images, {self.dynamic_images}: "
                "its images are drawn from these"
            )

    @property
    def hint_modules(self):
        """The residual modules of the teacher that H1, H2 and H3 are the outputs of, as (stack, block)."""
        return modules("hint_layers", self.hint_layers, self.teacher)

    @property
    def guided_modules(self):
        """The same of the student and G1, G2, G3."""
        return modules("guided_layers", self.guided_layers, self.student)

    @property
    def regressed_pairs(self):
        """The pairs whose widths differ, so that the guided layer needs a regressor."""
        widths = zip(self.teacher.widths, self.student.widths, strict=True)
        differ = [stack for stack, (teacher, student) in enumerate(widths, start=1) if teacher != student]
        return [i for i, (stack, _) in enumerate(self.hint_modules, start=1) if stack in differ]

    @property
    def dynamic_regressor(self):
        """Whether the feature hint of hint-dynamic KD goes through a regressor."""
        return "feature" in self.dynamic_hints and self.teacher.width != self.student.width

    @property
    def channel_means(self):
        """What is subtracted from each channel of an image, in pixel values; () where that is the data set's own: its mean
        image, or nothing."""
        return () if self.input_mean == (OF_DATA_SET,) else tuple(map(float, self.input_mean))

    @property
    def facts(self):
        """What is known of its data set: datasets.Dataset."""
        return datasets.dataset(self.dataset)

    @property
    def pair(self):
        """r26-r14; cifar100.r26-r14 where the teacher was trained on another data set than the student."""
        return (f"{self.teacher_dataset}." if self.teacher_dataset else "") + f"{self.teacher.name}-{self.student.name}"

    @property
    def mirrors(self):
        """Whether training images are mirrored at random."""
        return self.augment and self.mirror

    @property
    def of_teacher(self):
        """The experiment that its teacher is trained in: itself, or in a transfer the teacher alone on its own data set. What
        was changed for all stages is changed there too."""
        if self.teacher_dataset is None:
            return self
        everywhere = {k: v for k, v in changed(self).items() if settings()[k]["everywhere"]}
        return replace(named(f"{self.teacher_dataset}-{self.teacher.name}"), **everywhere)


def _refuse_other_shape(experiment):
    """The student's images go through the teacher too, and hints and flows need maps of one size."""
    if experiment.teacher_dataset is None:
        return
    theirs, own = datasets.dataset(experiment.teacher_dataset), experiment.facts
    if theirs == own:
        raise UserError(f"{experiment.name}: teacher and student are of {own.title} both: leave {theirs.name}-to- out")
    shapes = [f"{facts.channels}x{facts.size}x{facts.size}" for facts in (theirs, own)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{experiment.name}: images of {theirs.title} are {shapes[0]}, those of {own.title} {shapes[1]}: choose a teacher of "
            f"a data set whose images have the shape of the student's"
        )


# Data sets whose settings the papers do not state have those of another.
LIKE = {"fashion-mnist": "mnist", "svhn": "cifar10", "tiny-imagenet": "cifar100"}
OWN = "cifar10"  # whose settings a data set of the user's own has
MIRRORED = ("cifar10", "cifar100", "tiny-imagenet")  # digits and clothes are not

# Of the densely distilled flow's schedule nothing is known: FSP's, divided as ETRI divides its own (3 : 7 : 15).
FLOW_ITERATIONS = {"cifar10": (2_520, 5_880, 12_600), "cifar100": (4_571, 13_714, 13_715)}


def _from_paper(name, reported_in, dataset, teacher, student, **settings):
    """An experiment with what the papers state for its data set, or for the one that it is LIKE; schedule: of the student, and
    of the teacher too unless it has a teacher_schedule."""
    like = LIKE.get(dataset, dataset if dataset in datasets.DATASETS else OWN)
    settings.setdefault("mirror", (dataset if dataset in datasets.DATASETS else OWN) in MIRRORED)
    schedule = settings.pop("schedule", stated.SCHEDULE[like])
    return Experiment(
        name,
        reported_in,
        dataset,
        teacher,
        student,
        batch=stated.BATCH[like],
        base_lr=schedule.base_lr,
        stepvalue=schedule.stepvalue,
        max_iter=schedule.max_iter,
        hint_iterations=stated.HINT_ITERATIONS[like],
        hint_kd_iterations=stated.HINT_KD_ITERATIONS[like],
        # Not reported for CIFAR-100: CIFAR-10's.
        sl_iterations=stated.SL_ITERATIONS.get(like, stated.SL_ITERATIONS["cifar10"]),
        sl_lambda_kd=stated.SL_LAMBDA_KD.get(like, stated.LAMBDA_KD),
        # Not reported for MNIST: CIFAR-10's.
        fsp_stepvalue=(fsp := stated.FSP_SCHEDULE.get(like, stated.FSP_SCHEDULE["cifar10"])).stepvalue,
        fsp_iterations=fsp.max_iter,
        flow_iterations=FLOW_ITERATIONS.get(like, FLOW_ITERATIONS["cifar10"]),
        **settings,
    )


SCHEDULES = tuple(f"{kind}.{name}" for kind in KINDS for name in ("base_lr", "stepvalue", "max_iter"))
"""Settings of the schedule of one kind of stage: kd.base_lr, hint.max_iter, ..."""

R = Architecture
FAST = {  # FSP 4.1: the student has a third of its teacher's iterations
    "schedule": stated.FSP_FAST_SCHEDULE,
    "student_tag": "21k",
}
NOAUG = {"augment": False, "tag": "noaug"}  # FSP 4.1.2, 4.2.2: CIFAR-100 without augmentation
TABLE = ("kd", "hint-kd", "hint-kd-plus", "layerwise")
SL = ("sl-resnet", "sl-resnet-kd")

EXPERIMENTS = {
    e.name: e
    for e in (
        _from_paper("cifar10-r26-r14", "Table 1", "cifar10", R(26), R(14), methods=TABLE),
        _from_paper("cifar10-r14-r8", "Figures 4, 7", "cifar10", R(14), R(8), methods=(*TABLE, "concurrent", *SL)),
        _from_paper(
            "cifar10-r26-r8",
            "Figures 8, 9, FSP Table 3",
            "cifar10",
            R(26),
            R(8),
            methods=("hint-kd", "concurrent", "layerwise", "fitnet", "fsp"),
        ),
        _from_paper("cifar10-r26w32-r14", "Table 5", "cifar10", R(26, 32), R(14), methods=("hint-kd", "layerwise")),
        _from_paper("cifar100-r26-r8", "Table 2", "cifar100", R(26, 64), R(8, 64), methods=TABLE),
        _from_paper("cifar100-r20-r8", "Figure 5", "cifar100", R(20, 64), R(8, 64), methods=TABLE),
        _from_paper(
            "cifar100-r14-r8",
            "Figure 10",
            "cifar100",
            R(14, 64),
            R(8, 64),
            methods=("hint-kd", "concurrent", "layerwise", "hint-dynamic"),  # the last is HKD's, on its data set
        ),
        _from_paper(
            "cifar100-r14w80-r8",
            "Table 6",
            "cifar100",
            R(14, 80),
            R(8, 64),
            methods=("hint-kd", "layerwise"),
        ),
        _from_paper("mnist-r32-r8", "Tables 3, 4", "mnist", R(32), R(8), methods=(*TABLE, *SL)),
        _from_paper("cifar10-r26-r26", "FSP Figure 3", "cifar10", R(26), R(26), methods=("fsp",)),
        _from_paper(
            "cifar10-r26-r26-21k",
            "FSP Table 1",
            "cifar10",
            R(26),
            R(26),
            teacher_schedule=stated.SCHEDULE["cifar10"],
            methods=("continued", "fitnet", "fitnet-3", "fsp", "fsp-permuted"),
            **FAST,
        ),
        _from_paper(
            "cifar100-r32-r32-noaug-21k",
            "FSP Table 2",
            "cifar100",
            R(32, 64),
            R(32, 64),
            teacher_schedule=stated.SCHEDULE["cifar100"],
            methods=("fitnet", "fsp"),
            **FAST,
            **NOAUG,
        ),
        _from_paper(
            "cifar100-r32-r14-noaug",
            "FSP Table 4",
            "cifar100",
            R(32, 64),
            R(14, 64),
            methods=("fitnet", "fsp"),
            **NOAUG,
        ),
        # The free data set of `make demo`, with MNIST's settings.
        _from_paper(
            "fashion-mnist-r14-r8",
            "not in the paper",
            "fashion-mnist",
            R(14),
            R(8),
            methods=(*TABLE, "concurrent", *SL),
        ),
        # The other data sets of dense flow and of HKD, with networks that the paper has on CIFAR.
        _from_paper("svhn-r14-r8", "not in the paper", "svhn", R(14), R(8), methods=("fsp", "dense-flow")),
        _from_paper(
            "tiny-imagenet-r14-r8",
            "not in the paper",
            "tiny-imagenet",
            R(14, 64),
            R(8, 64),
            methods=("kd", "layerwise", "hint-dynamic"),
        ),
    )
}


def _transfer(source, target):
    """The experiment `target` with its teacher trained on the data set `source`: FSP section 4.3."""
    own = named(target)
    words = {"reported_in": "transfer to another task", "methods": ("fsp",)}
    return replace(own, name=f"{source}-to-{own.name}", teacher_dataset=source, **words)


DEFAULT = "cifar10-r26-r14"
ALONE = "a teacher alone"
"""What an experiment without a student says where others name a table."""


NETWORK = r"-r(\d{1,9})(?:w(\d{1,9}))?"


def is_pair(name):
    """Whether a name is of the form DATASET-r20-r8 or DATASET-to-EXPERIMENT, so that `named` says what is wrong with it, if anything."""
    return re.fullmatch(rf".+{NETWORK}{NETWORK}", name) is not None


def named(name):
    """The experiment of that name without changes. Beside those of EXPERIMENTS there are DATASET-r20-r8, DATASET-r20w32-r8 (any
    pair of networks of 6n+2 layers), DATASET-to-EXPERIMENT, whose teacher was trained on DATASET, and DATASET-r26,
    DATASET-r26w64, in which such a teacher is trained; DATASET may be one of the user's own (own.py), which has the settings of OWN.

    Raises UserError for an unknown name, and for data sets between which nothing can be transferred.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    source, to, target = name.rpartition("-to-")
    if to:
        datasets.dataset(source)
        return _transfer(source, target)
    written = re.fullmatch(rf"(.+?){NETWORK}(?:{NETWORK})?", name)
    if written and (written[1] in datasets.DATASETS or not own.wrong_name(written[1], datasets.DATASETS)):
        datasets.dataset(written[1])
        dataset, *numbers = written.groups()
        teacher, *student = (
            Architecture(*(int(n) for n in pair if n)) for pair in (numbers[:2], numbers[2:]) if pair[0]
        )
        pair = "-".join((dataset, *(network.name for network in (teacher, *student))))
        known = EXPERIMENTS.get(pair)  # cifar100-r26-r8 is the paper's, of another width than r26w16 and r8w16
        if pair != name and (known is None or [known.teacher, known.student] == [teacher, *student]):
            return named(pair)  # one name for one pair: r014 and r14w16 are r14
        where = "not in the paper" if student else ALONE
        return _from_paper(name, where, dataset, teacher, student[0] if student else teacher, methods=TABLE)
    raise did_you_mean(name, EXPERIMENTS, "experiment")


def width_note(chosen):
    """A line for the user, where a pair whose name has no width is narrower than all that are known on its data set; else ''."""
    known = sorted({e.student.width for e in EXPERIMENTS.values() if e.dataset == chosen.dataset})
    networks, usual = (chosen.teacher, chosen.student), stated.STACK_WIDTHS[0]
    if chosen.name in EXPERIMENTS or any(network.width != usual for network in networks) or not known or usual in known:
        return ""
    wide = "-".join(f"r{network.depth}w{known[0]}" for network in networks)
    return (
        f"{chosen.name}: {usual} channels in the first stack; the pairs of --list on {chosen.facts.title} have {known[0]}: "
        f"{chosen.dataset}-{wide}"
    )


# In place of ImageNet and CUB200-2011, which FSP has. Any other pair can be named, see `named`.
for e in (_transfer("cifar100", "cifar10-r14-r8"), _transfer("mnist", "fashion-mnist-r14-r8")):
    EXPERIMENTS[e.name] = e


def experiment(name, changes=()):
    """Experiment `name` with `changes`, a sequence of 'setting=value' strings, applied.

    Raises UserError for an unknown experiment, setting or a value of the wrong kind.
    """
    found = named(name)
    given = dict(_parsed(found, change) for change in changes)
    schedules = tuple((key, given.pop(key)) for key in SCHEDULES if key in given)
    return replace(found, schedules=schedules, **given)


def changed(chosen):
    """{setting: value} of what differs from the experiment of that name, in the order of the fields."""
    default = named(chosen.name)
    fields = [k for k in settings() if k not in SCHEDULES]
    return {k: getattr(chosen, k) for k in fields if getattr(chosen, k) != getattr(default, k)} | dict(chosen.schedules)


def restored(name, values):
    """The experiment `name` with {setting: value} as `changed` gave it, and as JSON keeps it: lists for tuples. What was checked on
    its way in is not checked again."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    schedules = tuple((key, values.pop(key)) for key in SCHEDULES if key in values)
    return unchecked(named(name), **values, schedules=schedules)


def reset(chosen, keys):
    """`chosen` with the settings `keys` as the experiment of its name has them; see `unchecked`."""
    default = named(chosen.name)
    values = {key: getattr(default, key) for key in keys if key not in SCHEDULES}
    return unchecked(chosen, **values, schedules=tuple(item for item in chosen.schedules if item[0] not in keys))


def unchecked(chosen, **values):
    """`chosen` with other values of its fields, not checked as a whole: to be compared with, not to be trained. A stage may be shared
    by experiments whose settings, where it does not read them, fit one of them only."""
    found = copy.copy(chosen)
    for key, value in values.items():
        object.__setattr__(found, key, value)
    return found


def settings():
    """{name: metadata} of the settings that --set may change."""
    fields = {f.name: f.metadata for f in dataclasses.fields(Experiment) if "everywhere" in f.metadata}
    return fields | {name: fields[name.partition(".")[2]] for name in SCHEDULES}


def _parsed(default, change):
    key, equals, text = change.partition("=")
    known = settings()
    if not equals:
        raise UserError(f"--set {change}: expected setting=value, for example lambda_kd=3")
    if key not in known:
        raise did_you_mean(key, known, "setting")
    if key in SCHEDULES:
        value = checked(key, read(key, text, getattr(default, key.partition(".")[2])), known[key])
        return key, value
    value = checked(key, read(key, text, getattr(default, key)), known[key])
    if key == "input_mean" and value != (OF_DATA_SET,):  # one name for one number
        value = tuple(number_text(float(part)) for part in value)
    architecture = {"hint_layers": default.teacher, "guided_layers": default.student}.get(key)
    if architecture:  # one name for one layer
        value = tuple(re.sub(rf"\.{architecture.blocks}$", ".end", place) for place in value)
    return key, value
