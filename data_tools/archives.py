"""The files of a data set, out of a folder, a .tar, .tar.gz, .tar.xz or a .zip, straight into memory.

Nothing is unpacked onto the disk, so a hostile archive has nowhere to write; it is refused all the same.
"""

import gzip
import hashlib
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hkd.base.cli import UserError, explain

# RuntimeError: zipfile's word for a member that is encrypted or packed in a way that it does not know.
BROKEN = (EOFError, OSError, RuntimeError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Wanted:
    """Which files of a source are read.

    names:  base names of the files that must be there; a `.gz` form of each is unpacked
    limit:  bytes of the largest file, unpacked
    total:  bytes of all of them, unpacked
    images: pattern for the end of a path that is an image's, of which there may be any number
    """

    names: tuple[str, ...]
    limit: int
    total: int
    images: re.Pattern | None = None

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
    if source.is_file() and wanted.name(source.name)[0]:
        raise UserError(
            f"{source}: only one file of the data set: give the folder that holds {', '.join(wanted.names)}"
        )
    files = _Files(source, wanted)
    try:
        if source.is_dir():
            digest = _from_folder(source, files)
        else:
            (_from_zip if zipfile.is_zipfile(source) else _from_tar)(source, files)
            digest = _digest_file(source)
    except BROKEN as error:
        raise UserError(_says(source, error)) from None
    missing = [name for name in wanted.names if name not in files.content]
    if missing:
        raise UserError(f"{source}: {missing[0]} is not in it; expected are {', '.join(wanted.names)}")
    return files.content, digest


def _says(source, error):
    if isinstance(error, OSError) and error.errno is not None:
        return explain(error)
    return f"{source}: damaged or cut short ({error or type(error).__name__}): expected a whole .tar.gz, .tar.xz or .zip; get it again"


def _refuse_unsafe(source, name, is_link):
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if is_link:
        raise UserError(f"{source}: member {name!r} is a link or a device: expected plain files only")
    if name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
        raise UserError(f"{source}: member {name!r} leaves the folder: expected plain relative names")


class _Files:
    """What was read of one source: `content`, {name: bytes}."""

    def __init__(self, source, wanted):
        self.source, self.wanted, self.content, self.bytes = source, wanted, {}, 0

    def put(self, path, stream, name, zipped):
        """Reads `stream`, the file at `path`, as `name`."""
        if name in self.content:
            raise UserError(f"{self.source}: {name} is in it twice: expected one")
        limit = min(self.wanted.limit, self.wanted.total - self.bytes)
        try:
            content = (gzip.GzipFile(fileobj=stream) if zipped else stream).read(limit + 1)
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise UserError(
                f"{path}: damaged or cut short ({error or type(error).__name__}): expected a whole file; get it again"
            ) from None
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
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name, zipped = files.wanted.name(path.relative_to(source).as_posix())
        if name:
            with path.open("rb") as stream:
                files.put(path, stream, name, zipped)
            digest.update(f"{name} {hashlib.sha256(files.content[name]).hexdigest()}\n".encode())
    return digest.hexdigest()


def _from_tar(source, files):
    try:
        archive = tarfile.open(source, "r:*")  # noqa: SIM115 (entered below; opened here for an error of its own)
    except tarfile.ReadError:
        raise UserError(f"{source}: not a .tar.gz, .tar.xz or .zip (or damaged at its start): get it again") from None
    with archive:
        for member in archive:
            _refuse_unsafe(source, member.name, not (member.isfile() or member.isdir()))
            name, zipped = files.wanted.name(member.name)
            if name and member.isfile():
                files.put(f"{source}: {member.name}", archive.extractfile(member), name, zipped)
        # Reading on to the end lets gzip and xz check what they have summed.
        while archive.fileobj.read(1 << 20):
            pass


def _from_zip(source, files):
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            # Other systems leave the mode empty: 0 is a plain file there.
            _refuse_unsafe(
                source, member.filename, bool(stat.S_IFMT(mode)) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
            )
            name, zipped = files.wanted.name(member.filename)
            if name and not member.is_dir():
                with archive.open(member) as stream:
                    files.put(f"{source}: {member.filename}", stream, name, zipped)


def _digest_file(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
