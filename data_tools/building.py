"""One build at a time of one folder, which is there whole or not at all.

The lock and the folder that a build writes in lie beside the folder that it is for: two builders may be of two machines or
users, or have two folders for temporary files, and share nothing else. No two builds write in the same folder, even where a
file system's locks do not reach from one machine to the other.
"""

import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from glob import escape

from hkd.base import signals
from hkd.base.cli import UserError
from hkd.base.files import shown, sync_folder


@contextmanager
def only_builder(out):
    """Waits until no other process builds `out`, and gives the path of a folder to build it in, which nobody else has. That
    folder and the lock are gone afterwards, and what killed builds of `out` left too."""
    with _lock(out.with_name(f".{out.name}.lock")):
        # The eight digits: a folder called as this one, with a dot and more, has builds of its own.
        for left in out.parent.glob(f".{escape(out.name)}.{'[0-9a-f]' * 8}.partial"):
            shutil.rmtree(left, ignore_errors=True)
        partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial, out):
    """Renames a folder that is whole. Raises UserError where another build was quicker: its folder stays."""
    try:
        partial.rename(out)
    except OSError:
        if not out.exists():
            raise
        raise UserError(f"{shown(out)} was built by another process meanwhile: run the same command again") from None
    sync_folder(out.parent)


@contextmanager
def _lock(path):
    """Holds an exclusive lock on the file `path`, which is there only as long as someone has it or waits for it."""
    while True:
        handle = None
        try:
            with signals.held():
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with suppress(PermissionError):
                os.fchmod(handle, 0o666)  # what a killed build left, another user may lock too
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(path, handle):  # else the one before removed it
                yield
                return
        finally:
            with signals.held():
                _let_go(path, handle)


def _let_go(path, handle):
    """Removes the lock file, also where a signal came before it was locked; not where another process has it, or another user in a
    folder like /tmp. handle: None where it could not be opened."""
    if handle is None:
        return
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, handle):
            path.unlink()
    os.close(handle)


def _is_at(path, handle):
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
