"""Work in a process of its own: readers written in C (SciPy's of .mat files, LMDB) crash on some damaged files."""

import faulthandler
import multiprocessing
import os
import resource
import signal
import tempfile
from contextlib import contextmanager

from hkd.base import signals
from hkd.base.cli import USER_ERROR, UserError


class Crashed(Exception):
    """The process died of what it read: how, in a few words."""


@contextmanager
def apart(work, *arguments):
    """Calls `work(result, *arguments)` in a process of its own; gives `result`, a file in memory that it may write to, from
    its start. Raises the UserError that `work` raises, and Crashed for any other end than its return."""
    with _memory(work.__name__) as result:
        process = multiprocessing.get_context("fork").Process(target=_work, args=(work, result, arguments), daemon=True)
        with signals.held():  # Python drops the exception of a signal that comes as it forks
            process.start()
        process.join()
        result.seek(0)
        if process.exitcode == USER_ERROR:
            raise UserError(result.read().decode())
        if process.exitcode > 0:
            raise Crashed(result.read().decode())
        if process.exitcode < 0:
            raise Crashed(f"its reader was ended by {signal.Signals(-process.exitcode).name}")
        yield result


def _memory(name):
    """A file in memory; in the temporary folder where the system has none."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create(name), "w+b", buffering=0)  # noqa: PTH123 (a descriptor)
    return tempfile.TemporaryFile(buffering=0)


def _work(work, result, arguments):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to answer; it ends this process with its own
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.STOP)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code, said = 0, ""
    try:
        work(result, *arguments)
    except UserError as error:
        code, said = USER_ERROR, str(error)
    except BaseException as error:  # of any kind: it is the parent that says it, in one line
        code, said = 1, f"{type(error).__name__}: {error}"
    if code:
        result.seek(0)
        result.truncate()
        result.write(said.encode(errors="backslashreplace"))
    os._exit(code)
