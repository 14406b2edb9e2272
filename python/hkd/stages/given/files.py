"""Files of weights as named arrays. Nothing in a file is run: no pickle beyond what PyTorch's weights_only admits."""

import importlib.util
import re
import warnings
from pathlib import Path

import numpy as np

from hkd.base.cli import UserError
from hkd.base.files import shown

PYTORCH = (".pth", ".th", ".pt")
SUFFIXES = (".caffemodel", ".safetensors", *PYTORCH)
INSIDE = ("state_dict", "model_state_dict", "model", "net")
"""Where a checkpoint of a training script has its state dict."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
COUNTER = "num_batches_tracked"
CONVERT = "where its network can be built, save torch.save(network.state_dict(), 'weights.pth')"


def check(path):
    """Raises UserError for a path that is no file of a kind that can be read."""
    if not path.is_file():
        raise UserError(f"{shown(path)} is {'no file' if path.exists() else 'not there'}: name a file of weights")
    path.open("rb").close()  # a file that may not be read is an error of its own
    if path.suffix not in SUFFIXES:
        raise UserError(f"{shown(path)}: expected a name that ends in {', '.join(SUFFIXES)}; {CONVERT}")


def tensors(path):
    """{name: array, float32} of a .safetensors, or of a state dict that torch.save wrote (.pth, .th, .pt).

    A name has lost what DataParallel puts before it; counters of batches have int64. Raises UserError for anything else.
    """
    found = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)
    for wrapper in WRAPPERS:
        if found and all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): array for name, array in found.items()}
    return {name: _float32(path, name, array) for name, array in found.items()}


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
        if "BF16" not in kinds.values():
            return read("np", np.asarray)
        _require_torch(path, "its bfloat16 numbers")
        return read("pt", lambda tensor: _array(path, "a tensor", tensor))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
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
            raise UserError(f"{shown(path)} holds objects besides tensors, which are not loaded: {CONVERT}") from None
        raise UserError(f"{shown(path)} is no file of torch.save, or a torn one ({said[0][:200]}): {CONVERT}") from None
    inside = next(
        (loaded[key] for key in INSIDE if isinstance(loaded, dict) and isinstance(loaded.get(key), dict)), loaded
    )
    if not isinstance(inside, dict) or not inside or not all(isinstance(x, torch.Tensor) for x in inside.values()):
        raise UserError(f"{shown(path)} is no state dict, and has none under {', '.join(INSIDE)}: {CONVERT}")
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
