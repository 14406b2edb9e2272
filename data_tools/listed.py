"""Which files are images of which class: a folder of class folders, `train/` and `test/` of such folders, or a CSV file.

Symbolic links are followed, to files and to folders; one that leads back to a folder that it lies in is refused, and so is one to
nothing. Hidden files and what desktops leave behind are passed over, and counted.
"""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from hkd.base.cli import UserError
from hkd.paper.datasets import MOST_CLASSES
from pictures import SUFFIXES

SPLITS = ("train", "test")
LIKE_SPLITS = (*SPLITS, "val", "valid", "validation", "dev", "eval", "training", "testing")
"""What folders are called, in any case, that are no classes where there is nothing else."""
LEFT_BEHIND = ("thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")
LONGEST_CLASS = 100
LARGEST_CSV = 256 << 20  # bytes


@dataclass(frozen=True)
class Item:
    """An image file: where it is, what it is called in messages, the name of its class, and its split (None: not said)."""

    path: Path
    name: str
    label: str
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """The images of a source, in order; passed_over: how many other files were left aside."""

    items: tuple[Item, ...]
    passed_over: int = 0


def in_order(names):
    """Class names in the order of their labels: as numbers where all are whole numbers, else as text."""
    if all(name.isdecimal() and name.isascii() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def check_classes(names, where):
    """Raises UserError for too few or many classes, and for names that a manifest cannot hold."""
    if not 2 <= len(names) <= MOST_CLASSES:
        have = f"1 class, {min(names)}" if len(names) == 1 else f"{len(names):,} classes"
        raise UserError(f"{where}: {have}: expected 2 to {MOST_CLASSES:,}")
    for name in names:
        if not name.isprintable() or len(name) > LONGEST_CLASS or not name.strip():
            raise UserError(
                f"{where}: class {name[:LONGEST_CLASS]!a}: expected a name of 1 to {LONGEST_CLASS} printable characters: rename it"
            )


# --- folders --------------------------------------------------------------------------------------------------------------


def folders(source):
    """The Listing of a folder: classes in their order, the files of each by their names. Raises UserError."""
    source, found = Path(source), []
    class_folders, passed_over = _class_folders(source)
    for split, folder in class_folders:
        items, more = _class(folder, split)
        found, passed_over = found + items, passed_over + more
    classes = in_order({item.label for item in found})
    check_classes(classes, source)
    place = {name: number for number, name in enumerate(classes)}
    found.sort(key=lambda item: (item.split == "test", place[item.label], item.name))
    return Listing(tuple(found), passed_over)


def _class_folders(source):
    """([(split or None, class folder)], number of files that were passed over)."""
    inside, beside, passed_over = _entries(source)
    passed_over += len(beside)  # a README, a license
    names = {folder.name for folder in inside}
    if images := [file.name for file in beside if _is_image(file)]:
        raise UserError(
            f"{source}/{images[0]}: an image beside the class folders: expected {source}/CLASS/{images[0]}, or a CSV of path,label"
        )
    if not inside:
        raise UserError(f"{source}: no class folders in it: expected {source}/CLASS/IMAGE.png, or a CSV of path,label")
    if not set(SPLITS) <= names:
        # A folder of val/ or of train/ alone, or of Train/ and Test/, is no folder of classes.
        if {name.lower() for name in names} <= set(LIKE_SPLITS):
            have = " and ".join(f"{name}/" for name in sorted(names))
            raise UserError(f"{source}: has {have} alone: expected train/ and test/ (rename them so), or class folders")
        return [(None, folder) for folder in inside], passed_over
    if other := sorted(names - set(SPLITS)):
        raise UserError(f"{source}/{other[0]}: a folder beside train/ and test/: move it elsewhere")
    found = []
    for split in SPLITS:
        classes, files, more = _entries(source / split)
        if files:
            raise UserError(f"{files[0]}: a file among the class folders: expected {source}/{split}/CLASS/IMAGE.png")
        found, passed_over = found + [(split, folder) for folder in classes], passed_over + more
    return found, passed_over


def _class(folder, split):
    """([Item], number of files that were passed over) of a class folder with all that is in it."""
    items, passed_over, above = [], 0, []

    def walk(folder, name):
        nonlocal passed_over
        here = os.path.realpath(folder)
        if here in above:
            raise UserError(f"{folder}: a link that leads back to {here}, which it lies in: remove it")
        above.append(here)
        inside, files, more = _entries(folder)
        passed_over += more
        for file in files:
            if not _is_image(file):
                raise UserError(
                    f"{file}: neither .png, .jpg, .jpeg nor .webp: convert it, or move it out of the class folders"
                )
            items.append(Item(file, f"{name}/{file.name}", label, split))
        for each in inside:
            walk(each, f"{name}/{each.name}")
        above.pop()

    label = folder.name
    walk(folder, f"{split}/{label}" if split else label)
    if not items:
        raise UserError(f"{folder}: a class folder without an image: fill it, or remove it")
    return items, passed_over


def _entries(folder):
    """([folders], [files], number of those that were passed over) in a folder, by name."""
    folders, files, passed_over = [], [], 0
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name.lower() in LEFT_BEHIND:
            passed_over += 1
        elif entry.is_dir():
            folders.append(Path(entry.path))
        else:
            files.append(Path(entry.path))
    return folders, files, passed_over


def _is_image(path):
    return path.suffix.lower() in SUFFIXES


# --- CSV -----------------------------------------------------------------------------------------------------------------


def table(source):
    """The Listing of a CSV file of path,label[,split], in the order of its lines; paths are from its own folder. Its first line may
    name the columns, in any order. Raises UserError, naming the line."""
    source = Path(source)
    rows = list(_rows(source))
    if not rows:
        raise UserError(f"{source}: no line in it: expected path,label or path,label,split")
    columns = [cell.strip().lower() for cell in rows[0][1]]
    if {"path", "label"} <= set(columns):
        if not set(columns) <= {"path", "label", "split"} or len(set(columns)) < len(columns):
            raise UserError(f"{source}, line 1: columns {','.join(columns)}: expected path,label or path,label,split")
        rows = rows[1:]
    elif {"path", "label"} & set(columns):
        raise UserError(f"{source}, line 1: columns {','.join(columns)}: expected path,label or path,label,split")
    else:
        columns = ["path", "label", "split"][: max(2, min(3, len(columns)))]
        _refuse_other_head(source, rows[0][1])
    seen, items = {}, []
    for line, cells in rows:
        where = f"{source}, line {line}"
        if len(cells) != len(columns):
            raise UserError(f"{where}: {len(cells)} cell{'s' * (len(cells) != 1)}: expected {','.join(columns)}")
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        split = row.get("split")
        if split not in (None, *SPLITS):
            raise UserError(f"{where}: split {split!r}: expected train or test")
        if not row["path"] or not row["label"] or "\0" in row["path"]:
            raise UserError(f"{where}: no {'label' if row['path'] else 'path'}: expected {','.join(columns)}")
        path = source.parent / row["path"]
        if (before := seen.setdefault(os.path.normpath(path), line)) != line:
            raise UserError(f"{where}: {row['path']} is in it twice, first in line {before}: expected each image once")
        items.append(Item(path, row["path"], row["label"], split))
    check_classes({item.label for item in items}, source)
    return Listing(tuple(items))


def _refuse_other_head(source, cells):
    """Raises UserError for a first line that is no image's: names of other columns, or cells with something else between them."""
    first = cells[0].strip()
    if len(cells) == 1:
        raise UserError(f"{source}, line 1: 1 cell: expected path,label with a comma between them")
    if Path(first).suffix.lower() not in SUFFIXES and not (source.parent / first).exists():
        raise UserError(
            f"{source}, line 1: columns {','.join(cells)}: expected path,label or path,label,split, or no line of names"
        )


def _rows(source):
    """(number of the line, cells) of each line that is not empty."""
    if source.stat().st_size > LARGEST_CSV:
        raise UserError(f"{source}: {source.stat().st_size:,} bytes: expected at most {LARGEST_CSV:,}")
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source}: byte {error.start:,} is no UTF-8: save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}: no CSV ({error}): expected path,label") from None
