"""One writer a stage: a lock file in its folder, held as long as the process that writes there lives."""

import os
import platform
import time
from contextlib import contextmanager

from filelock import FileLock, Timeout

from hkd.base.cli import UserError
from hkd.base.files import shown

PATIENCE = 5  # seconds: a driver that was just killed may still hold the lock for a moment


@contextmanager
def only_one(folder, wait=lambda: False):
    """Holds the lock of the stage in `folder`. Where another process has it: waits as long as `wait()` says so, then
    raises UserError, naming the owner."""
    lock, owner = FileLock(folder / ".lock", timeout=PATIENCE), folder / ".owner"
    said = False
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            who = owner.read_text().strip() if owner.exists() else "another run_stage.py"
            if not wait():
                raise UserError(
                    f"{shown(folder)} is being trained by {who}: wait for it (--wait), or use another --runs folder"
                ) from None
            if not said:
                print(f"{shown(folder)} is being trained by {who}: waiting", flush=True)
                said = True
    try:
        owner.write_text(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_locked(folder):
    """Whether a process is writing in `folder` now."""
    if not (folder / ".lock").exists():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True
