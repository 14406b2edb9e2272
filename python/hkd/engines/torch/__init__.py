"""The stage's own network, solver, weights and LMDBs, run by PyTorch with Caffe's semantics.

    fields.py   every field that is read is known; any other is an error      data.py    LMDBs, crops, mirrors, means
    blobs.py    blobs as arrays, in Caffe's files, from their fillers         layers.py  one small function a layer type
    built.py    one layer with its parameter blobs                            net.py     a network: forward, weights
    solver.py   SGD, snapshots
    fusion.py   which layers run as one                                       steps.py   what then runs
    fused.py    several layers in one pass over a map, compiled               plain.py   an exported student, in plain PyTorch
    memo.py     a teacher's answers, kept                                     instance_weights.py  hint-dynamic KD's layer
    convolutions.py  by bfloat16's instructions, or in float32

It offers what the driver uses of pycaffe: get_solver(path) gives a solver with net, test_nets, iter, step, snapshot and
restore; a net has blobs, params, forward, copy_from and share_with. caffemodels and solverstates are Caffe's own.

Where Caffe's random numbers decide (fillers, crops, mirrors) the engine draws its own from the solver's random_seed:
fillers by the layer's name, crops and mirrors by the number of the batch, so that neither depends on what was drawn before.
"""

import importlib.util

from hkd.base.cli import UserError


def require():
    """Raises UserError where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "--engine torch needs PyTorch, which is not installed: `make torch`, or where no pycaffe is `pip install '.[torch]'`"
        )


def get_solver(path, device="cpu", precision="fp32"):
    """A solver for the solver file at `path`, as caffe.get_solver gives one. device: cpu or cuda:N."""
    require()
    from hkd.engines.torch.solver import Solver

    return Solver(path, device, precision)
