"""A file of weights taken for the teacher of an experiment, or refused in one line that names what does not fit."""

import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.base.files import sha256, shown
from hkd.paper.architecture import Architecture
from hkd.paper.changes import of_teacher
from hkd.paper.datasets import DATASETS
from hkd.stages.given import caffemodel, files, layers, pytorch
from hkd.stages.given.layers import Layers
from hkd.stages.given.normalised import Input, float32

DIGITS = 12
"""Of the weights' digest, in the setting teacher_weights and so in folders' names."""
EXAMPLE = "for example --mean 0.4914,0.4822,0.4465 --std 0.2023,0.1994,0.2010"


@dataclass(frozen=True)
class Given:
    """What the command line gives: the file, what its network's input went through, where its option A has zeros (of
    pytorch.PADDINGS). A file of Caffe's says the first itself, and has them as ours."""

    path: str
    input: Input = field(default_factory=Input)
    padding: str = pytorch.PADDINGS[0]

    def as_json(self):
        return asdict(self)

    @classmethod
    def from_json(cls, values):
        means = {key: value and tuple(value) for key, value in values["input"].items() if key in ("mean", "std")}
        return cls(values["path"], Input(**values["input"] | means), values["padding"])


@dataclass(frozen=True)
class Taken:
    """Weights that fit: `layers` (layers.Layers), `input` as it was in the end, and how the file's names became ours."""

    path: Path
    layers: Layers
    input: Input
    mapping: str

    @cached_property
    def digest(self):
        return self.layers.digest()

    @property
    def settings(self):
        """{setting: value} of the experiment that it teaches in."""
        return {"input_mean": self.input.setting, "teacher_weights": self.digest[:DIGITS]}

    @property
    def origin(self):
        """What a record says of it: names and words, no path."""
        return {
            "file": re.sub(r"[^\w.+-]", "_", self.path.name, flags=re.ASCII)[-100:],
            "sha256": sha256(self.path),
            "weights": self.digest,
            "mapping": self.mapping,
            "input": self.input.words,
        }

    def lines(self):
        """Blob by blob what it was made from: the content of init.txt."""
        for layer, shapes in self.layers.shapes().items():
            yield f"given    {layer}  {_by(shapes)}  from {self.layers.notes[layer]}"
        for name in self.layers.unused:
            yield f"left out {name}"

    def summary(self):
        return f"{len(self.layers.blobs)} layers from {shown(self.path)}, {len(self.layers.unused)} names left out"

    def init(self, network):
        """The NetParameter of `network` with these weights in its layers: what says of itself what its input is."""
        init = caffe_pb2.NetParameter()
        init.CopyFrom(network)
        for layer in init.layer:
            for values in self.layers.blobs.get(layer.name, ()):
                blob = layer.blobs.add(data=values.ravel())
                blob.shape.dim.extend(values.shape)
        return init


def take(given, experiment):
    """Taken: the weights of a Given for the teacher of `experiment`."""
    path = files.named(given.path)
    read = _of_caffe if files.kind(path) == ".caffemodel" else _of_pytorch
    return _taken(path, *read(path, given, experiment), of_teacher(experiment))


# --- what a file has ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What of a network can be told from its weights."""

    architecture: Architecture
    channels: int
    classes: int
    projection: bool


def _of_pytorch(path, given, experiment):
    """(Layers, Input, mapping) of a state dict."""
    tensors = files.tensors(path)
    modules = pytorch.modules(tensors)
    shape = _shape(path, modules, tensors.get("conv1.weight"), _head(tensors), pytorch.has_projection(tensors))
    _refuse_other(path, shape, experiment)
    found = pytorch.layers(tensors, shape.architecture.blocks, shape.projection)
    exported = pytorch.dialect(tensors).block.startswith("stack")
    asked = given.input
    if asked.mean is None and not exported:
        raise UserError(
            f"{shown(path)} does not say what its input was: add --mean and --std, {EXAMPLE} (of pixels / 255)"
        )
    mapping = "this project's export" if exported else "PyTorch's CIFAR ResNet"
    if given.padding == "two-sided" and not shape.projection:
        if shape.architecture.width % 2:
            raise UserError(f"--padding two-sided: {shape.architecture.width} channels have no half: use appended")
        if not found.missing:
            _refuse_shapes(path, found, of_teacher(experiment))
            pytorch.appended(found, shape.architecture.width)
        mapping += ", channels of stacks 2 and 3 from two-sided to appended zeros"
    return found, asked, mapping


def _head(tensors):
    return next((tensors[name] for name in ("linear.weight", "fc.weight") if name in tensors), None)


def _of_caffe(path, given, experiment):
    """(Layers, Input, mapping) of a caffemodel: of the network in it that is the experiment's teacher."""
    network = caffemodel.read(path)
    found = caffemodel.networks(path, network)
    shapes = {prefix: _shape_of(path, own) for prefix, own in found.items()}
    fitting = [prefix for prefix, shape in shapes.items() if shape.architecture == experiment.teacher]
    if len(fitting) > 1:
        raise UserError(
            f"{shown(path)} has two networks of {experiment.teacher.depth} layers, one with and one without teacher/: give a file of one, as that of a teacher's stage is"
        )
    prefix = fitting[0] if fitting else next(iter(found))
    _refuse_other(path, shapes[prefix], experiment)
    if given.padding != pytorch.PADDINGS[0]:
        raise UserError(
            f"--padding {given.padding} is of PyTorch's files: Caffe's networks say themselves what they add"
        )
    mapping = f"Caffe's layers{', ' + prefix if prefix else ''}"
    channels = experiment.facts.channels
    return found[prefix], _input_of(path, given.input, *caffemodel.transform(network), channels), mapping


def _input_of(path, asked, means, factor, channels):
    """The Input of a caffemodel whose Data layer says `means` and `factor`. Raises UserError where the command line says otherwise."""
    if not means and factor == 1:
        return asked
    channels = len(means) or channels
    said = Input(tuple(map(float32, means)) or (0.0,) * channels, (1 / factor,) * channels, 255, asked.order)
    if asked.mean is not None and asked != said:
        raise UserError(f"{shown(path)}: its Data layer says {said.words}: leave --mean and --std out")
    return said


def _shape_of(path, found):
    blobs = {name: values[0] for name, values in found.blobs.items()}
    projection = any(name.endswith("/projection") for name in blobs)
    return _shape(path, set(layers.blocks_of(found)), blobs.get("conv1"), blobs.get("fc"), projection)


def _shape(path, modules, first, head, projection):
    """The Shape of a network of residual modules {(stack, block)} with a first convolution and a head; None: it has none."""
    counts = {stack: sum(s == stack for s, _ in modules) for stack, _ in sorted(modules)}
    stacks = ", ".join(f"stack {stack}: {count}" for stack, count in counts.items()) or "none"
    equal = list(counts) == [1, 2, 3] and len(set(counts.values())) == 1
    if not equal or modules != {(s, b) for s in counts for b in range(1, counts[1] + 1)}:
        raise UserError(
            f"{shown(path)} is no CIFAR ResNet of 6n+2 layers: expected three stacks of as many residual modules "
            f"(layer1.0.conv1 or stack1/block1/conv1, ...), found {stacks}"
        )
    for name, weight, ndim in (("conv1", first, 4), ("the fully connected layer", head, 2)):
        if weight is None or weight.ndim != ndim:
            raise UserError(
                f"{shown(path)}: {name} is {'missing' if weight is None else _by([weight.shape])}: it is no whole CIFAR ResNet"
            )
    architecture = Architecture(6 * counts[1] + 2, first.shape[0])
    return Shape(architecture, first.shape[1], head.shape[0], projection)


# --- whether it fits ----------------------------------------------------------------------------------------------------


def _refuse_other(path, shape, experiment):
    """Raises UserError where the file's network is not the experiment's teacher."""
    facts, asked = experiment.teacher_facts, experiment.teacher
    if shape.channels != facts.channels:
        kinds = [f"{count} channel{'s' * (count > 1)}" for count in (shape.channels, facts.channels)]
        raise UserError(
            f"{shown(path)} is of images of {kinds[0]}, {facts.title}'s have {kinds[1]}: {_other_data(shape)}"
        )
    if shape.classes != facts.classes:
        raise UserError(
            f"{shown(path)} has {shape.classes} classes, {facts.title} has {facts.classes}: {_other_data(shape)}"
        )
    if shape.architecture != asked:
        raise UserError(
            f"{shown(path)} is {_words(shape.architecture)}, the teacher of {experiment.name} {_words(asked)}: "
            f"use --experiment {_other_pair(shape.architecture, experiment)}"
        )
    if shape.projection != (experiment.shortcut == "projection"):
        own = ("option A, without weights", "projections")
        theirs, here = own[shape.projection], own[not shape.projection]
        raise UserError(
            f"{shown(path)} has shortcuts of {theirs}, {experiment.name} has {here}: add --set shortcut={'projection' if shape.projection else 'A'}"
        )


def _other_pair(architecture, experiment):
    """The name of the experiment of the same student and data with a teacher of that architecture."""
    taught_on = f"{experiment.teacher_dataset}-to-" if experiment.teacher_dataset else ""
    return f"{taught_on}{experiment.dataset}-{architecture.name}-{experiment.student.name}"


def _other_data(shape):
    fitting = [d.name for d in DATASETS.values() if (d.channels, d.classes) == (shape.channels, shape.classes)]
    if not fitting:
        return "no data set of this project is like that"
    return f"name an experiment of {' or '.join(fitting)}, for example {fitting[0]}-{shape.architecture.name}-r8"


def _words(architecture):
    return f"a network of {architecture.depth} layers and width {architecture.width}"


def _taken(path, found, own_input, mapping, experiment):
    """Taken, where every blob of the teacher is there, has its shape and finite numbers."""
    own_input.check(experiment.facts)
    _refuse_shapes(path, found, experiment)
    for layer, blobs in found.blobs.items():
        for number, blob in enumerate(blobs):
            if not np.isfinite(blob).all():
                raise UserError(
                    f"{shown(path)}: {layer}, blob {number} (from {found.notes[layer]}) has NaN or infinite numbers"
                )
        if re.search(r"(^|/|_)bn\d?$", layer) and not (blobs[2][0] and (blobs[1] >= 0).all()):
            raise UserError(
                f"{shown(path)}: {layer} has no statistics (from {found.notes[layer]}): give a network that was trained"
            )
    own_input.fold(found)
    return Taken(path, found, own_input, mapping)


def _refuse_shapes(path, found, experiment):
    """Raises UserError, naming each, for blobs that are missing, left over or of another shape than the teacher's."""
    facts = experiment.facts
    wanted = layers.wanted(experiment.teacher, facts.channels, facts.classes, experiment.shortcut == "projection")
    has = found.shapes()
    missing = found.missing or [layer for layer in wanted if layer not in has]
    left_over = found.left_over + [layer for layer in has if layer not in wanted]
    ill = [
        f"{layer} (from {found.notes[layer]}) is {_by(has[layer])}, needs {_by(shapes)}"
        for layer, shapes in wanted.items()
        if layer in has and has[layer] != shapes
    ]
    said = [("missing", missing), ("left over", left_over), ("of another shape", ill)]
    wrong = "; ".join(f"{what}: {', '.join(names)}" for what, names in said if names)
    if wrong:
        title = f"{experiment.teacher.name} of {facts.title}"
        raise UserError(f"{shown(path)} does not fit {title}: {wrong}: give the whole network, and no other's")


def _by(shapes):
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
