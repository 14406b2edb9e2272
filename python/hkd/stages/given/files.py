"""Files of weights as named arrays. Nothing in a file is run: no pickle beyond what PyTorch's weights_only admits."""

import importlib.util
import re
import warnings
from pathlib import Path

import numpy as np

from hkd.base.cli import UserError
from hkd.base.files import shown

PYTORCH = (".pth", ".th", ".pt", ".pth.tar", ".ckpt", ".bin")
SUFFIXES = (".caffemodel", ".safetensors", *PYTORCH)
INSIDE = ("state_dict", "model_state_dict", "model", "net")
"""Where a checkpoint of a training script has its state dict."""
OF_THE_NETWORK = re.compile(r"(conv|bn|layer|stack)\d")
NO_NUMPY = ("BF16", "F8_E4M3", "F8_E5M2")
"""Kinds of numbers of safetensors that NumPy has not."""
COUNTER = "num_batches_tracked"
CONVERT = "where its network can be built, save torch.save(network.state_dict(), 'weights.pth')"


def check(path):
    """Raises UserError for a path that is no file of a kind that can be read."""
    if not path.is_file():
        raise UserError(f"{shown(path)} is {'no file' if path.exists() else 'not there'}: name a file of weights")
    path.open("rb").close()  # a file that may not be read is an error of its own
    if kind(path) is None:
        raise UserError(f"{shown(path)}: expected a name that ends in {', '.join(SUFFIXES)}; {CONVERT}")


def kind(path):
    """Which of SUFFIXES a name ends in, in capitals or not; None: in none of them."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def tensors(path):
    """{name: array, float32} of a .safetensors, or of a state dict that torch.save wrote (PYTORCH).

    A name has lost what stands before every one: `module.` of DataParallel, `model.` of a module around the network; counters of batches have int64. Raises UserError for anything else.
    """
    found = _safetensors(path) if kind(path) == ".safetensors" else _state_dict(path)
    while wrapper := _wrapper(found):
        found = {name.removeprefix(wrapper): array for name, array in found.items()}
    return {name: _float32(path, name, array) for name, array in found.items()}


def _wrapper(names):
    """What every one of some names begins with, up to a dot, and is no layer's; '' for none."""
    heads = {name[: name.find(".") + 1] for name in names}
    head = heads.pop() if len(heads) == 1 else ""
    return "" if OF_THE_NETWORK.match(head) else head


def _float32(path, name, array):
    if name.endswith(COUNTER):
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{shown(path)}: {name} is of {array.dtype}, weights are floating point numbers; {CONVERT}")
    return array.astype(np.float32)


def _safetensors(path):
    from safetensors import SafetensorError, safe_open

    def read(framework, convert):
        with safe_open(path, framework) as file:
            return {name: convert(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (no dict)

    try:
        with safe_open(path, "np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        others = sorted(set(kinds.values()) & set(NO_NUMPY))
        if not others:
            return read("np", np.asarray)
        _require_torch(path, f"its numbers of {others[0]}")
        return read("pt", lambda tensor: _array(path, "a tensor", tensor))
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{shown(path)} is no safetensors file, or a torn one ({error}): fetch it again") from None


def _state_dict(path):
    _require_torch(path, "it")
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle's protocol, which nobody chose
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each form of damage has its own kind
        said = str(error).strip().splitlines() or [type(error).__name__]
        if re.search(r"Unsupported (global|class)", str(error)):
            what = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
            raise UserError(
                f"{shown(path)} holds objects besides tensors{f' ({what[1]})' if what else ''}, which are not loaded: where you trust it, save "
                f"torch.save(torch.load({path.name!r}, weights_only=False)['state_dict'], 'weights.pth'), or {CONVERT}"
            ) from None
        raise UserError(f"{shown(path)} is no file of torch.save, or a torn one ({said[0][:200]}): {CONVERT}") from None
    inside = loaded
    while isinstance(inside, dict) and (key := next((k for k in INSIDE if isinstance(inside.get(k), dict)), "")):
        inside = inside[key]
    if not isinstance(inside, dict) or not inside or not all(isinstance(x, torch.Tensor) for x in inside.values()):
        has = (
            f" (it has {', '.join(str(k)[:40] for k in list(inside)[:5])})"
            if isinstance(inside, dict) and inside
            else ""
        )
        raise UserError(f"{shown(path)} is no state dict, and has none under {', '.join(INSIDE)}{has}: {CONVERT}")
    return {str(name): _array(path, name, tensor) for name, tensor in inside.items()}


def _array(path, name, tensor):
    """A tensor as an array; what NumPy has no type for as float32."""
    import torch

    if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise UserError(f"{shown(path)}: {name} is no dense tensor of real numbers; {CONVERT}")
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()


def _require_torch(path, what):
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            f"{shown(path)}: PyTorch reads {what}, and is not installed: make torch, or give .safetensors of float32"
        )


def named(path):
    """`path` as the Path of a file that `check` admits."""
    path = Path(path)
    check(path)
    return path
