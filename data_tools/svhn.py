"""SVHN, format 2 (ufldl.stanford.edu/housenumbers): MATLAB 5 files of cropped digits, read by SciPy.

`X` is 32 x 32 x 3 x N (row, column, colour, image), uint8; `y` holds N classes, 1 to 10, of which 10 is the digit 0. The
third file, extra_32x32.mat, is not read.
"""

import faulthandler
import io
import multiprocessing
import os
import resource
import signal

import numpy as np
from scipy.io import loadmat, matlab, whosmat

from hkd.base import signals
from hkd.base.cli import USER_ERROR, UserError

MOST_IMAGES = 100_000
"""With room for the 73,257 of the official file: a few compressed bytes may not claim all memory."""


def read(facts, files):
    """((train images, labels), (test images, labels)); labels are the digits, 0 to 9."""
    return [_apart(name, files[name], facts) for name in ("train_32x32.mat", "test_32x32.mat")]


def _apart(name, content, facts):
    """_split in a process of its own: SciPy's reader (1.17) crashes on some damaged files."""
    with open(os.memfd_create(name), "w+b", buffering=0) as result:  # noqa: PTH123 (a descriptor)
        work = (name, content, facts, result)
        process = multiprocessing.get_context("fork").Process(target=_write_split, args=work, daemon=True)
        # Python drops the exception of a signal that comes as it forks.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.STOP)
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP)
        process.join()
        result.seek(0)
        if process.exitcode == USER_ERROR:
            raise UserError(result.read().decode())
        if process.exitcode:
            raise _damaged(name, f"its reader ended with code {process.exitcode}")
        return np.load(result, allow_pickle=False), np.load(result, allow_pickle=False)


def _write_split(name, content, facts, result):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the tool's to answer; it ends this process with its own
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for array in _split(name, content, facts):
            np.save(result, array, allow_pickle=False)
    except UserError as error:
        result.write(str(error).encode())
        os._exit(USER_ERROR)
    os._exit(0)


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
    if max(count, int(np.prod(shapes["y"]))) > MOST_IMAGES:
        raise UserError(f"{name}: X is {_by(shape)} and y {_by(shapes['y'])}: expected at most {MOST_IMAGES:,} images")


def _by(shape):
    return " x ".join(map(str, shape))
