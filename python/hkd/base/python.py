"""Starting Python again, from 3.10 on: nothing is imported from the folder that a user happens to be in, and a terminal's Ctrl-C
comes to the process that was started in it alone."""

import os
import sys

SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()
"""The option that keeps the current folder off the path. Python 3.10 has none: a module is started by `module` there."""
GROUP_OF_ITS_OWN = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
"""The argument of subprocess.Popen for a process group of its own."""


def module(name):
    """The words that run a module as `python -P -m name` does."""
    if SAFE_PATH:
        return [sys.executable, *SAFE_PATH, "-m", name]
    start = (
        f"import sys; sys.path.pop(0); import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", start]


def cores():
    """How many cores this process may use. macOS does not say which: all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
