"""One writer a stage: a lock file in its folder, held as long as the process that writes there lives."""

import os
import platform
import time
from contextlib import contextmanager

from filelock import FileLock, Timeout

from hkd.base.cli import UserError
from hkd.base.files import naming, shown

PATIENCE = 5  # seconds: a driver that was just killed may still hold the lock for a moment
LOCK, OWNER = ".lock", ".owner"


@contextmanager
def only_one(folder, wait=lambda: False):
    """Holds the lock of the stage in `folder`, which is made where it is not there. Where another process has it: waits as long as
    `wait()` says so, then raises UserError, naming the owner."""
    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    held = _acquired(lock, folder, wait)
    try:
        with naming(folder / OWNER):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            (folder / OWNER).write_text(f"process {os.getpid()} on {platform.node()}, since {since}\n")
        yield
    finally:
        if _inode(folder / LOCK) == held:  # not so after rename_locked: another process may be the owner there by now
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _acquired(lock, folder, wait):
    """Acquires the lock of `folder`; returns the inode of its file."""
    said = False
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        before = _inode(folder / LOCK)
        try:
            lock.acquire()
        except FileNotFoundError:  # the folder was renamed in this very moment
            continue
        except Timeout:
            who = _owner(folder)
            if not wait():
                raise UserError(
                    f"{shown(folder)} is being trained by {who}: wait for it (--wait), or use another --runs folder"
                ) from None
            if not said:
                print(f"{shown(folder)} is being trained by {who}: waiting", flush=True)
                said = True
            continue
        held = _inode(folder / LOCK)
        if held is not None and before in (None, held):
            return held
        lock.release()  # a folder that is renamed takes its lock along: this one is of the folder that was here


def rename_locked(folder, to):
    """Renames the folder whose lock this process holds. Who waits for its lock then asks for that of a new one."""
    folder.rename(to)
    for name in (LOCK, OWNER):
        (to / name).unlink(missing_ok=True)


def is_locked(folder):
    """Whether a process is writing in `folder` now."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def _owner(folder):
    try:
        return (folder / OWNER).read_text(errors="replace").strip()
    except FileNotFoundError:
        return "another run_stage.py"


def _inode(path):
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
