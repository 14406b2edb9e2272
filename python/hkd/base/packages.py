"""What an installed package says of itself, without the time that its import takes."""

import importlib.util
import runpy
from pathlib import Path


def version_module(name):
    """{name: value} of the version.py that NumPy and PyTorch have, {} where the package or that file is not there."""
    found = importlib.util.find_spec(name)
    if found is None or not found.origin:
        return {}
    try:
        return runpy.run_path(str(Path(found.origin).with_name("version.py")))
    except OSError:
        return {}
