"""Files that are whole or not there: written under another name, flushed to the disk, renamed. And their names in messages."""

import hashlib
import os
from pathlib import Path

from hkd.base.cli import ROOT


def write_whole(path, content):
    """Writes bytes or text to `path` so that a kill at any moment leaves the old file or the new one."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder):
    """A rename is safe from a power cut only when its folder is on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path):
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shown(path):
    """A path as a person would type it: from the checkout where it lies inside, else whole."""
    path = Path(path).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
