"""SVHN, format 2 (ufldl.stanford.edu/housenumbers): MATLAB 5 files of cropped digits, read by SciPy.

`X` is 32 x 32 x 3 x N (row, column, colour, image), uint8; `y` holds N classes, 1 to 10, of which 10 is the digit 0. The
third file, extra_32x32.mat, is not read.
"""

import io
import math

import numpy as np
from scipy.io import loadmat, matlab, whosmat

from hkd.base.apart import Crashed, apart
from hkd.base.cli import UserError

MOST_IMAGES = 100_000
"""With room for the 73,257 of the official file: a few compressed bytes may not claim all memory."""


def read(facts, files):
    """((train images, labels), (test images, labels)); labels are the digits, 0 to 9."""
    return [_apart(name, files[name], facts) for name in ("train_32x32.mat", "test_32x32.mat")]


def _apart(name, content, facts):
    """_split in a process of its own: SciPy's reader (1.17) crashes on some damaged files."""
    try:
        with apart(_write_split, name, content, facts) as result:
            return np.load(result, allow_pickle=False), np.load(result, allow_pickle=False)
    except Crashed as error:
        raise _damaged(name, str(error)) from None


def _write_split(result, name, content, facts):
    for array in _split(name, content, facts):
        np.save(result, array, allow_pickle=False)


def _split(name, content, facts):
    """(images, labels) of one file."""
    stream = io.BytesIO(content)
    try:
        version, _ = matlab.matfile_version(stream)
        if version == 2:
            raise UserError(
                f"{name}: a MATLAB 7.3 file (HDF5): expected version 5, as it is published: get it again, or save it with -v7"
            )
        _check_shapes(name, {variable: shape for variable, shape, _ in whosmat(stream)}, facts)
        arrays = loadmat(stream, variable_names=("X", "y"))
        pixels, classes = arrays["X"], arrays["y"].ravel()
    except UserError:
        raise
    except Exception as error:  # of any kind: SciPy's reader trusts what it reads
        raise _damaged(name, str(error) or type(error).__name__) from None
    if pixels.dtype != np.uint8:
        raise UserError(f"{name}: X is of type {pixels.dtype}: expected uint8")
    if not np.issubdtype(classes.dtype, np.integer):
        raise UserError(f"{name}: y is of type {classes.dtype}: expected whole numbers")
    wrong = (classes < 1) | (classes > facts.classes)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise UserError(
            f"{name}: image {where} has label {classes[where]}: expected 1 to {facts.classes} (10 is digit 0)"
        )
    # MATLAB drops the last dimension of a single image.
    images = pixels.reshape(*pixels.shape[:3], -1, order="F").transpose(3, 2, 0, 1)
    return images, (classes % facts.classes).astype(np.uint8)


def _damaged(name, reason):
    reason = " ".join(reason.split())[:100]
    return UserError(
        f"{name}: damaged, cut short or no MATLAB file ({reason}): expected a whole .mat of version 5; get it again"
    )


def _check_shapes(name, shapes, facts):
    """shapes: {variable: shape}, read without the values."""
    for variable in ("X", "y"):
        if variable not in shapes:
            raise UserError(
                f"{name}: no variable {variable} in it ({', '.join(map(repr, shapes)) or 'none'}): expected X and y; cut short? get it again"
            )
    expected = (facts.size, facts.size, facts.channels)
    shape = shapes["X"]
    if shape[:3] != expected or len(shape) > 4:
        raise UserError(f"{name}: X is {_by(shape)}: expected {_by(expected)} x N")
    count = shape[3] if len(shape) == 4 else 1
    if max(count, math.prod(shapes["y"])) > MOST_IMAGES:
        raise UserError(f"{name}: X is {_by(shape)} and y {_by(shapes['y'])}: expected at most {MOST_IMAGES:,} images")


def _by(shape):
    return " x ".join(map(str, shape))
