"""One stage's network in BVLC Caffe and in the torch engine: same weights, same batches, every layer's largest difference.

python python/compare_torch.py --experiment cifar10-r14-r8 --stage kd
python python/compare_torch.py --experiment cifar10-r14-r8 --stage hint --step 2 --json parity.json
python python/compare_torch.py --experiment mnist-r32-r8 --stage kd --iterations 2000 --losses losses.json
python python/compare_torch.py --experiment cifar10-r14-r8 --weights runs/.../final.caffemodel --export onnx
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from hkd.base.cli import Parser, UserError, default_folder, require_writable, run, use_project_python

if __name__ == "__main__":
    use_project_python()
    os.environ.setdefault("GLOG_minloglevel", "2")  # Caffe's log would bury the table

from hkd.base.files import sha256, shown, write_whole
from hkd.engines import choice
from hkd.engines import torch as torch_engine
from hkd.networks.resnet import TEACHER
from hkd.paper import contents, datasets, experiment_file, experiments, methods
from hkd.paper.settings import setting_text
from hkd.stages import loss_curves, records, surgery
from hkd.stages.stage import planned
from hkd.training import hint_dynamic


def parser():
    p = Parser(description="A stage's network in Caffe and in the torch engine, compared layer by layer.")
    p.add_argument(
        "--experiment", help=f"default: that of the record beside --weights with --export, else {experiments.DEFAULT}"
    )
    p.add_argument("--method", help="default: the one that has the stage")
    p.add_argument("--stage", choices=methods.KINDS, help="default: likewise, else kd")
    p.add_argument("--step", type=int)
    p.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    p.add_argument("--weights", type=Path, help="a caffemodel to start from; default: the fillers of Caffe")
    p.add_argument("--data", type=Path, help="folder of the LMDBs; default NAME in $HKD_DATA, else in data")
    p.add_argument("--iterations", type=int, default=20)
    p.add_argument(
        "--export", choices=("safetensors", "onnx"), help="write the student of --weights for PyTorch or as ONNX"
    )
    p.add_argument(
        "--out",
        type=Path,
        default=default_folder("results") / "export",
        help="of --export; default export in $HKD_RESULTS, else in results",
    )
    p.add_argument("--json", type=Path, help="write every difference to this file")
    p.add_argument(
        "--losses",
        type=Path,
        metavar="FILE",
        help="instead: train --iterations in both at the stage's own rates, and write the losses of each, as JSON",
    )
    return p


def main():
    options = parser().parse_args()
    torch_engine.require()
    check(options)
    if options.export:
        take_from_record(options)
    stage, folder, manifest = asked_for(options)
    if options.export:
        return export_student(options, stage, folder)
    if not choice.is_here("caffe"):
        raise UserError("comparing needs pycaffe, which is not here: `make setup` builds it (--export needs none)")
    if options.weights:
        check_weights(options.weights, stage, folder, manifest)
    return (write_losses if options.losses else compare)(options, stage, folder, manifest)


def check(options):
    """Raises UserError for what does not go together, and for files that cannot be written or are not there."""
    if options.iterations < 1:
        raise UserError(f"--iterations {options.iterations}: expected 1 or more")
    if options.losses and (options.json or options.export):
        raise UserError(
            f"--losses {options.losses}: goes with neither --json nor --export: make them by another command"
        )
    if options.weights and not options.weights.is_file():
        raise UserError(f"{shown(options.weights)} is missing: name a caffemodel with --weights")
    for path in filter(None, (options.json, options.losses)):
        if path.is_dir():
            raise UserError(f"{shown(path)} is a folder: name a file")
        require_writable(path.absolute().parent)


def asked_for(options):
    """(Stage, folder of its LMDBs, manifest of these) of the command line. Raises UserError where they are not there, or damaged."""
    datasets.declare_in(options.data)
    kind = options.stage or "kd"
    asked = experiment_file.named(options.experiment or experiments.DEFAULT, options.set)
    experiment = experiments.experiment(asked.experiment, asked.settings)
    stage = planned(experiment, options.method or asked.default_method(kind), kind, options.step)
    facts = stage.experiment.facts  # a teacher's data set may be another one than its student's
    folder = options.data or default_folder("data") / facts.name
    manifest = datasets.read_manifest(folder, facts)
    if manifest is None:
        raise UserError(
            f"no {facts.title} in {shown(folder)}: build it with data_tools/make_lmdb.py, or name it with --data"
        )
    contents.verify(manifest, facts)
    return stage, folder, manifest


def compare(options, stage, folder, manifest):
    from hkd.engines import parity

    with tempfile.TemporaryDirectory() as scratch:
        beside = None
        if stage.declared.beside:
            hint_dynamic.check_data(stage, manifest)
            beside = hint_dynamic.beside(stage, manifest, Path(scratch))
        found = parity.compare(stage, folder, manifest, options.iterations, options.weights, beside)
    print(parity.markdown(stage, found))
    if options.json:
        write_whole(options.json, parity.as_json(stage, found))
        print(f"written to {shown(options.json)}")
    return 0 if all(d.passes for d in found) else 1


def check_weights(path, stage, folder, manifest):
    """Says what of the weights is used. Raises UserError where they do not fit, or have no teacher for a stage that has one."""
    network = stage.network(folder, manifest.test_images)
    report = surgery.fitted(path, network, choice.parameter_shapes("caffe", network, stage.experiment.facts))
    absent = next((name for name in report.fresh if name.startswith(TEACHER)), None)
    if absent:
        raise UserError(
            f"{shown(path)} has no weights for {absent}, and a teacher of random weights has no statistics: name the stage's "
            f"init.caffemodel, or leave --weights out"
        )
    print(f"{shown(path)}: {report.summary()}")


def write_losses(options, stage, folder, manifest):
    if stage.declared.beside:
        raise UserError(f"--losses {options.losses}: {stage.name} trains beside its solver: leave --losses out")
    if options.iterations > stage.iterations:
        raise UserError(f"--iterations {options.iterations}: {stage.name} has {stage.iterations:,}: name at most these")
    from hkd.engines import side_by_side

    curves = side_by_side.train(stage, folder, manifest, options.iterations, options.weights)
    loss_curves.write(options.losses, curves)
    print(f"weights apart by {curves['apart'][-1][1]:.2g} of their length; written to {shown(options.losses)}")
    return 0


def take_from_record(options):
    """Sets what the record beside --weights says of them. Raises UserError where the command line says otherwise."""
    record = None
    if options.weights and options.weights.name == records.FINAL:
        record = records.read_record(options.weights.parent)
    if record is None:
        return
    if record["digests"][records.FINAL] != sha256(options.weights):
        raise UserError(f"{shown(options.weights)} is not the file that the record beside it names: move it elsewhere")
    said = {"experiment": record["experiment"], "method": record["method"], "stage": record["kind"]}
    said["step"] = record["step"]
    for name, value in said.items():
        asked = getattr(options, name)
        if asked is not None and asked != value:
            raise UserError(
                f"--{name} {asked}: the record beside {shown(options.weights)} says {value}: leave --{name} out"
            )
        setattr(options, name, value)
    # What changes a student's layers, and what they are fed.
    for key in ("shortcut", "input_mean"):
        if key not in record["settings"]:
            continue  # an older record
        value = record["settings"][key]
        own = setting_text(key, tuple(value) if isinstance(value, list) else value)
        other = next((x for x in options.set if x.startswith(f"{key}=") and x != own), None)
        if other:
            raise UserError(
                f"--set {other}: the record beside {shown(options.weights)} says {own}: leave --set {other} out"
            )
        options.set.append(own)


def export_student(options, stage, folder):
    if options.weights is None:
        raise UserError("--export needs --weights, the final.caffemodel of a trained student or teacher")
    from hkd.engines import export

    written, checked = export.write(
        options.export, stage.experiment, stage.learner, options.weights, folder, options.out
    )
    print(
        f"{', '.join(shown(path) for path in written)}: Pc {checked.Pc:.2f} % of {checked.images:,} test images as in {checked.reference}, logits "
        f"within {checked.difference:.1e}"
    )
    return 0


if __name__ == "__main__":
    run(main)
