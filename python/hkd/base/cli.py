"""What every command line of this project does alike: errors in one line, exit codes, the right Python."""

import argparse
import contextlib
import errno
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from hkd.base import packages, signals


def _root():
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "python/run_stage.py").exists() else Path.cwd()


ROOT = _root()
"""The checkout: prototxt/, solvers/, data/ and runs/ lie under it. Of a package that was installed without it, the folder that
the command was started in."""

PACKAGE_FOLDER = Path(__file__).resolve().parents[2]
"""Holds hkd: python/ of the checkout, or the site-packages that it was installed into."""

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
    """One of signals.STOP came. Carries its number."""


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong argument is one line too, and an empty one is wrong: of a shell's variable that is not set it is
    mostly what is left."""

    def parse_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        for before, word in zip(["", *words], words, strict=False):
            name = before if before.startswith("-") else "an argument"
            if word == "" or (word.startswith("--") and word.endswith("=")):
                raise UserError(f"{word or name + ' ' + repr(word)}: an empty value: give one, or leave it out")
        return super().parse_args(args, namespace)

    def error(self, message):
        raise UserError(f"{message} (see --help)")


def run(main):
    """Runs `main()` and exits with its code. An error that is the user's to mend becomes one line on stderr; of any other the line
    names the file that its traceback was written to."""

    def terminated(number):
        raise Terminated(number)

    # The first process of a container gets no signal that it has no handler for: `docker stop` would wait in vain.
    signals.handle(terminated)
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it is closed
        stream.reconfigure(errors="backslashreplace")  # a path may be of any bytes
    try:
        code = main()
        print(end="", flush=True)
    except UserError as error:
        code = fail(error)
    except OSError as error:
        code = _failed(error)
    except Terminated as stopped:
        code = fail("interrupted", code=128 + stopped.args[0])
    except Exception as error:
        code = _unforeseen(error)
    signals.end_at_once()
    _flush(sys.stdout)
    sys.exit(code)


def fail(message, code=USER_ERROR):
    with contextlib.suppress(OSError):  # the exit code still says it
        print("error: " + " ".join(str(message).split()), file=sys.stderr, flush=True)
    _flush(sys.stderr)
    return code


def _flush(stream):
    """Writes what was printed. Where that cannot be, Python is not to try it again at its end."""
    try:
        print(end="", file=stream, flush=True)
    except OSError:
        signals.leave_output(stream)


def _failed(error):
    """The line for an OSError, and the exit code. What we write into files names them (files.naming); what we print has no name."""
    if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        error.filename = "standard output"
    return fail(explain(error)) if error.filename is not None else _unforeseen(error)


def _unforeseen(error):
    """The line for an exception that nobody has a better one for, and the exit code."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    said = f"{type(error).__name__}: {error}"
    try:
        handle, path = tempfile.mkstemp(prefix="hkd-caffe-error-", suffix=".txt")
        with open(handle, "w", errors="backslashreplace") as stream:  # noqa: PTH123 (a descriptor)
            stream.write(f"{' '.join(sys.orig_argv)}\n\n{text}")
    except OSError:
        print(text, file=sys.stderr)
        return fail(said, code=1)
    return fail(f"{said[:500]}: this should not happen: please report it with {path}", code=1)


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
    """Goes on in the project's own Python, and without what hides its Caffe on PYTHONPATH, where this process would import another
    Caffe or none: `python3 python/run_stage.py` works without activating .venv, and beside a BVLC Caffe whose instructions set
    PYTHONPATH. Where there is no Caffe at all, hkd.without_pycaffe stands for it. Where neither helps, one line says what does.

    The first thing that a command does: a signal is answered from here on, while the modules that take long are imported.
    """
    signals.end_at_once()
    try:
        omp_num_threads()
    except UserError as error:
        sys.exit(fail(error))
    if caffe_info():
        problem = _newer_numpy()
        if problem:
            sys.exit(fail(problem))
        return
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = os.pathsep.join(entry for entry in entries if not _hides_caffe(entry))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": kept} if kept else {}
    venv = ROOT / ".venv"
    own = venv / "bin/python"
    elsewhere = os.access(own, os.X_OK) and venv != Path(sys.prefix) and own != Path(sys.executable)
    if elsewhere or environment != os.environ:
        python = str(own) if elsewhere else sys.executable
        os.execve(python, [python, *sys.orig_argv[1:]], environment)
    problem = _unreadable(own) or _other_caffe() or _missing_package()
    if problem:
        sys.exit(fail(problem))


def omp_num_threads():
    """The number of threads that OMP_NUM_THREADS asks for, None where it is not set. Raises UserError for a value that OpenMP would
    complain of too, in a line of its own, when a library is loaded."""
    value = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not value:
        return None
    levels = [level.strip() for level in value.split(",")]  # nested ones after the first, which nothing here has
    if not all(level.isascii() and level.isdecimal() and int(level) > 0 for level in levels):
        raise UserError(
            f"OMP_NUM_THREADS={value}: expected a number of threads, for example 4: set it anew, or unset it"
        )
    return int(levels[0])


def caffe_info():
    """The build_info.json of the Caffe that would be imported, None where docker/build_caffe.sh did not build that one."""
    spec = importlib.util.find_spec("caffe")
    if spec is None or not spec.has_location:  # a namespace folder called caffe is not pycaffe
        return None
    info = Path(spec.origin).with_name("build_info.json")
    return info if os.access(info, os.R_OK) else None


def _hides_caffe(entry):
    """Whether an entry of PYTHONPATH, of which an empty one is the current folder, has another Caffe or what poses as one."""
    spec = importlib.machinery.PathFinder.find_spec("caffe", [entry or str(Path.cwd())])
    return bool(spec and spec.has_location and not Path(spec.origin).with_name("build_info.json").exists())


def _locked(path):
    """Whether `path` is there, or may be, and this user may not read it."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def _unreadable(own):
    """The line for an environment that is there and that this user may not read, else ''. own: the Python of the checkout's."""
    caffe = Path(sysconfig.get_path("purelib")) / "caffe"
    for path in (own, caffe.parent, caffe, caffe / "build_info.json"):
        if _locked(path):
            return f"{path.resolve()}: no permission to read it: its owner can `chmod -R a+rX` it, or run `make setup` in a checkout of your own"
    return ""


def _other_caffe():
    """The line for a pycaffe that docker/build_caffe.sh did not build, else ''."""
    spec = importlib.util.find_spec("caffe")
    if spec is None or not spec.has_location or Path(spec.origin).is_relative_to(PACKAGE_FOLDER / "hkd"):
        return ""
    other = Path(spec.origin).parent
    return f"this Python ({sys.executable}) has no pycaffe but {other}, which is not of this project: run `make setup` in {ROOT}"


def _newer_numpy():
    """The line for a NumPy that pycaffe was not built for, which ends in a crash where it is imported; else ''."""
    version = packages.version_module("numpy").get("version", "")
    if not version or int(version.partition(".")[0]) < 2:  # where there is none, what imports it will say so
        return ""
    return f"pycaffe is built for NumPy 1, and NumPy {version} was installed beside it: `make setup`, or pip install 'numpy<2'"


def _missing_package():
    """The line for a Python that has not even what goes without pycaffe, else ''."""
    for name in ("numpy", "google", "lmdb", "six", "fastjsonschema", "filelock"):
        if importlib.util.find_spec(name) is None:
            return (
                f"this Python ({sys.executable}) has no pycaffe, and no {name}, which is needed without it too: run `make setup` in {ROOT}, "
                f"or there, for --engine torch alone, `pip install '.[torch]'`"
            )
    return ""
