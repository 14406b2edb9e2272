"""What the record of a stage says: what came out, how it was made, and the digests of all that it was made from."""

import platform
import subprocess
from dataclasses import asdict

from hkd.base.cli import IMAGE, ROOT
from hkd.base.files import sha256
from hkd.engines import choice, devices
from hkd.paper import datasets
from hkd.stages import answers, records


def record_of(training):
    """The record (records.write_record) of `training` (training.Training) that has just ended."""
    stage, seconds = training.stage, training.clock()
    tests = [line for line in records.read_log(training.folder) if "Pc" in line]
    best = max(tests, key=lambda line: line["Pc"], default=None)
    last = [line for line in records.read_log(training.folder) if "test_loss" in line][-1]
    made = [*records.FILES, records.FINAL, records.LOG, *([answers.FILE] if tests else [])]
    made += training.beside.kept
    own = datasets.said(stage.experiment.dataset, stage.experiment.teacher_dataset)
    return {
        "stage": stage.name,
        "experiment": stage.experiment.name,
        "dataset": stage.experiment.dataset,
        "method": stage.method or None,
        "kind": stage.kind,
        "step": stage.part.step or None,
        "net": stage.net or None,
        "scale": stage.scale,
        "seed": stage.seed,
        "random_seed": stage.random_seed,
        "iterations": stage.iterations,
        "Pc": {"last": tests[-1]["Pc"], "best": best["Pc"], "best_iteration": best["iteration"]} if tests else None,
        "test_loss": last["test_loss"],
        "seconds": round(seconds, 1),
        "iterations_per_second": round(stage.iterations / seconds, 3),
        "sessions": training.sessions,
        "teacher_answers": dict(zip(("asked", "kept"), training.answered(), strict=True))
        if training.answered()[0]
        else None,
        "engine": "+".join(training.all_engines()),
        "device": str(training.job.how.device),
        "deterministic": choice.deterministic(training.job.how.engine, training.job.how.device),
        "hardware": ", then ".join(training.all_hardware()),
        "settings": {
            key: value
            for key, value in asdict(stage.settled).items()
            if key not in ("name", "reported_in", "methods", "tag", "student_tag", "teacher_schedule", "schedules")
        }
        | dict(stage.experiment.schedules),
        "parents": {
            role: {"dataset": parent.experiment.dataset, "stage": parent.name, records.FINAL: training.parents[role]}
            for role, parent in stage.parents.items()
        },
        **({"origin": training.origin} if training.origin else {}),
        "official_data": training.manifest.official,
        **({"data_sets": own} if own else {}),
        "digests": {
            "stage": training.digest,
            "pixels": training.manifest.pixels,
            **{name: sha256(training.folder / name) for name in made},
        },
        "versions": _versions(training.job.how.engine),
    }


def _versions(engine):
    import google.protobuf
    import numpy

    return {
        "hkd-caffe": IMAGE or _commit(),
        "caffe": devices.caffe_build(),
        "torch": choice.version(engine),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "protobuf": google.protobuf.__version__,
    }


def _commit():
    """What git says of the checkout, or None where there is no git or the folder is no checkout of it."""
    try:
        said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
