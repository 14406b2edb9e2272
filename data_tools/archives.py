"""The files of a data set, out of a folder, a .tar, .tar.gz, .tar.xz or a .zip, straight into memory.

Nothing is unpacked onto the disk, so a hostile archive has nowhere to write; it is refused all the same.
"""

import gzip
import hashlib
import lzma
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hkd.cli import UserError, explain

BROKEN = (EOFError, OSError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def read_files(source, names, limit):
    """The content of each of `names` (base names; a `.gz` form of each is unpacked) in `source`.

    Returns ({name: bytes}, sha256 of the source). `limit` bounds a file's unpacked size in bytes.
    Raises UserError, naming the file, for anything missing, damaged, unsafe or too large.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(
            f"{source}: no such file or folder: give the official archive, or its unpacked folder, to --source"
        )
    try:
        if source.is_dir():
            files, digest = _from_folder(source, names, limit)
        elif zipfile.is_zipfile(source):
            files, digest = _from_zip(source, names, limit), _digest_file(source)
        else:
            files, digest = _from_tar(source, names, limit), _digest_file(source)
    except BROKEN as error:
        raise UserError(_says(source, error)) from None
    missing = [name for name in names if name not in files]
    if missing:
        raise UserError(f"{source}: {missing[0]} is not in it; expected are {', '.join(names)}")
    return files, digest


def _says(source, error):
    if isinstance(error, OSError) and error.errno is not None:
        return explain(error)
    return f"{source}: damaged or cut short ({error or type(error).__name__}): expected a whole .tar.gz, .tar.xz or .zip; get it again"


def _wanted(path, names):
    """The name among `names` that an archive's member stands for, and whether it is gzipped."""
    base = PurePosixPath(path).name
    if base in names:
        return base, False
    if base.endswith(".gz") and base[:-3] in names:
        return base[:-3], True
    return None, False


def _refuse_unsafe(source, name, is_link):
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if is_link:
        raise UserError(f"{source}: member {name!r} is a link or a device: expected plain files only")
    if name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]):
        raise UserError(f"{source}: member {name!r} leaves the folder: expected plain relative names")


def _put(files, source, path, stream, name, zipped, limit):
    if name in files:
        raise UserError(f"{source}: {name} is in it twice: expected one")
    try:
        content = (gzip.GzipFile(fileobj=stream) if zipped else stream).read(limit + 1)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"{path}: damaged or cut short ({error or type(error).__name__}): expected a whole file; get it again"
        ) from None
    if len(content) > limit:
        raise UserError(
            f"{path}: larger than {limit} bytes, the most that this data set can have: not the official file"
        )
    files[name] = content


def _from_folder(source, names, limit):
    files, digest = {}, hashlib.sha256()
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name, zipped = _wanted(path.name, names)
        if name:
            with path.open("rb") as stream:
                _put(files, source, path, stream, name, zipped, limit)
            digest.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return files, digest.hexdigest()


def _from_tar(source, names, limit):
    files = {}
    try:
        archive = tarfile.open(source, "r:*")  # noqa: SIM115 (entered below; opened here for an error of its own)
    except tarfile.ReadError:
        raise UserError(f"{source}: not a .tar.gz, .tar.xz or .zip (or damaged at its start): get it again") from None
    with archive:
        for member in archive:
            _refuse_unsafe(source, member.name, not (member.isfile() or member.isdir()))
            name, zipped = _wanted(member.name, names)
            if name and member.isfile():
                _put(files, source, f"{source}: {member.name}", archive.extractfile(member), name, zipped, limit)
        # Reading on to the end lets gzip and xz check what they have summed.
        while archive.fileobj.read(1 << 20):
            pass
    return files


def _from_zip(source, names, limit):
    files = {}
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            mode = member.external_attr >> 16
            # Other systems leave the mode empty: 0 is a plain file there.
            _refuse_unsafe(
                source, member.filename, bool(stat.S_IFMT(mode)) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
            )
            name, zipped = _wanted(member.filename, names)
            if name and not member.is_dir():
                with archive.open(member) as stream:
                    _put(files, source, f"{source}: {member.filename}", stream, name, zipped, limit)
    return files


def _digest_file(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
