"""A trained network out of Caffe: as a plain nn.Module with its state dict, or as ONNX, checked against Caffe's deploy."""

import json
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import caffe
import numpy as np
import torch
from caffe.proto import caffe_pb2

from hkd.base.cli import UserError
from hkd.base.files import sha256, shown, write_whole
from hkd.engines import choice
from hkd.engines.torch import data, plain
from hkd.engines.torch.blobs import array
from hkd.engines.torch.net import Net
from hkd.networks import deploy, losses, prototxt, resnet
from hkd.networks import plain as alone
from hkd.networks.feed import Feed
from hkd.paper.settings import number_text
from hkd.stages import surgery

FORMATS = ("safetensors", "onnx")
ASIDE = (resnet.TEACHER, losses.REGRESSOR, losses.COUNTED, losses.WEIGHTS)
"""What the names of layers with blobs begin with that a stage has beside its student."""
OTHER = "name what was trained with --experiment, --stage and --set shortcut=..."
TOLERANCE = 1e-4
"""Largest difference of a logit over the test set, relative to the largest logit."""


@dataclass(frozen=True)
class Checked:
    """What came out of running both over the whole test set: what the other was, images, largest relative difference, and
    both Pc in percent."""

    reference: str
    images: int
    difference: float
    Pc_reference: float
    Pc: float

    @property
    def passes(self):
        """Whether logits agree within the tolerance and Pc to the image."""
        return self.difference <= TOLERANCE and self.Pc == self.Pc_reference


def write(form, experiment, architecture, weights, folder, out):
    """Writes the network of `weights` (a caffemodel) under `out`; returns (paths, Checked). folder: the LMDBs'.

    safetensors: student.py, student.safetensors and student.json; onnx: student.onnx and student.json.
    Raises UserError where the written files do not give what Caffe gives, or without pycaffe the torch engine: then nothing stays.
    """
    model = module(experiment, architecture, surgery.read(weights, surgery.GIVEN))
    out.mkdir(parents=True, exist_ok=True)
    written = _safetensors(model, out) if form == "safetensors" else _onnx(model, experiment, out)
    run = _run_module(model, written) if form == "safetensors" else _run_onnx(written[0])
    checked = check(run, experiment, architecture, weights, folder)
    if not checked.passes:
        for path in written:
            path.unlink()
        raise UserError(
            f"{shown(written[-1])}: differs from {checked.reference} by {checked.difference:.1e}, Pc {checked.Pc:.2f} against {checked.Pc_reference:.2f} %: "
            f"nothing was kept"
        )
    about = {
        "architecture": {
            "depth": architecture.depth,
            "width": architecture.width,
            "channels": experiment.facts.channels,
            "classes": experiment.facts.classes,
            "shortcut": experiment.shortcut,
        },
        "input": _input(experiment),
        "weights": {"path": shown(weights), "sha256": sha256(weights)},
        "test_images": checked.images,
        "Pc": checked.Pc,
        f"largest_relative_difference_from_{checked.reference.replace(' ', '_').lower()}": checked.difference,
    }
    write_whole(out / "student.json", json.dumps(about, indent=1) + "\n")
    return [*written, out / "student.json"], checked


def _input(experiment):
    facts = experiment.facts
    colours = ", red, green, blue" if facts.channels == 3 else ""
    means = ", ".join(map(number_text, experiment.channel_means))
    what = f"float32, N x {facts.channels} x {facts.size} x {facts.size}, pixels 0 to 255{colours}"
    if means:
        return f"{what}, less {means}"
    return what + (", less mean_test.binaryproto of the data set" if facts.mean else "")


def module(experiment, architecture, network):
    """plain.ResNet with the weights of a NetParameter; what a stage has beside the student (ASIDE) is left out.

    Raises UserError for a layer that is missing, has another shape, or has no place in the network.
    """
    facts = experiment.facts
    model = plain.ResNet(
        architecture.depth, architecture.width, facts.channels, facts.classes, experiment.shortcut == "projection"
    )
    blobs = {
        layer.name: [torch.from_numpy(array(blob)) for blob in layer.blobs] for layer in network.layer if layer.blobs
    }
    state, used = {}, set()
    for name, wanted in model.state_dict().items():
        owner, _, kind = name.rpartition(".")
        stem, _, last = owner.rpartition(".")
        caffe_name = f"{stem.replace('.', '/')}/" if stem else ""
        state[name] = value = _value(blobs, caffe_name, last, kind)
        used |= {caffe_name + part for part in (_names(last) if "bn" in last else (last,))}
        if value.shape != wanted.shape:
            raise UserError(
                f"the caffemodel's {owner} is {_by(value)}, {architecture.name} of {facts.title} needs {_by(wanted)}: {OTHER}"
            )
    left = [name for name in blobs if name not in used and not name.startswith(ASIDE)]
    if left:
        raise UserError(
            f"the caffemodel's layer {left[0]} has no place in {architecture.name} of {facts.title}: {OTHER}"
        )
    model.load_state_dict(state)
    return model.eval()


def _value(blobs, stem, last, kind):
    """One entry of the state dict from Caffe's blobs: BatchNorm's statistics are sums there, its weights a Scale layer's."""
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    if "bn" not in last:
        return _blob(blobs, stem + last, {"weight": 0, "bias": 1}[kind])
    bn, scale = _names(last)
    if kind in ("weight", "bias"):
        return _blob(blobs, stem + scale, {"weight": 0, "bias": 1}[kind])
    count = _blob(blobs, stem + bn, 2)
    return _blob(blobs, stem + bn, {"running_mean": 0, "running_var": 1}[kind]) / (count if count else 1)


def _names(bn):
    """What Caffe calls the BatchNorm and the Scale layer that a module's `bn` is made of."""
    return bn, bn.replace("bn", "scale")


def _by(value):
    return "x".join(map(str, value.shape)) or "scalar"


def _blob(blobs, name, index):
    if name not in blobs:
        raise UserError(f"the caffemodel has no layer {name}: it is not a whole student, or of another shortcut")
    return blobs[name][index]


def _safetensors(model, out):
    from safetensors.torch import save

    source = out / "student.py"
    write_whole(source, Path(plain.__file__).read_text())
    # Not save_file: its files have mode 0600, whatever the umask.
    weights = save({name: value.contiguous() for name, value in model.state_dict().items()})
    write_whole(out / "student.safetensors", weights)
    return [source, out / "student.safetensors"]


def _run_module(model, written):
    """The module read back from what was written, as its user will read it."""
    import importlib.util

    from safetensors.torch import load_file

    spec = importlib.util.spec_from_file_location("exported_student", written[0])
    student = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(student)
    again = student.ResNet(**_shape(model))
    again.load_state_dict(load_file(written[1]))
    again.eval()

    def run(images):
        with torch.no_grad():
            return again(torch.from_numpy(images)).numpy()

    return run


def _shape(model):
    return {
        "depth": 6 * len(model.stack1) + 2,
        "width": model.conv1.out_channels,
        "channels": model.conv1.in_channels,
        "classes": model.fc.out_features,
        "projection": any("projection" in name for name in model.state_dict()),
    }


def _onnx(model, experiment, out):
    facts = experiment.facts
    example = torch.zeros(2, facts.channels, facts.size, facts.size)
    path = out / "student.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of a torchvision that nobody needs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return [path]


def _run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def check(run, experiment, architecture, weights, folder):
    """Checked: `run` (images to logits) against Caffe's deploy network, or where no pycaffe is the torch engine's test network, over the
    whole test set."""
    source = alone.network(experiment, architecture, Feed(str(folder), experiment.batch, 100))
    feed = data.Feed(
        next(x for x in source.layer if x.type == "Data" and x.include[0].phase == caffe_pb2.TEST), caffe_pb2.TEST, 0
    )
    if choice.is_here("caffe"):
        reference, trained = "Caffe", _in_caffe(deploy.network(experiment, architecture), weights)
    else:
        reference, trained = "the torch engine", _in_torch(prototxt.with_inputs(source, experiment.facts), weights)
    whole = len(feed.images)
    largest, scale, right = 0.0, 0.0, np.zeros(2, int)
    for k in range(-(-whole // feed.batch)):
        images, labels = feed.make(k)
        images, labels = images[: whole - k * feed.batch], labels[: whole - k * feed.batch]
        theirs, mine = trained(images), run(images)
        largest, scale = max(largest, float(np.abs(theirs - mine).max())), max(scale, float(np.abs(theirs).max()))
        right += [int((logits.argmax(1) == labels).sum()) for logits in (theirs, mine)]
    return Checked(reference, whole, largest / scale, *(100 * right / whole).tolist())


def _in_caffe(network, weights):
    """Images to logits of a deploy network in Caffe."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(prototxt.text(network, []))
        file.flush()
        net = caffe.Net(file.name, str(weights), caffe.TEST)

    def run(images):
        net.blobs["data"].reshape(*images.shape)
        net.blobs["data"].data[...] = images
        net.forward()
        return net.blobs["fc"].data

    return run


def _in_torch(network, weights):
    """Images to logits of a network with Input layers in the torch engine."""
    net = Net(network, caffe_pb2.TEST, random_seed=0)
    net.copy_from(weights)

    def run(images):
        net.inputs |= {"data": torch.from_numpy(images), "label": torch.zeros(len(images))}
        net.forward()
        return net.tensors["fc"].numpy()

    return run
