"""Where a user's own images lie: class folders or a CSV of files (listed), or LMDBs of another program (foreign). Each kind gives
the same: the images in a file, and of each its class, its split and what messages call it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import foreign
import listed
import pictures
from gathered import Gathered, Wanted, gather
from hkd.base.cli import UserError
from hkd.base.files import sha256, shown
from hkd.paper.datasets import DATASETS


@dataclass(frozen=True)
class Read:
    """Images, and of each the number of its class, its name, its split (None: the source does not say). classes, channels: their
    names."""

    gathered: Gathered
    labels: tuple[int, ...]
    names: tuple[str, ...]
    splits: tuple[str | None, ...]
    classes: tuple[str, ...]
    channels: tuple[str, ...]


def find(source):
    """The source of that path. Raises UserError for one of no known kind."""
    path = Path(source)
    if not path.exists():
        raise UserError(f"--source {source} is not there: name a folder of class folders, a .csv or an LMDB")
    if path.is_dir():
        found = foreign.find(path)
        return Lmdbs(path, found) if found else Files(path, listed.folders(path))
    if path.name == foreign.DATA:
        raise UserError(f"--source {source}: name the folder that it lies in")
    if path.suffix.lower() != ".csv" or not path.is_file():
        raise UserError(
            f"--source {source}: expected a folder of class folders, a .csv of path,label, or an LMDB: unpack an archive first "
            f"(of an official one --dataset is {', '.join(DATASETS)})"
        )
    return Files(path, listed.table(path))


def refuse_inside(source, out):
    """Raises UserError where the data set would be written into the folder that it is made from: it would be read the next time."""
    source, out = Path(source).resolve(), Path(out).resolve()
    if source == out or (source in out.parents and not foreign.find(source)):
        raise UserError(f"{shown(out)} lies in --source, {shown(source)}: name a folder outside of it with --out")


class Files:
    """Image files. digest: of their names, classes and content: a size stays the same where an image does not."""

    def __init__(self, source, listing):
        self.source, self._listing = source, listing
        self.divided = listing.items[0].split is not None
        self.passed_over = listing.passed_over

    @property
    def digest(self):
        digest = hashlib.sha256()
        for item in self._listing.items:
            digest.update(
                f"{item.name}\t{item.label}\t{item.split}\t{_content(item.path)}\n".encode(errors="surrogateescape")
            )
        return digest.hexdigest()

    def read(self, colours, resize, stream, folder, quiet):
        """Writes the images to `stream`, a file in `folder`; returns the Read."""
        items = self._listing.items
        where = self.source if self.source.is_dir() else self.source.parent
        whole = gather(where, _files(items), Wanted(colours, resize), stream, folder, quiet)
        classes = listed.in_order({item.label for item in items})
        number = {name: place for place, name in enumerate(classes)}
        return Read(
            whole,
            tuple(number[item.label] for item in items),
            tuple(item.name for item in items),
            tuple(item.split for item in items),
            tuple(classes),
            ("red", "green", "blue") if whole.shape[0] == 3 else ("grey",),
        )


def _content(path):
    """The digest of a file; None of one that could not be an image's."""
    try:
        return hashlib.sha256(pictures.content(path)).hexdigest()
    except pictures.Wrong:
        return None


def _files(items):
    for item in items:
        yield item.name, lambda path=item.path: _loaded(path)


def _loaded(path):
    data = pictures.content(path)
    return data, pictures.decoded(data)


class Lmdbs:
    """LMDBs of another program: one, or one for each split. digest: of their files."""

    passed_over = 0

    def __init__(self, source, found):
        self.source, self._found = source, found
        self.divided = None not in found

    @property
    def digest(self):
        files = [(path.name, sha256(path / foreign.DATA)) for path in self._found.values()]
        return hashlib.sha256(repr(files).encode()).hexdigest()

    def read(self, colours, resize, stream, folder, quiet):
        """See Files.read."""
        read = foreign.read(self._found, Wanted(colours, resize), stream, folder)
        classes = tuple(map(str, range(max(read.labels) + 1)))
        if missing := set(range(len(classes))) - set(read.labels):
            raise UserError(
                f"{self.source}: no record has label {min(missing)}: expected every label from 0 to the largest, {len(classes) - 1}"
            )
        listed.check_classes(classes, self.source)
        return Read(read.gathered, read.labels, read.names, read.splits, classes, read.channels)
