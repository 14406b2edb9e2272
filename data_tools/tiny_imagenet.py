"""Tiny-ImageNet (cs231n.stanford.edu/tiny-imagenet-200.zip): JPEGs of 64 x 64 pixels, some of them grey.

wnids.txt                            the classes, one a line: a class's number is its line, from 0
train/WNID/images/WNID_NUMBER.JPEG   500 a class; read in the order of wnids.txt, then of their numbers
val/val_annotations.txt              name, wnid and bounding box of a validation image a line (tabs); read in its order
val/images/val_NUMBER.JPEG           50 a class: the test set here, for the labels of the test images are not published
"""

import io
import warnings

import numpy as np
import PIL
from PIL import Image, features

from hkd.base.cli import UserError

BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning)


class Jpegs:
    """N JPEGs as N x 3 x size x size uint8, each decoded when it is asked for: 100,000 of them at once are 1.2 GB."""

    def __init__(self, names, files, size):
        self.names, self.files, self.size = names, files, size

    @property
    def shape(self):
        return len(self.names), 3, self.size, self.size

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        name = self.names[index]
        return decode(name, self.files[name], self.size)


def decode(name, content, size):
    """A JPEG as uint8, 3 x size x size: red, green, blue, which are equal in a grey one. Raises UserError, naming it."""
    try:
        # A header that claims a huge image is an error of ours, not a warning on somebody's terminal.
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.size != (size, size):
                raise UserError(f"{name}: {image.width} x {image.height} pixels: expected {size} x {size}")
            if image.mode not in ("RGB", "L"):
                raise UserError(f"{name}: colours {image.mode}: expected RGB or grey")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except BROKEN as error:
        raise UserError(f"{name}: damaged, cut short or no JPEG ({_short(error)}): get the archive again") from None


def decoder():
    """What decoded the images: another JPEG library may round a pixel otherwise."""
    return f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"


def _short(error):
    # Pillow names the stream's address where it cannot identify an image.
    return "not identified" if "cannot identify" in str(error) else " ".join(str(error).split())


def read(facts, files):
    """((train images, labels), (test images, labels)); images are Jpegs."""
    numbers = _class_numbers(facts, files)
    return [
        (Jpegs([name for name, _ in split], files, facts.size), np.array([label for _, label in split], np.uint8))
        for split in (_training(files, numbers), _validation(files, numbers))
    ]


def _class_numbers(facts, files):
    wnids = _lines("wnids.txt", files)
    for number, wnid in enumerate(wnids):
        if wnid in wnids[:number]:
            raise UserError(f"wnids.txt: line {number + 1}: {wnid} is in it twice: expected each class once")
    if len(wnids) != facts.classes:
        raise UserError(f"wnids.txt: {len(wnids)} classes: expected {facts.classes}")
    return {wnid: number for number, wnid in enumerate(wnids)}


def _training(files, numbers):
    """[(name of a file, label)] of the training images, in order."""
    found = []
    for name in files:
        if name.startswith("train/"):
            wnid, stem = name.split("/")[1], name.rpartition("/")[2]
            if wnid not in numbers:
                raise UserError(f"{name}: its class {wnid} is not in wnids.txt")
            # The length first: WNID_2 stands before WNID_10.
            found.append((numbers[wnid], len(stem), name))
    return [(name, label) for label, _, name in sorted(found)]


def _validation(files, numbers):
    """[(name of a file, label)] of the validation images, in order."""
    found = {}
    for number, line in enumerate(_lines("val_annotations.txt", files), start=1):
        where = f"val_annotations.txt: line {number}"
        image, wnid = [*line.split("\t"), ""][:2]
        name = f"val/images/{image}"
        if wnid not in numbers:
            raise UserError(
                f"{where}: class {wnid!r} is not in wnids.txt: expected an image's name, a tab and its class"
            )
        if name not in files:
            raise UserError(f"{where}: {name} is not there: get the archive again")
        if name in found:
            raise UserError(f"{where}: {image} is in it twice: expected each image once")
        found[name] = numbers[wnid]
    for name in files:
        if name.startswith("val/") and name not in found:
            raise UserError(f"{name}: has no line in val_annotations.txt: get the archive again")
    return list(found.items())


def _lines(name, files):
    """The lines of a text file that are not empty."""
    try:
        return [line.strip() for line in files[name].decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start} is no ASCII: damaged? get the archive again") from None
