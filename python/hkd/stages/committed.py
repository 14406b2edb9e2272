"""The committed files of prototxt/ and solvers/: every experiment's networks and solver files at full scale."""

from hkd.base.cli import ROOT, UserError
from hkd.networks import deploy, prototxt, solvers
from hkd.paper import experiments, methods
from hkd.paper.changes import of_teacher
from hkd.stages.stage import TEACHER, Stage, lineage, planned


def stages(experiment):
    """The stages that have files: the teacher, and each part of each method that the paper reports (nets differ in the
    seed alone)."""
    yield planned(experiment, "", "teacher")
    for method in ("baseline", *experiment.methods):
        for part in methods.METHODS[method]:
            yield planned(experiment, method, part.kind, part.step or None)


def stage_files(stage):
    """{path from the checkout: text} of one stage: its network and its solver file, seed 1, net 1."""
    facts = stage.experiment.facts
    net = f"prototxt/{facts.name}/{stage.file_stem}.prototxt"
    solver = f"solvers/{facts.name}/{stage.file_stem}.prototxt"
    network = stage.network(f"data/{facts.name}", facts.test_images)
    header = stage.header()
    return {
        net: prototxt.text(network, header),
        solver: solvers.text(stage.solver(net, stage.stem, facts.test_images), header),
    }


def experiment_files(experiment):
    """{path from the checkout: text} of all files of one experiment: stages, and deploy networks of both architectures."""
    files = {}
    for stage in stages(experiment):
        files |= stage_files(stage)
    for e, architecture in ((of_teacher(experiment), experiment.teacher), (experiment, experiment.student)):
        path = f"prototxt/{e.dataset}/{architecture.name}-deploy.prototxt"
        header = [
            f"{e.facts.title}, {architecture.name}: for images of your own. Subtract mean_test.binaryproto first."
        ]
        if not e.facts.mean:
            header = [f"{e.facts.title}, {architecture.name}: for images of your own, pixels 0 to 255."]
        files[path] = prototxt.text(deploy.network(e, architecture), header)
    return files


def all_files():
    """{path from the checkout: text} of every file of prototxt/ and solvers/."""
    files = {}
    for experiment in experiments.EXPERIMENTS.values():
        files |= experiment_files(experiment)
    return files


def refuse_edited(stage):
    """Raises UserError if the committed files of `stage` were edited: the driver generates its own, so the edit would
    be ignored without a word."""
    for needed in lineage(stage):
        default = experiments.named(needed.experiment.name)
        net = 0 if needed.part is TEACHER else min(needed.net, 1)
        full = Stage(default, needed.method, needed.part_index, net, 1.0, 1)
        for path, text in stage_files(full).items():
            if (ROOT / path).exists() and (ROOT / path).read_text() != text:
                raise UserError(
                    f"{path} differs from what the generator makes (edited by hand?): change settings with --set, or restore it "
                    f"with python python/make_prototxt.py"
                )
