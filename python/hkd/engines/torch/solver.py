"""Caffe's SGD solver: rates, momentum and decay in its order, snapshots and solverstates in its formats."""

from pathlib import Path

import numpy as np
import torch
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from hkd.base.cli import UserError
from hkd.base.files import shown, write_whole
from hkd.engines.torch.blobs import array, as_blob, proto
from hkd.engines.torch.fields import one_of, only
from hkd.engines.torch.net import TEST, TRAIN, Net
from hkd.networks import prototxt, solvers

FIELDS = (
    "net", "type", "base_lr", "lr_policy", "stepvalue", "gamma", "max_iter", "momentum", "weight_decay", "random_seed",
    "test_iter", "test_interval", "test_initialization", "display", "snapshot", "snapshot_prefix", "solver_mode",
)  # fmt: skip
PRECISIONS = ("fp32", "tf32", "bf16")


class Solver:
    """The solver file at `path` and the network that it names; net (TRAIN) and test_nets (TEST) share their weights."""

    def __init__(self, path, device="cpu", precision="fp32"):
        self.parameter = solvers.parse(Path(path).read_text())
        only(self.parameter, FIELDS, shown(path))
        one_of(self.parameter.type, ("SGD",), shown(path), "type")
        one_of(self.parameter.lr_policy, ("fixed", "multistep"), shown(path), "lr_policy")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        network = prototxt.parse(Path(self.parameter.net).read_text())
        seed = self.parameter.random_seed
        self.net = Net(network, TRAIN, seed, device, precision)
        # A test says what the weights reach in any program, so it is in float32.
        self.test_nets = [Net(network, TEST, seed, device, "fp32" if precision == "bf16" else precision)]
        self.test_nets[0].share_with(self.net)
        self.iter = 0
        self._flatten()

    def keep_answers(self, folder, pixels, say):
        """Keeps what the teacher answers in `folder`; see Net.keep_answers. To be called when its weights are there."""
        for net in (self.net, *self.test_nets):
            net.keep_answers(folder, pixels, say)

    @property
    def answered(self):
        """(images that the teacher was asked for, those of them whose answer was kept), tests with them."""
        asked, kept = zip(*(net.answered for net in (self.net, *self.test_nets)), strict=True)
        return sum(asked), sum(kept)

    def _flatten(self):
        """Every learning blob becomes a view of one vector, so that an update is four operations, not four a blob."""
        self.learning = [
            (blob, lr, decay) for b in self.net.built for blob, (lr, decay) in zip(b.blobs, b.rates, strict=True) if lr
        ]
        sizes = [blob.numel() for blob, _, _ in self.learning]
        ends = np.cumsum(sizes).tolist()
        device = self.net.device
        self.weights, self.gradients, self.momenta = (torch.zeros(sum(sizes), device=device) for _ in range(3))
        self.rates, self.decays = (torch.ones(sum(sizes), device=device) for _ in range(2))
        for (blob, lr, decay), end, size in zip(self.learning, ends, sizes, strict=True):
            part = slice(end - size, end)
            with torch.no_grad():
                own = as_blob(self.weights[part], blob.shape)
                blob.data = own.copy_(blob)
            blob.grad = as_blob(self.gradients[part], blob.shape)
            self.rates[part], self.decays[part] = lr, decay

    def step(self, iterations):
        """So many iterations of SGD with momentum (sgd_solver.cpp); gradients of the last one stay."""
        for _ in range(iterations):
            self.gradients.zero_()
            self.net.forward()
            self.net.total_loss().backward()
            self._update()
            self.iter += 1

    @torch.no_grad()
    def _update(self):
        """v <- momentum v + rate (gradient + decay w);  w <- w - v (sgd_solver.cpp:102-235)."""
        p = self.parameter
        self.gradients.addcmul_(self.weights, self.decays, value=p.weight_decay)
        self.momenta.mul_(p.momentum).addcmul_(self.gradients, self.rates, value=self.rate())
        self.weights.sub_(self.momenta)
        self.test_nets[0].changed()

    def rate(self):
        """The learning rate of the iteration that comes."""
        return (
            self.parameter.base_lr * self.parameter.gamma ** self._steps() if self._steps() else self.parameter.base_lr
        )

    def _steps(self):
        """How many of the stepvalues the iteration that comes has passed (sgd_solver.cpp, GetLearningRate)."""
        return sum(step <= self.iter for step in self.parameter.stepvalue)

    # --- snapshots --------------------------------------------------------------------------------------------------------

    def snapshot(self):
        """PREFIX_iter_N.caffemodel and .solverstate. The history has a blob for every parameter blob, learning or not."""
        stem = f"{self.parameter.snapshot_prefix}_iter_{self.iter}"
        state = caffe_pb2.SolverState(iter=self.iter, learned_net=f"{stem}.caffemodel", current_step=self._steps())
        for blob, velocity in self.history():
            state.history.append(proto(torch.zeros_like(blob) if velocity is None else velocity))
        write_whole(f"{stem}.caffemodel", self.net.save().SerializeToString())
        write_whole(f"{stem}.solverstate", state.SerializeToString())

    def restore(self, path):
        """Goes on from a solverstate of this engine or of Caffe. Raises UserError for one of another network."""
        try:
            state = caffe_pb2.SolverState.FromString(Path(path).read_bytes())
        except DecodeError:
            raise UserError(f"{shown(path)} is no solverstate, or a torn one") from None
        pairs = list(self.history())
        if len(state.history) != len(pairs):
            raise UserError(f"{shown(path)} has {len(state.history)} blobs, {self.net.network.name} needs {len(pairs)}")
        for (blob, velocity), saved in zip(pairs, state.history, strict=True):
            values = array(saved)
            if values.shape != tuple(blob.shape):
                raise UserError(f"{shown(path)} is of another network than {self.net.network.name}")
            if velocity is not None:
                velocity.copy_(torch.from_numpy(values))
        self.net.copy_from(state.learned_net)
        self.iter = state.iter
        self.test_nets[0].changed()

    def history(self):
        """(blob, its part of the momentum vector or None) for every parameter blob, in Caffe's order; one that layers share, once."""
        at, seen = 0, set()
        for b in self.net.built:
            for blob, (lr, _) in zip(b.blobs, b.rates, strict=True):
                if id(blob) in seen:
                    continue
                seen.add(id(blob))
                if lr:
                    yield blob, as_blob(self.momenta[at : at + blob.numel()], blob.shape)
                    at += blob.numel()
                else:
                    yield blob, None
