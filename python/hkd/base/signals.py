"""The signals that ask a command to stop: Ctrl-C, SIGTERM, and SIGHUP when the terminal goes away (a closed ssh)."""

import contextlib
import os
import select
import signal
import sys

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handle(handler):
    """Calls `handler(number)` on each of STOP; returns what was set before, {number: handler}.

    A signal that this process was started to ignore stays ignored: that is what nohup asks for, and `&` in a script."""

    def called(number, frame):
        _leave_lost_outputs()
        handler(number)

    return {number: signal.signal(number, called) for number in STOP if signal.getsignal(number) != signal.SIG_IGN}


def restore(previous):
    """Undoes `handle`."""
    for number, handler in previous.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def held():
    """None of STOP comes within: one that is sent comes at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_at_once():
    """Ends this process with one line on any of STOP: for the time in which nothing can be lost. An exception would be lost,
    or end in a traceback, while modules are being imported."""

    def leave(number):
        with contextlib.suppress(OSError):
            os.write(2, b"error: interrupted\n")
        os._exit(128 + number)

    handle(leave)


def _leave_lost_outputs():
    """A write to a terminal that went away, or to a pipe without a reader, is an error: what is printed from now on goes
    nowhere, and what there is to save is saved."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a closed or replaced stream
            lost = select.poll()
            lost.register(stream.fileno(), 0)
            if lost.poll(0):
                leave_output(stream)


def leave_output(stream):
    """What is written to `stream` goes nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
