"""The files of a data set, out of a folder, a .tar, .tar.gz, .tar.xz or a .zip, straight into memory.

Nothing is unpacked onto the disk, so a hostile archive has nowhere to write; it is refused all the same. How much is read to
find out what is in it is bounded too (Bounded): tarfile and zipfile believe each size that a header states.
"""

import bz2
import gzip
import hashlib
import lzma
import re
import stat
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from hkd.base.cli import UserError, explain
from hkd.base.files import sha256

LARGEST_HEADER, A_HEADER = 1 << 20, 4096
"""Bytes of all that stands before a member of a .tar (a header of 512, and long names): at most, and on average."""
LARGEST_DIRECTORY = 32 << 20
"""Bytes of the list of members at the end of a .zip, with room for the 120,000 of Tiny-ImageNet."""
LARGEST_ARCHIVE = 4 << 30
"""Bytes of an archive, as it is and unpacked, with what is in it and not wanted."""
MOST_MEMBERS = 250_000
"""Files of a source: Tiny-ImageNet has 120,000."""

UNPACKERS = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
"""By the first bytes of a file."""


@dataclass(frozen=True)
class Wanted:
    """Which files of a source are read.

    names:  base names of the files that must be there; a `.gz` form of each is unpacked
    limit:  bytes of the largest file, unpacked
    total:  bytes of all of them, unpacked
    images: pattern for the end of a path that is an image's, of which there may be any number
    others: {base name of a file of something else that is often given instead: what it is and what to do}
    """

    names: tuple[str, ...]
    limit: int
    total: int
    images: re.Pattern | None = None
    others: dict[str, str] = field(default_factory=dict)

    def name(self, path):
        """The name that the file at `path` in a source is read under (base name, or what `images` matches), and whether it
        is gzipped; (None, False) for a file that is not wanted."""
        base = PurePosixPath(path).name
        if base in self.names:
            return base, False
        if base.endswith(".gz") and base[:-3] in self.names:
            return base[:-3], True
        image = self.images.search(path) if self.images else None
        return (image[0] if image else None), False


def read_files(source, wanted):
    """The content of the files in `source` that are `wanted`.

    Returns ({name: bytes}, sha256 of the source). Raises UserError, naming the file, for anything missing, damaged, unsafe
    or too large.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(
            f"{source}: no such file or folder: give the official archive, or its unpacked folder, to --source"
        )
    if not (source.is_file() or source.is_dir()):
        raise UserError(f"{source}: neither a file nor a folder: give the official archive, or its unpacked folder")
    if source.is_file() and wanted.name(source.name)[0]:
        raise UserError(
            f"{source}: only one file of the data set: give the folder that holds {', '.join(wanted.names)}"
        )
    if source.is_file() and source.name in wanted.others:
        raise UserError(f"{source}: {wanted.others[source.name]}")
    files = _Files(source, wanted)
    with _in_one_line(source, "a whole .tar.gz, .tar.xz or .zip"):
        if source.is_dir():
            digest = _from_folder(source, files)
        elif source.stat().st_size > LARGEST_ARCHIVE:
            raise UserError(f"{source}: larger than {LARGEST_ARCHIVE} bytes: not the official archive")
        else:
            (_from_zip if zipfile.is_zipfile(source) else _from_tar)(source, files)
            digest = sha256(source)
    missing = [name for name in wanted.names if name not in files.content]
    if missing and files.other:
        raise UserError(f"{source}: {files.other}")
    if missing:
        raise UserError(f"{source}: {missing[0]} is not in it; expected are {', '.join(wanted.names)}")
    return files.content, digest


@contextmanager
def _in_one_line(path, expected):
    """Raises UserError for what goes wrong while `path` is read: of any kind, for tarfile and zipfile trust what they read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise UserError(explain(error)) from None
        raise UserError(
            f"{path}: damaged or cut short ({error or type(error).__name__}): expected {expected}; get it again"
        ) from None


class Bounded:
    """A file to read, of which a reader may ask for `left` bytes in all (None: any number) and none beyond LARGEST_ARCHIVE.

    tarfile and zipfile take a header whole, however large it says that it is. Each read counts as a block at least: at the
    end of the file they may ask for ever.
    """

    def __init__(self, source, stream, left):
        self.source, self.stream, self.left = source, stream, left

    def read(self, size=-1):
        if self.left is None:
            return self.stream.read(size)
        whole = size is None or size < 0
        content = self.stream.read(self.left + 1 if whole else min(size, self.left + 1))
        self.left -= max(len(content) if whole else size, 512)
        if self.left < 0:
            raise UserError(f"{self.source}: a header in it is too large: not the official archive")
        return content

    def seek(self, offset, whence=0):
        return self._within(self.stream.seek(min(offset, LARGEST_ARCHIVE + 1), whence))

    def tell(self):
        return self._within(self.stream.tell())

    def seekable(self):
        return True

    def _within(self, position):
        if position > LARGEST_ARCHIVE:
            raise UserError(f"{self.source}: unpacks to more than {LARGEST_ARCHIVE} bytes: not the official archive")
        return position


def _refuse_unsafe(source, name, is_link):
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if is_link:
        raise UserError(f"{source}: member {name!r} is a link, a device or a sparse file: expected plain files only")
    if name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
        raise UserError(f"{source}: member {name!r} leaves the folder: expected plain relative names")


class _Files:
    """What was read of one source: `content`, {name: bytes}."""

    def __init__(self, source, wanted):
        self.source, self.wanted, self.content, self.bytes = source, wanted, {}, 0
        self.other, self.seen = None, 0

    def name(self, path):
        """As Wanted.name, of each file in turn. Raises UserError where they are too many."""
        self.seen += 1
        if self.seen > MOST_MEMBERS:
            raise UserError(f"{self.source}: more than {MOST_MEMBERS:,} files in it: not the official ones")
        self.other = self.other or self.wanted.others.get(PurePosixPath(path).name)
        return self.wanted.name(path)

    def put(self, path, stream, name, zipped):
        """Reads `stream`, the file at `path`, as `name`."""
        if name in self.content:
            raise UserError(f"{self.source}: {name} is in it twice: expected one")
        limit = min(self.wanted.limit, self.wanted.total - self.bytes)
        with _in_one_line(path, "a whole file"):
            content = (gzip.GzipFile(fileobj=stream) if zipped else stream).read(limit + 1)
        if len(content) > self.wanted.limit:
            raise UserError(
                f"{path}: larger than {self.wanted.limit} bytes, the most that this data set can have: not the official file"
            )
        if len(content) > limit:
            raise UserError(
                f"{self.source}: more than {self.wanted.total} bytes in all, the most that this data set can have: not the "
                f"official files"
            )
        self.bytes += len(content)
        self.content[name] = content


def _from_folder(source, files):
    """Returns a sha256 over names and contents."""
    digest = hashlib.sha256()
    # One more than may be, for files.name to refuse: the folder may be the root of everything.
    for path in sorted(islice((p for p in source.rglob("*") if p.is_file()), MOST_MEMBERS + 1)):
        name, zipped = files.name(path.relative_to(source).as_posix())
        if name:
            with path.open("rb") as stream:
                files.put(path, stream, name, zipped)
            line = f"{name} {hashlib.sha256(files.content[name]).hexdigest()}\n"
            digest.update(line.encode(errors="surrogateescape"))  # a name need not be UTF-8
    return digest.hexdigest()


def _from_tar(source, files):
    with _unpacked(source) as stream:
        bounded = Bounded(source, stream, LARGEST_HEADER)
        try:
            archive = tarfile.open(fileobj=bounded, mode="r:")  # noqa: SIM115 (entered below; opened here for an error of its own)
        except tarfile.ReadError:
            raise UserError(
                f"{source}: not a .tar.gz, .tar.xz or .zip (or damaged at its start): get it again"
            ) from None
        with archive:
            while member := archive.next():
                left, bounded.left = bounded.left, None
                # A member of a negative size would have itself read again, for ever.
                plain = (member.isfile() or member.isdir()) and not member.issparse() and member.size >= 0
                _refuse_unsafe(source, member.name, not plain)
                name, zipped = files.name(member.name)
                if name and member.isfile():
                    files.put(f"{source}: {member.name}", archive.extractfile(member), name, zipped)
                bounded.left = min(left + A_HEADER, LARGEST_HEADER)
                # It would keep every header, and apply each that is for all members to every one that follows.
                archive.members.clear()
                archive.pax_headers.clear()
        # Reading on to the end lets gzip and xz check what they have summed.
        bounded.left = None
        while bounded.read(1 << 20):
            bounded.tell()


def _unpacked(source):
    with source.open("rb") as stream:
        start = stream.read(6)
    unpack = next((unpack for sign, unpack in UNPACKERS.items() if start.startswith(sign)), open)
    return unpack(source, "rb")


def _from_zip(source, files):
    with source.open("rb") as stream:
        bounded = Bounded(source, stream, LARGEST_DIRECTORY)
        with zipfile.ZipFile(bounded) as archive:
            bounded.left = None
            for member in archive.infolist():
                mode = member.external_attr >> 16
                # Other systems leave the mode empty: 0 is a plain file there.
                _refuse_unsafe(
                    source, member.filename, bool(stat.S_IFMT(mode)) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
                )
                name, zipped = files.name(member.filename)
                if name and not member.is_dir():
                    with archive.open(member) as content:
                        files.put(f"{source}: {member.filename}", content, name, zipped)
