"""What every command line of this project does alike: errors in one line, exit codes, the right Python."""

import argparse
import errno
import importlib.util
import os
import signal
import sys
from pathlib import Path


def _root():
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "python/run_stage.py").exists() else Path.cwd()


ROOT = _root()
"""The checkout: prototxt/, solvers/, data/ and runs/ lie under it. Of a package that was installed without it, the folder that
the command was started in."""

IMAGE = os.environ.get("HKD_IMAGE")
"""In the container image the commit that it was built from (docker/Dockerfile), else None."""

USER_ERROR = 2


def default_folder(name):
    """The folder "data", "runs" or "results" where the command line names none: that of the environment variable
    HKD_DATA, HKD_RUNS or HKD_RESULTS, which the container image sets, else the one in the checkout."""
    return Path(os.environ.get(f"HKD_{name.upper()}") or ROOT / name)


class UserError(Exception):
    """One line for the user: names the file or setting, the value, and the way out. Ends the command with exit code 2."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: to be treated as Ctrl-C, but for the exit code."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one line too."""

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def run(main):
    """Runs `main()` and exits with its code; an error that is the user's to mend becomes one line on stderr."""

    def terminated(number, frame):
        raise Terminated

    # The first process of a container gets no signal that it has no handler for: `docker stop` would wait in vain.
    signal.signal(signal.SIGTERM, terminated)
    try:
        code = main()
    except UserError as error:
        code = fail(error)
    except OSError as error:
        code = fail(explain(error))
    except KeyboardInterrupt as stopped:
        number = signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT
        code = fail("interrupted", code=128 + number)
    sys.exit(code)


def fail(message, code=USER_ERROR):
    print("error: " + " ".join(str(message).split()), file=sys.stderr, flush=True)
    return code


def explain(error):
    """An OSError as a line that says what to do about it."""
    where = error.filename or "output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{where}: no space left to write it: make room, then run the same command again"
    if error.errno == errno.EROFS:
        return f"{where}: a read-only file system: " + (
            "mount a volume there, and without :ro" if IMAGE else "choose another folder"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{where}: no permission to write or read it: {_remedy(where)}"
    if error.errno == errno.EPIPE:
        return "the reader of this command's output went away"
    return f"{where}: {error.strerror or error}"


def _remedy(path):
    """How to get at a file or folder that belongs to someone else."""
    if not IMAGE:
        return "choose another folder, or change its owner"
    there = _nearest(path)
    owner = there.stat()
    if owner.st_uid == os.getuid():
        return f"{there} belongs to this user, {owner.st_uid}: chmod u+rwX the folder that is mounted there"
    # Docker makes a folder that is to be mounted and is not there, and makes it root's.
    same_user = f"start the container with --user {owner.st_uid}:{owner.st_gid}, or " if owner.st_uid else ""
    return (
        f"this is user {os.getuid()}, and {there} belongs to user {owner.st_uid}: {same_user}"
        f"chown {os.getuid()} the folder that is mounted there, or mount a named volume"
    )


def _nearest(path):
    """`path`, or the first folder above it that exists."""
    path = Path(path).absolute()
    return next(p for p in (path, *path.parents) if os.access(p, os.F_OK))


def require_writable(folder):
    """Raises the OSError that a file made in `folder` would end in, or in what would be its parent: before hours are spent."""
    there = _nearest(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        read_only = os.statvfs(there).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if read_only else errno.EACCES, "cannot be written", str(there))


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
