"""What a command would do: each stage that it comes to, with its digest as of now and how far it is."""

import shlex
import sys
from pathlib import Path

from hkd.base.cli import PACKAGE_FOLDER, ROOT
from hkd.base.files import shown
from hkd.base.python import SAFE_PATH
from hkd.networks import prototxt
from hkd.paper.changes import changed
from hkd.paper.settings import setting_text
from hkd.stages import records
from hkd.stages.stage import lineage


def digest(stage, options, manifests):
    """The stage's digest as of now; None while a parent is not finished, or the data set is not there. manifests: {data set: its
    Manifest, or None where it is not there}."""
    manifest = manifests[stage.experiment.dataset]
    if manifest is None:
        return None
    parents = {}
    for role, parent in stage.parents.items():
        state = records.state(parent.folder(options.runs), digest(parent, options, manifests))
        if state.status != "finished":
            return None
        parents[role] = state.final_sha256
    return stage.digest(manifest, parents)


def print_plan(stage, options, folders, manifests):
    """folders, manifests: {data set: folder of its LMDBs}, {data set: Manifest or None}."""
    e = stage.experiment
    scale = "" if stage.scale == 1 else f"   scale {stage.scale:g}: not the paper's iterations"
    learned_on = f" on {e.teacher_facts.title}" if e.teacher_dataset else ""
    print(
        f"{e.name} ({e.reported_in}): teacher {e.teacher.depth} layers{learned_on}, student {e.student.depth} layers, "
        f"{e.facts.title}{scale}"
    )
    where = [shown(path) + ("" if manifests[name] else " (not there: will be built)") for name, path in folders.items()]
    engine = "" if options.label == "caffe" else f"   engine: {options.label}"
    print(f"data: {', '.join(where)}   device: {options.device}" + engine)
    names = {
        s: s.name if s.experiment.dataset == e.dataset else f"{s.experiment.dataset}: {s.name}" for s in lineage(stage)
    }
    width = max(34, *map(len, names.values()))
    for needed, name in names.items():
        rate = needed.schedule.base_lr
        state = records.state(needed.folder(options.runs), digest(needed, options, manifests))
        words = {
            "new": "to train",
            "begun": f"to go on at {state.iteration:,}",
            **({"new": "given, to be tested", "begun": "given, to be tested"} if needed.given else {}),
            "finished": "finished, used again",
            "changed": "changed since: to train again",
        }[state.status]
        print(f"  {name:<{width}} {needed.iterations:>7,} iterations   lr {rate:<7g} {words}")
        on_the_cpu = prototxt.without_cuda(needed.network("DATA", 1)) if options.device.gpus else []
        if on_the_cpu and options.engine == "caffe":
            print(f"    Python layers, which compute on the CPU: {', '.join(on_the_cpu)}")
    sys.stdout.flush()  # the processes that follow write to the same place


def idle_changes(stages):
    """The changed settings, as --set takes them, that reach none of `stages` and none that these need."""
    reached = {key for stage in stages for needed in lineage(stage) for key in needed.changes}
    asked = {key: value for stage in stages for key, value in changed(stage.experiment).items()}
    return [setting_text(key, value) for key, value in asked.items() if key not in reached]


def print_result(stage, record, folder):
    Pc = record["Pc"]
    reached = (
        f"Pc {Pc['last']:.2f} % (best {Pc['best']:.2f} at {Pc['best_iteration']:,})"
        if Pc
        else f"test loss {record['test_loss']:.4g}"
    )
    print(f"{stage.name}: {reached}, {record['seconds']:.0f} s; {shown(folder)}/record.json")


def command_without_driver(folder, network):
    """The command that trains a prepared stage without the driver, from whatever folder: in pycaffe where it has Python layers,
    since our `caffe` binary and the Python module that such a layer needs have Caffe in them each."""
    there = f"cd {shlex.quote(str(ROOT))} && "  # the paths in its files are from here
    solver, weights = f"{folder}/solver.prototxt", f"{folder}/init.caffemodel"
    if not prototxt.without_cuda(network):
        caffe = Path(sys.executable).with_name("caffe")
        words = [shown(caffe) if caffe.exists() else "caffe", "train", "-solver", solver, "-weights", weights]
        return there + shlex.join(words)
    script = f"import caffe; s = caffe.get_solver({solver!r}); s.net.copy_from({weights!r}); s.solve()"
    python = shlex.join([shown(sys.executable), *SAFE_PATH, "-c", script])
    return f"{there}PYTHONPATH={shlex.quote(shown(PACKAGE_FOLDER))} {python}"
