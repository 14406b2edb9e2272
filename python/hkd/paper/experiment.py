"""An experiment: a teacher, a student, a data set, and every setting that decides what is trained.

Settings that a paper leaves open have their default here and their reason in assumptions/. `--set name=value` changes
any of them for one command; a changed setting gets a run folder of its own.
"""

import copy
import dataclasses
import re
from dataclasses import dataclass

from hkd.base.cli import UserError, did_you_mean
from hkd.paper import datasets, stated
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
    def teacher_facts(self):
        """The same of the data set that its teacher is trained on."""
        return datasets.dataset(self.teacher_dataset or self.dataset)

    @property
    def pair(self):
        """r26-r14; cifar100.r26-r14 where the teacher was trained on another data set than the student."""
        return (f"{self.teacher_dataset}." if self.teacher_dataset else "") + f"{self.teacher.name}-{self.student.name}"

    @property
    def mirrors(self):
        """Whether training images are mirrored at random."""
        return self.augment and self.mirror


def _refuse_other_shape(experiment):
    """The student's images go through the teacher too, and hints and flows need maps of one size."""
    if experiment.teacher_dataset is None:
        return
    theirs, own = experiment.teacher_facts, experiment.facts
    if theirs == own:
        raise UserError(f"{experiment.name}: teacher and student are of {own.title} both: leave {theirs.name}-to- out")
    shapes = [f"{facts.channels}x{facts.size}x{facts.size}" for facts in (theirs, own)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{experiment.name}: images of {theirs.title} are {shapes[0]}, those of {own.title} {shapes[1]}: choose a teacher of "
            f"a data set whose images have the shape of the student's"
        )


SCHEDULES = tuple(f"{kind}.{name}" for kind in KINDS for name in ("base_lr", "stepvalue", "max_iter"))
"""Settings of the schedule of one kind of stage: kd.base_lr, hint.max_iter, ..."""


def settings():
    """{name: metadata} of the settings that --set may change."""
    fields = {f.name: f.metadata for f in dataclasses.fields(Experiment) if "everywhere" in f.metadata}
    return fields | {name: fields[name.partition(".")[2]] for name in SCHEDULES}


def parsed(default, change):
    """(setting, value) of 'setting=value', a change of the experiment `default`. Raises UserError for an unknown setting, and for a
    value that it cannot have."""
    key, equals, text = change.partition("=")
    known = settings()
    if not equals:
        raise UserError(f"--set {change}: expected setting=value, for example lambda_kd=3")
    if key not in known:
        raise did_you_mean(key, known, "setting")
    value = checked(key, read(key, text, getattr(default, key.rpartition(".")[2])), known[key])
    if key == "input_mean" and value != (OF_DATA_SET,):  # 125 and 125.0 name one folder
        value = tuple(number_text(float(part)) for part in value)
    architecture = {"hint_layers": default.teacher, "guided_layers": default.student}.get(key)
    if architecture:  # so do 2.4 and 2.end where a stack has four blocks
        value = tuple(re.sub(rf"\.{architecture.blocks}$", ".end", place) for place in value)
    return key, value


def unchecked(chosen, **values):
    """`chosen` with other values of its fields, not checked as a whole: to be compared with, not to be trained. A stage may be shared
    by experiments whose settings, where it does not read them, fit one of them only."""
    found = copy.copy(chosen)
    for key, value in values.items():
        object.__setattr__(found, key, value)
    return found
