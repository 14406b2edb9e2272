"""A network of one phase: its layers built and checked, run forward; parameter blobs in and out as caffemodels."""

import hashlib
from pathlib import Path

import torch
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.engines.torch import convolutions, fused, fusion, instance_weights, layers, steps
from hkd.engines.torch.blobs import Blob, array, filled, proto, shape_text
from hkd.engines.torch.built import Built
from hkd.engines.torch.data import Feed
from hkd.engines.torch.fields import one_of, only
from hkd.networks.resnet import TEACHER

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
LAYER_FIELDS = ("name", "type", "bottom", "top", "param", "include", "loss_weight", "propagate_down", "phase")
LOSSES = ("SoftmaxWithLoss", "EuclideanLoss")


class Net:
    """The layers of `network` (NetParameter) that `phase` has.

    tensors: the blobs of the last pass by name. built: the layers in order. Parameter blobs are float32 on `device`.
    """

    def __init__(self, network, phase, random_seed, device="cpu", precision="fp32"):
        only(network, ("name", "layer"), "network")
        self.network, self.phase, self.device = network, phase, torch.device(device)
        self.autocast = precision == "bf16" and self.device.type == "cuda"
        self.bf16 = precision == "bf16" and not self.autocast  # every map from the data on
        self.tensors, self.inputs, self.feeds = {}, {}, {}
        self.built = [self._build(x, random_seed) for x in network.layer if _belongs(x, phase)]
        with torch.no_grad():
            self._infer(random_seed)
        self.plan = fusion.plan(self)
        self.loss_weights = {
            top: weight
            for b in self.built
            for top, weight in zip(b.layer.top, _loss_weights(b.layer), strict=True)
            if weight
        }

    # --- building ---------------------------------------------------------------------------------------------------------

    def _build(self, layer, random_seed):
        where = f"layer {layer.name}"
        if layer.type == "Data":
            only(layer, (*LAYER_FIELDS, "data_param", "transform_param"), where)
            self.feeds[layer.name] = Feed(layer, self.phase, random_seed)
            return Built(layer, layers.Kind(None, "", ()))
        if layer.type == "Input":
            only(layer, (*LAYER_FIELDS, "input_param"), where)
            shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
            self.inputs |= dict(zip(layer.top, (torch.zeros(shape) for shape in shapes), strict=True))
            return Built(layer, layers.Kind(None, "", ()))
        if layer.HasField("phase"):
            one_of(layer.phase, (self.phase,), where, "phase")
        kind, state = layers.KINDS.get(layer.type), None
        if layer.type == "Python" and layer.python_param.module == instance_weights.MODULE:
            one_of(layer.python_param.layer, (instance_weights.LAYER,), where, "layer")
            state = instance_weights.InstanceWeights(layer, self.phase, Blob)
            kind = state.kind
        if kind is None:
            raise UserError(f"{where}: the torch engine has no layer type {layer.type}")
        only(layer, (*LAYER_FIELDS, kind.message), where)
        if kind.message:
            only(getattr(layer, kind.message), kind.fields, where)
        for spec in layer.param:
            only(spec, ("name", "lr_mult", "decay_mult"), where)
        for rule in layer.include:
            only(rule, ("phase",), where)
        return Built(layer, kind, state=state)

    @property
    def feed(self):
        """The Data layer of the images, None where Input layers give them."""
        return next(iter(self.feeds.values()), None)

    def _infer(self, random_seed):
        """One pass over tensors without content: shapes of the blobs, parameter blobs from their fillers."""
        shapes, shared = {name: tensor.to("meta") for name, tensor in self.inputs.items()}, {}
        for b in self.built:
            if b.layer.type == "Data":
                feed = self.feeds[b.layer.name]
                found = (
                    torch.empty(feed.shape, device="meta"),
                    torch.empty(feed.batch, dtype=torch.int64, device="meta"),
                )
                shapes |= dict(zip(b.layer.top, found, strict=False))
            if b.kind.run is None:
                continue
            missing = [name for name in b.layer.bottom if name not in shapes]
            if missing:
                raise UserError(f"layer {b.layer.name}: no layer before it has a top {missing[0]}")
            x = [shapes[name] for name in b.layer.bottom]
            wanted = b.kind.blobs(b.own, x[0] if x else None)
            b.blobs = [
                filled(shape, filler, random_seed, f"{b.layer.name} {i}").to(self.device)
                for i, (shape, filler) in enumerate(wanted)
            ]
            for i, spec in enumerate(b.layer.param):
                if spec.name:  # two blobs of one name are one (net.cpp, AppendParam)
                    b.blobs[i] = shared.setdefault(spec.name, b.blobs[i])
                    one_of(tuple(b.blobs[i].shape), (wanted[i][0],), f"layer {b.layer.name}", f"shape of {spec.name}")
            for blob, (lr, _) in zip(b.blobs, b.rates, strict=True):
                blob.requires_grad_(lr != 0 and self.phase == TRAIN)
            if b.state:
                b.state.hold(b.blobs)
            meta = [blob.detach().to("meta") for blob in b.blobs]
            tops = layers.run(b, meta, x, self.phase)
            shapes |= {name: top.to("meta") for name, top in zip(b.layer.top, tops, strict=True)}
        self.shapes = {name: tuple(tensor.shape) for name, tensor in shapes.items()}

    # --- running ----------------------------------------------------------------------------------------------------------

    def forward(self):
        """One pass over the next batch; fills `tensors`."""
        self.tensors = {name: self._moved(tensor) for name, tensor in self.inputs.items()}
        for b in self.built:
            if b.layer.type == "Data":
                images, labels = (torch.from_numpy(array) for array in self.feeds[b.layer.name].next())
                made = (self._moved(images), labels.to(self.device))
                self.tensors |= dict(zip(b.layer.top, made, strict=False))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            for step in self.plan:
                step(self.tensors)
        return {name: self.tensors[name] for name in self.loss_weights}

    def _moved(self, tensor):
        tensor = tensor.to(self.device, torch.bfloat16 if self.bf16 and tensor.dim() == 4 else None, non_blocking=True)
        return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor

    def total_loss(self):
        """The sum of the losses of the last pass, each times its loss_weight: a tensor of no dimension."""
        return sum(weight * self.tensors[name] for name, weight in self.loss_weights.items())

    def backward(self):
        """Adds the gradients of the total loss of the last pass to the parameter blobs'."""
        self.total_loss().backward()

    def clear_param_diffs(self):
        """Sets the gradients of all parameter blobs to 0."""
        for b in self.built:
            for blob in b.blobs:
                if blob.grad is not None:
                    blob.grad.zero_()

    def _forward(self, start, end):
        """The Data layers among the layers `start` to `end` alone, as the driver asks for it after a restart."""
        for name in self._layer_names[start : end + 1]:
            if name in self.feeds:
                self.feeds[name].skip()

    # --- what the driver reads --------------------------------------------------------------------------------------------

    @property
    def blobs(self):
        """Those of the last pass that can be seen: fused layers leave nothing between them. Before the first, zeros."""
        tensors = self.tensors or {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        return {name: Blob(tensor) for name, tensor in {**tensors, **self.inputs}.items() if name in self.shapes}

    @property
    def params(self):
        """{layer: [Blob of each parameter blob]}, as in pycaffe."""
        return {b.layer.name: [Blob(blob) for blob in b.blobs] for b in self.built if b.blobs}

    @property
    def layer_dict(self):
        """{name: the layer's state where it has one, else its LayerParameter}."""
        return {b.layer.name: b.state or b.layer for b in self.built}

    @property
    def _layer_names(self):
        return [b.layer.name for b in self.built]

    @property
    def _blob_names(self):
        return list(self.shapes)

    @property
    def _blob_loss_weights(self):
        return [self.loss_weights.get(name, 0.0) for name in self.shapes]

    # --- weights ----------------------------------------------------------------------------------------------------------

    def copy_from(self, path):
        """Weights by layer name from a caffemodel; layers that one side lacks are left alone, as Caffe does."""
        try:
            source = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
        except DecodeError:
            raise UserError(f"{shown(path)} is no caffemodel, or a torn one") from None
        found = {layer.name: layer.blobs for layer in source.layer if layer.blobs}
        with torch.no_grad():
            for b in self.built:
                for i, (blob, proto) in enumerate(zip(b.blobs, found.get(b.layer.name, ()), strict=False)):
                    values = array(proto)
                    if values.shape != tuple(blob.shape):
                        raise UserError(
                            f"{shown(path)}: layer {b.layer.name}, blob {i} is {shape_text(values.shape)}, {self.network.name} needs {shape_text(blob.shape)}"
                        )
                    blob.copy_(torch.from_numpy(values))
        self.changed()

    def share_with(self, other):
        """Uses the parameter blobs of `other`, by layer name."""
        theirs = {b.layer.name: b.blobs for b in other.built}
        for b in self.built:
            if b.blobs:
                b.blobs = theirs[b.layer.name]
        self.changed()

    def changed(self):
        """To be called when parameter blobs were changed from outside: what was computed from them is made anew."""
        for step in self.plan:
            step.changed()

    # --- the teacher ------------------------------------------------------------------------------------------------------

    def keep_answers(self, folder, pixels, say):
        """Keeps what its teacher answers in `folder` (memo.py), where that may be kept. pixels: a digest of all images of the
        data set. say: is told why nothing is kept."""
        for step in self.plan:
            if isinstance(step, steps.Teacher):
                step.keep(folder, self._decides_answers(pixels), say)

    def _decides_answers(self, pixels):
        teacher = hashlib.sha256()
        for b in self.built:
            if b.layer.name.startswith(TEACHER):
                teacher.update(b.layer.SerializeToString(deterministic=True))
                for blob in b.blobs:
                    teacher.update(blob.detach().numpy().tobytes())
        mean = None if self.feed.mean is None else hashlib.sha256(self.feed.mean.tobytes()).hexdigest()
        return {
            "teacher": teacher.hexdigest(),
            "pixels": pixels,
            "phase": self.phase,
            "crop": [self.feed.crop, self.feed.mirror, list(self.feed.images.shape), mean],
            "bf16": self.bf16,
            "torch": torch.__version__,
            "processor": hashlib.sha256(fused.processor().encode()).hexdigest(),
            "passes": hashlib.sha256(fused.SOURCE.read_bytes() + convolutions.SOURCE.read_bytes()).hexdigest(),
        }

    @property
    def answered(self):
        """(images that its teacher was asked for, those of them whose answer was kept)."""
        memos = [step.memo for step in self.plan if isinstance(step, steps.Teacher) and step.memo]
        return sum(m.asked for m in memos), sum(m.kept for m in memos)

    def save(self):
        """The network with its weights, as Caffe writes a caffemodel."""
        saved = caffe_pb2.NetParameter(name=self.network.name)
        for b in self.built:
            layer = saved.layer.add()
            layer.CopyFrom(b.layer)
            for blob in b.blobs:
                layer.blobs.append(proto(blob))
        return saved


def _belongs(layer, phase):
    return not layer.include or any(rule.phase == phase for rule in layer.include)


def _loss_weights(layer):
    given = list(layer.loss_weight)
    default = [1.0] if layer.type in LOSSES else []
    given = given or default
    return given + [0.0] * (len(layer.top) - len(given))
