"""What every command line of this project does alike: errors in one line, exit codes, the right Python."""

import argparse
import errno
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: prototxt/, solvers/, data/ and runs/ lie under it."""

USER_ERROR = 2


class UserError(Exception):
    """One line for the user: names the file or setting, the value, and the way out. Ends the command with exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one line too."""

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def run(main):
    """Runs `main()` and exits with its code; an error that is the user's to mend becomes one line on stderr."""
    try:
        code = main()
    except UserError as error:
        code = fail(error)
    except OSError as error:
        code = fail(explain(error))
    except KeyboardInterrupt:
        code = fail("interrupted", code=130)
    sys.exit(code)


def fail(message, code=USER_ERROR):
    print("error: " + " ".join(str(message).split()), file=sys.stderr, flush=True)
    return code


def explain(error):
    """An OSError as a line that says what to do about it."""
    where = error.filename or "output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}: no space left to write it: make room, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}: no permission to write or read it: choose another folder, or change its owner"
    if error.errno == errno.EPIPE:
        return "the reader of this command's output went away"
    return f"{where}: {error.strerror or error}"


def did_you_mean(value, known, what):
    """A UserError for a name that is not among the known ones."""
    import difflib

    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserError(f"unknown {what} {value!r}: {hint}known are {', '.join(known)}")


def use_project_python():
    """Goes on in the project's own Python when this one has no pycaffe, so that `python3 python/run_stage.py` works
    without activating .venv. Without either, one line says how to get it.
    """
    # find_spec of a submodule would import the parent; a namespace folder called caffe is not pycaffe.
    spec = importlib.util.find_spec("caffe")
    if spec is not None and spec.origin is not None:
        return
    own = ROOT / ".venv/bin/python"
    if own.exists() and Path(sys.prefix) != ROOT / ".venv":
        os.execv(own, [str(own), *sys.orig_argv[1:]])
    sys.exit(fail(f"this Python ({sys.executable}) has no pycaffe: run `make setup` in {ROOT}"))
