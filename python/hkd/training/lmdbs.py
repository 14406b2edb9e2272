"""The LMDBs that a stage is trained on: built where they are not there, and held against what the stage needs."""

import subprocess
import sys

from hkd.base.cli import IMAGE, ROOT, UserError, default_folder, require_writable
from hkd.base.files import shown
from hkd.base.python import SAFE_PATH
from hkd.paper import contents, datasets
from hkd.stages.stage import lineage
from hkd.training import beside


def provide(stage, runs, folders, manifests):
    """Builds each data set of `stage` and of what it needs that is not there, and verifies all: {name: folder}, {name: manifest or
    None}, which are filled in. runs: the folder of runs, which must be writable before the time that a data set takes."""
    last_of_each = {needed.experiment.dataset: needed for needed in lineage(stage)}
    for name, needed in last_of_each.items():
        if manifests[name] is None:
            require_writable(runs)
            manifests[name] = build(needed, folders[name])
        check(needed, manifests[name])
        contents.verify(manifests[name], needed.experiment.facts, say=lambda line: print(line, flush=True))


def build(stage, folder):
    """Builds the data set that is not there; one line says how to provide it where that cannot be done."""
    require_writable(folder)
    name = stage.experiment.dataset
    if name not in datasets.DATASETS:
        raise UserError(
            f"no {name} in {shown(folder)}: name its folder with --data, or build it: python data_tools/make_lmdb.py "
            f"--dataset {name} --source FOLDER --out {shown(folder)}"
        )
    tool = [str(ROOT / "data_tools/make_lmdb.py"), "--dataset", name, "--out", str(folder)]
    tool += ["--index"] if stage.declared.indexed else []
    print(f"{shown(folder)} is not there: building it", flush=True)
    done = subprocess.run([sys.executable, *SAFE_PATH, *tool], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["make_lmdb.py failed"])[-1].removeprefix("error: ")
        remedy = (
            f"mount the folder that has its official archive, or its LMDBs: -v FOLDER:{default_folder('data')}:z"
            if IMAGE
            else f"get its official archive and build it with python data_tools/make_lmdb.py --dataset {name} "
            f"--source ARCHIVE --out {shown(folder)}"
        )
        raise UserError(f"no {stage.experiment.facts.title} in {shown(folder)}: {remedy} ({reason})")
    return datasets.read_manifest(folder, stage.experiment.facts)


def check(stage, manifest):
    facts = stage.experiment.facts
    if manifest.pad != facts.pad:
        raise UserError(
            f"{shown(manifest.folder)} was built with --pad {manifest.pad}, {facts.title}'s networks need {facts.pad}: "
            f"build it again, or name another folder with --data"
        )
    if stage.experiment.batch > manifest.train_images:
        raise UserError(
            f"{shown(manifest.folder)} has {manifest.train_images} training images, fewer than a batch of {stage.experiment.batch}: use a smaller one, "
            f"--set batch=N"
        )
    beside.check_data(stage, manifest)
