"""Which stages an experiment and a method come to, what each starts from, and its files: network, solver, digest.

Nothing here trains or writes; training and make_prototxt.py decide what to do with it.
"""

import functools
import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hkd.base.cli import UserError
from hkd.networks import prototxt, solvers
from hkd.networks.feed import Feed
from hkd.networks.kind import Request
from hkd.networks.kinds import KINDS
from hkd.paper import experiments, methods
from hkd.paper.experiments import Experiment
from hkd.paper.methods import METHODS, Part
from hkd.paper.settings import TRAINED, number_text, setting_text
from hkd.paper.stated import Schedule

TEACHER = Part("teacher", shared=True)
EVERY = 1000  # iterations between two tests, and between two snapshots of `caffe train`, at full scale
LEAST_EVERY = 100  # a test of 10,000 images costs about as much as 25 iterations: scaled runs test no oftener
NETS = (1, 2, 3)  # the replicates of the papers' tables
DISPLAY = 100  # iterations between two lines of log.jsonl, at full scale
LEAST_DISPLAY = 10


@dataclass(frozen=True)
class Stage:
    """One stage of one experiment: what `run_stage.py --stage ... ` names.

    method, part: the stage is METHODS[method][part]; part -1 is the teacher, which belongs to no method.
    net:          the replicate, 1 to 3; 0 for a stage that all of them share. Of the teacher, 0 is net 1, which teaches; nets 2
                  and 3 are trained alike and teach nobody.
    """

    experiment: Experiment
    method: str
    part_index: int
    net: int
    scale: float
    seed: int

    @property
    def part(self):
        """The methods.Part that it is, TEACHER for the teacher."""
        return TEACHER if self.part_index < 0 else METHODS[self.method][self.part_index]

    @property
    def kind(self):
        """The name of its kind; what that kind is, is `declared`."""
        return self.part.kind

    @property
    def declared(self):
        """The networks.kind.Kind that it is of."""
        return KINDS[self.kind]

    # --- what it starts from ----------------------------------------------------------------------------------------

    @property
    def parents(self):
        """{role: stage} with the roles 'teacher' and 'student'."""
        found = {}
        if self.declared.taught:
            found["teacher"] = self._sibling("", -1)
        if self.part.after is not None:
            after = self.part.after
            found["student"] = self._sibling(*(after if isinstance(after, tuple) else (self.method, after)))
        return found

    def _sibling(self, method, index):
        if index < 0:
            return Stage(self.experiment.of_teacher, "", -1, 0, self.scale, self.seed)
        shared = METHODS[method][index].shared
        return Stage(self.experiment, method, index, 0 if shared else self.net, self.scale, self.seed)

    @property
    def taught(self):
        """Whether its weights depend on a teacher, in it or in a stage before it."""
        return self.declared.taught or any(parent.taught for parent in self.parents.values())

    @property
    def given(self):
        """Of a teacher from elsewhere the head of its weights' digest, the setting teacher_weights; '' of every other stage."""
        weights = self.experiment.teacher_weights
        return weights if self.part is TEACHER and not self.net and weights != TRAINED else ""

    @property
    def trains_student(self):
        """Whether it trains the whole student, by the experiment's own schedule."""
        return self.part is not TEACHER and self.declared.classifies and not self.declared.grows

    @property
    def trains_grown(self):
        """Whether it trains the whole student from the last of SL-ResNet's growing networks."""
        before = self.parents.get("student")
        return not self.declared.grows and before is not None and before.declared.grows

    @property
    def settled(self):
        """The experiment as this stage has it: a teacher with a schedule of its own, and the hints that it gives, are not of the
        student's. So they are the same in experiments that differ in that alone."""
        own = self.experiment.teacher_schedule
        if own is None or self.trains_student:
            return self.experiment
        return experiments.unchecked(
            self.experiment, base_lr=own.base_lr, stepvalue=own.stepvalue, max_iter=own.max_iter
        )

    # --- names --------------------------------------------------------------------------------------------------------

    @property
    def stem(self):
        """Networks, method and stage: r26-teacher, r14-baseline, r26-r14-kd, r26-r14-layerwise-hint2."""
        e = self.experiment
        if self.part is TEACHER:
            return "-".join(filter(None, (e.teacher.name, e.tag, "teacher")))
        # A stage that no teacher has a part in is the same whichever teacher the experiment has.
        names = [e.pair if self.taught else e.student.name, e.tag, e.student_tag if self.trains_student else ""]
        names += [self.method.removesuffix("-kd") if self.kind == "kd" else self.method]
        names += [self.part.name] if self.declared.named else []
        return "-".join(dict.fromkeys(filter(None, names)))

    @property
    def name(self):
        """The stage's folder: the stem, the net, and every changed setting that reaches it."""
        net = f"-net{self.net}" if self.net else ""
        return self.stem + net + "".join(f"+{setting_text(*item)}" for item in self.changes.items())

    @property
    def file_stem(self):
        """The name of its files in prototxt/ and solvers/: the stem and the iterations at full scale."""
        iterations = self._full_schedule.max_iter
        return f"{self.stem}-{iterations // 1000}k" if iterations % 1000 == 0 else f"{self.stem}-{iterations}"

    @property
    def group(self):
        """Data set, scale and seed: stages of one group may share parents, those of different groups never."""
        return group(self.experiment.dataset, self.scale, self.seed)

    def folder(self, runs):
        """Where it lies under a runs folder."""
        return Path(runs) / self.group / self.name

    @property
    def changes(self):
        """{setting: value} of the changed settings that reach it: those without which it, or a stage before it, would be made
        from something else."""
        return _changes(self)

    # --- numbers ------------------------------------------------------------------------------------------------------

    @property
    def _full_schedule(self):
        own = {
            name.partition(".")[2]: value
            for name, value in self.experiment.schedules
            if name.startswith(f"{self.kind}.")
        }
        found = replace(self.declared.schedule(self.settled, self.part), **own)
        beyond = [step for step in found.stepvalue if step >= found.max_iter]
        if beyond:
            raise UserError(
                f"{self.stem}: the rate is to fall at iteration {beyond[0]:,}, and the last one is {found.max_iter:,}: name both with "
                f"--set, for example {self.kind}.stepvalue={found.max_iter // 2} and {self.kind}.max_iter={found.max_iter}"
            )
        return found

    @cached_property
    def schedule(self):
        """The paper's schedule with every count of iterations multiplied by the scale; none at all for weights that are given."""
        if self.given:
            return Schedule(self._full_schedule.base_lr, (), 0)
        return self._full_schedule.scaled(self.scale)

    @property
    def iterations(self):
        """How many it trains for, as scaled."""
        return self.schedule.max_iter

    @property
    def random_seed(self):
        """Decides fillers, crops and mirroring; another one for every stage, net and --seed."""
        text = f"{self.seed} {self.experiment.dataset} {self.stem} {self.net}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1

    @property
    def learner(self):
        """The Architecture that it trains."""
        return self.experiment.teacher if self.part is TEACHER else self.experiment.student

    @property
    def learner_end(self):
        """The residual module that the learner in it is cut above, (stack, block)."""
        return self.declared.learner_end(self.experiment, self.part, self.learner)

    @property
    def teacher_end(self):
        """The same of a teacher beside a student."""
        return self.declared.teacher_end(self.experiment, self.part)

    # --- files --------------------------------------------------------------------------------------------------------

    def check(self):
        """Raises UserError where its network cannot be, without building it: widths or classes that do not fit."""
        self.declared.check(self.experiment, self.part)

    def network(self, data_folder, test_images):
        """Its NetParameter, reading LMDBs under `data_folder`."""
        e = experiments.unchecked(self.experiment, bn_fraction=scaled_fraction(self.experiment.bn_fraction, self.scale))
        feed = Feed(str(data_folder), e.batch, solvers.test_batch(test_images))
        self.check()
        return self.declared.network(
            Request(e, self.part, self.learner, self.learner_end, feed, self.iterations, self.random_seed)
        )

    def solver(self, net, snapshot_prefix, test_images):
        """Its SolverParameter for the network file `net`."""
        most = max(self.iterations, 1)
        every = min(max(round(EVERY * self.scale), LEAST_EVERY), most)
        display = min(max(round(DISPLAY * self.scale), LEAST_DISPLAY), most)
        return solvers.solver(
            net, self.schedule, self.experiment, test_images, self.random_seed, snapshot_prefix, every, display, every
        )

    def header(self):
        """The comment lines at the head of its files."""
        scale = "" if self.scale == 1 else f", scale {self.scale:g}: NOT the paper's number of iterations"
        length = f"weights {self.given}, not trained here" if self.given else f"{self.iterations} iterations{scale}"
        return [
            f"{self.experiment.facts.title}, {self.stem}: {length}",
            "Generated by this project's Python; an edit here is refused by run_stage.py.",
        ]

    def files(self, folder, data_folder, test_images):
        """{name: text} of net.prototxt and solver.prototxt as they lie in the stage's `folder`."""
        return dict(_files(self, str(folder), str(data_folder), test_images))

    @property
    def beside(self):
        """The settings that the driver itself trains by, beside network and solver: hint-dynamic KD's meta steps."""
        if not self.declared.beside:
            return {}
        return {k: getattr(self.experiment, k) for k in experiments.settings() if k.startswith(self.declared.beside)}

    @property
    def fresh_fc(self):
        """Whether its fully connected layer begins anew though the student before it had one: a growing network gets a classifier
        of its own at every step, and so does the student after the last (sl_fc)."""
        return self.declared.grows or (self.trains_grown and self.experiment.sl_fc == "fresh")

    def digest(self, manifest, parents):
        """sha256 over all that decides its weights: network, solver, images, and the weights that it starts from.

        parents: {role: sha256 of that stage's final.caffemodel}. Folders are left out, so that runs may be moved.
        """
        files = self.files("STAGE", "DATA", manifest.test_images)
        whole = {"files": files, "pixels": manifest.pixels, "parents": parents}
        if self.beside:
            whole["beside"] = self.beside
        if self.given:
            whole["given"] = self.given
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@functools.cache
def _files(stage, folder, data_folder, test_images):
    """See Stage.files. Kept, since a plan asks for a stage's network once for its digest and once for each stage after it."""
    net = stage.network(data_folder, test_images)
    solver = stage.solver(f"{folder}/net.prototxt", f"{folder}/caffe", test_images)
    return {
        "net.prototxt": prototxt.text(net, stage.header()),
        "solver.prototxt": solvers.text(solver, stage.header()),
    }


@functools.cache
def _changes(stage):
    """See Stage.changes."""
    changed = experiments.changed(stage.experiment)
    if not changed:
        return {}
    own = _made_from(stage)

    def without(keys):
        return _made_from(replace(stage, experiment=experiments.reset(stage.experiment, keys)))

    kept = {key: value for key, value in changed.items() if without([key]) != own}
    # Settings that make a difference only together.
    rest = [key for key in changed if key not in kept]
    return kept if without(rest) == own else changed


def _made_from(stage):
    """What it and the stages before it are made from, but for images."""
    return [_own(each) for each in lineage(stage)]


@functools.cache
def _own(stage):
    try:
        files = stage.files("STAGE", "DATA", stage.experiment.facts.test_images)
    except UserError as refused:  # a network that cannot be is one too, when it is compared with others
        return str(refused)
    return files, stage.beside, stage.fresh_fc, stage.given


def group(dataset, scale, seed):
    """The folder under --runs of what was trained with one data set, scale and seed."""
    name = "full" if scale == 1 else f"scale{number_text(scale)}"
    return Path(dataset) / f"{name}-seed{seed}"


def scaled_fraction(fraction, scale):
    """BatchNorm's moving average reaches back about 1 / (1 - fraction) iterations; a scaled run scales that count too,
    down to 10. Unscaled, the stored statistics of a short run would be those of its first, wild iterations.
    """
    shortest = min(fraction, 0.9)
    return max(shortest, round(1 - (1 - fraction) / scale, 6))


def planned(experiment, method, kind, step=None, net=1, scale=1.0, seed=1):
    """The stage that the command line names. Raises UserError for what does not fit together."""
    if not (math.isfinite(scale) and 0 < scale <= 1):
        raise UserError(f"--scale {scale}: expected more than 0 and at most 1 (the paper's iterations)")
    if net not in NETS:
        raise UserError(f"--net {net}: expected 1, 2, 3 or all")
    if not 0 <= seed < 2**31:
        raise UserError(f"--seed {seed}: expected 0 to {2**31 - 1}")
    if kind == "teacher":
        if step is not None:
            raise UserError(f"--step {step}: stage teacher has no steps, leave --step out")
        return Stage(experiment.of_teacher, "", -1, net if net > 1 else 0, scale, seed)
    index = methods.find(method, kind, step)
    for key, own in METHODS[method].own.items():
        if key in experiments.changed(experiment):
            value = setting_text(own, getattr(experiment, key)).replace(f"{own}=", "")
            raise UserError(
                f"--set {key}={value}: method {method} has a setting of its own for that: use --set {own}=..."
            )
    return Stage(experiment, method, index, 0 if METHODS[method][index].shared else net, scale, seed)


def lineage(last):
    """Every stage that `last` needs, parents first, `last` at the end, each once."""
    order = []
    for parent in last.parents.values():
        order += [found for found in lineage(parent) if found not in order]
    return [*order, last]
