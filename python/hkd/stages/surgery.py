"""Weights from one stage into the next: writes init.caffemodel and says, blob by blob, what became of what.

Caffe's own copy is silent about both sides: a source layer without a match is ignored, a target layer without a source
keeps its filler (net.cpp, CopyTrainedLayersFrom). Here a stage declares what it drops and what it leaves to the fillers,
and anything else is an error that names the layer.
"""

from dataclasses import dataclass, field
from pathlib import Path

from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.networks import losses, resnet

GIVEN = "name another file with --weights"


@dataclass(frozen=True)
class Source:
    """A trained network: its caffemodel, what is put before its layers' names, and the layers that may be dropped
    (prefixes of the names as they are in the source)."""

    path: Path
    prefix: str = ""
    drops: tuple[str, ...] = ()


@dataclass
class Report:
    """What became of each layer: copied {target: (source file, shapes)}, dropped and left to fillers {name: shapes}."""

    copied: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    fresh: dict = field(default_factory=dict)

    def lines(self):
        """What became of each blob, a line each: the content of init.txt."""
        for name, (source, shapes) in self.copied.items():
            yield f"copied   {name}  {_shapes(shapes)}  from {source}"
        for name, (source, shapes) in self.dropped.items():
            yield f"dropped  {name}  {_shapes(shapes)}  of {source}"
        for name, shapes in self.fresh.items():
            yield f"filler   {name}  {_shapes(shapes)}"

    def summary(self):
        """The same in one line, as counts."""
        return f"{len(self.copied)} layers copied, {len(self.dropped)} dropped, {len(self.fresh)} left to their fillers"


def transplant(network, wanted, sources, fresh):
    """(NetParameter with the copied layers, Report) for `network`.

    wanted: {layer name: [shape of each parameter blob]} of the network. fresh: prefixes of the layer names that are to be left to their fillers. Raises UserError, naming the layer, for a
    missing weight, a layer from two sources, a shape that differs, or a layer that nobody declared.
    """
    init = caffe_pb2.NetParameter(name=network.name)
    report = Report()
    for source in sources:
        for layer in read(source.path).layer:
            if not layer.blobs:
                continue
            target, shapes = source.prefix + layer.name, [_shape(blob) for blob in layer.blobs]
            if layer.name.startswith(source.drops):
                report.dropped[layer.name] = (shown(source.path), shapes)
                continue
            if target not in wanted:
                raise UserError(
                    f"{shown(source.path)}: layer {layer.name} has no place in {network.name}, and is not declared as dropped"
                )
            if target in report.copied:
                raise UserError(
                    f"{shown(source.path)}: layer {layer.name}: {target} was copied from {report.copied[target][0]} already"
                )
            if shapes != wanted[target]:
                raise UserError(
                    f"{shown(source.path)}: layer {layer.name} is {_shapes(shapes)}, {network.name} needs {_shapes(wanted[target])}"
                )
            init.layer.add(name=target, type=layer.type, blobs=layer.blobs)
            report.copied[target] = (shown(source.path), shapes)
    for name, shapes in wanted.items():
        if name in report.copied:
            continue
        if not name.startswith(tuple(fresh)):
            raise UserError(
                f"{network.name}: no source has weights for layer {name}, and it is not declared as left to its filler"
            )
        report.fresh[name] = shapes
    unmet = [prefix for prefix in fresh if not any(name.startswith(prefix) for name in report.fresh)]
    if unmet:
        raise UserError(f"{network.name}: no layer {unmet[0]}... was left to its filler, though the stage declares so")
    return init, report


def fitted(path, network, wanted):
    """The Report of what Caffe's own copy makes of the caffemodel at `path` in `network`; wanted: as in `transplant`. Raises UserError
    where that copy would end the process, for a shape that differs, and where it would copy nothing."""
    report = Report()
    for layer in read(path, GIVEN).layer:
        shapes = [_shape(blob) for blob in layer.blobs]
        if layer.name in wanted and shapes and shapes != wanted[layer.name]:
            raise UserError(
                f"{shown(path)}: layer {layer.name} is {_shapes(shapes)}, {network.name} needs {_shapes(wanted[layer.name])}: {GIVEN}"
            )
        if shapes:
            kept = report.copied if layer.name in wanted else report.dropped
            kept[layer.name] = (shown(path), shapes)
    if not report.copied:
        raise UserError(f"{shown(path)}: none of its layers is in {network.name}: {GIVEN}")
    report.fresh = {name: shapes for name, shapes in wanted.items() if name not in report.copied}
    return report


def read(path, remedy="delete its stage's folder and train it again"):
    """The NetParameter in a caffemodel. Raises UserError, with the way out, for a file that is missing or no caffemodel."""
    try:
        network = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{shown(path)} is missing: train that stage first") from None
    except DecodeError:
        raise UserError(f"{shown(path)} is no caffemodel, or a torn one: {remedy}") from None
    return network


def declared(stage, folder):
    """(sources, fresh) of a stage: what it copies, what it may drop, what it leaves to fillers. folder: stage -> Path."""
    parents, part, experiment = stage.parents, stage.part, stage.experiment
    sources, begun = [], None
    if "teacher" in parents:
        # A hint stage holds the teacher up to its last hint layer only.
        above = () if stage.declared.classifies else (*_names(experiment.teacher, stage.teacher_end), "fc")
        sources.append(Source(folder(parents["teacher"]) / "final.caffemodel", resnet.TEACHER, above))
    if "student" in parents:
        before = parents["student"].declared
        begun = parents["student"].learner_end
        drops = (resnet.TEACHER, losses.REGRESSOR, *(("fc",) if stage.fresh_fc else ()))
        sources.append(Source(folder(parents["student"]) / "final.caffemodel", "", drops))
    fresh = [] if begun else ["conv1", "bn1", "scale1"]
    fresh += _names(stage.learner, begun, stage.learner_end)
    if stage.declared.classifies and (stage.fresh_fc or not begun or not before.classifies):
        fresh.append("fc")
    fresh += stage.declared.fresh(experiment, part)
    return sources, tuple(fresh)


def _names(architecture, after, last=None):
    """What the layers of the residual modules above `after` (None: of all), up to `last`, are called."""
    modules = architecture.modules
    first = modules.index(after) + 1 if after else 0
    end = modules.index(last) + 1 if last else len(modules)
    return [resnet.module_name(module) for module in modules[first:end]]


def _shape(blob):
    return tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)


def _shapes(shapes):
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
