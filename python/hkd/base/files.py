"""Files that are whole or not there: written under another name, flushed to the disk, renamed. And their names in messages."""

import errno
import hashlib
import os
from contextlib import contextmanager
from pathlib import Path

from hkd.base.cli import ROOT


def write_whole(path, content):
    """Writes bytes or text to `path` so that a kill at any moment leaves the old file or the new one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with naming(path), partial.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path):
    """An OSError of a write names no file: here it names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def sync_folder(folder):
    """A rename is safe from a power cut only when its folder is on the disk too. Some file systems of other machines have no such
    operation: there nothing can be done about it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def sha256(path):
    return digest(path, "sha256")


def digest(path, kind):
    """The digest of a file in hexadecimal digits. kind: sha256, md5."""
    made = hashlib.new(kind)
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            made.update(block)
    return made.hexdigest()


def shown(path):
    """A path as a person would type it: from the checkout where it lies inside, else whole."""
    path = Path(path).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
