"""Which stages an experiment and a method come to, and what each starts from. Its name, its schedule and its files are made beside
(names, schedule, files)."""

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hkd.base.cli import UserError
from hkd.networks.kinds import KINDS
from hkd.paper import methods
from hkd.paper.changes import changed, of_teacher
from hkd.paper.experiment import Experiment, settings, unchecked
from hkd.paper.experiments import ALONE
from hkd.paper.methods import METHODS
from hkd.paper.settings import TRAINED, setting_text
from hkd.stages import files, names, schedule
from hkd.stages.names import TEACHER, group, lineage

__all__ = ["NETS", "TEACHER", "Stage", "group", "lineage", "planned"]

NETS = (1, 2, 3)  # the replicates of the papers' tables


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
            return Stage(of_teacher(self.experiment), "", -1, 0, self.scale, self.seed)
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
        return unchecked(self.experiment, base_lr=own.base_lr, stepvalue=own.stepvalue, max_iter=own.max_iter)

    # --- names --------------------------------------------------------------------------------------------------------

    @property
    def stem(self):
        """See names.stem."""
        return names.stem(self)

    @cached_property
    def name(self):
        """See names.name."""
        return names.name(self)

    @property
    def file_stem(self):
        """See names.file_stem."""
        return names.file_stem(self)

    @property
    def group(self):
        """Data set, scale and seed: stages of one group may share parents, those of different groups never."""
        return group(self.experiment.dataset, self.scale, self.seed)

    def folder(self, runs):
        """Where it lies under a runs folder."""
        return Path(runs) / self.group / self.name

    @property
    def changes(self):
        """See names.changes."""
        return names.changes(self)

    # --- numbers ------------------------------------------------------------------------------------------------------

    @cached_property
    def schedule(self):
        """See schedule.scaled."""
        return schedule.scaled(self)

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
        """See files.network."""
        return files.network(self, data_folder, test_images)

    def solver(self, net, snapshot_prefix, test_images):
        """See files.solver."""
        return files.solver(self, net, snapshot_prefix, test_images)

    def header(self):
        """See files.header."""
        return files.header(self)

    def files(self, folder, data_folder, test_images):
        """{name: text} of net.prototxt and solver.prototxt as they lie in the stage's `folder`."""
        return dict(files.texts(self, str(folder), str(data_folder), test_images))

    def messages(self):
        """See files.messages."""
        return files.messages(self)

    def digest(self, manifest, parents):
        """See files.digest."""
        return files.digest(self, manifest, parents)

    @property
    def beside(self):
        """The settings that the driver itself trains by, beside network and solver: hint-dynamic KD's meta steps."""
        if not self.declared.beside:
            return {}
        return {k: getattr(self.experiment, k) for k in settings() if k.startswith(self.declared.beside)}

    @property
    def fresh_fc(self):
        """Whether its fully connected layer begins anew though the student before it had one: a growing network gets a classifier
        of its own at every step, and so does the student after the last (sl_fc)."""
        return self.declared.grows or (self.trains_grown and self.experiment.sl_fc == "fresh")


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
        return Stage(of_teacher(experiment), "", -1, net if net > 1 else 0, scale, seed)
    if experiment.reported_in == ALONE:
        raise UserError(
            f"{experiment.name} is a teacher alone: add a student, as {experiment.name}-r8, or name --stage teacher"
        )
    index = methods.find(method, kind, step)
    for key, own in METHODS[method].own.items():
        if key in changed(experiment):
            value = setting_text(own, getattr(experiment, key)).replace(f"{own}=", "")
            raise UserError(
                f"--set {key}={value}: method {method} has a setting of its own for that: use --set {own}=..."
            )
    return Stage(experiment, method, index, 0 if METHODS[method][index].shared else net, scale, seed)
