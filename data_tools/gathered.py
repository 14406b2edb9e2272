"""Images of one shape, one after another in a file without a name: as many as the disk holds, and gone however the process ends."""

import hashlib
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.progress import track

import pictures
from hkd.base.cli import UserError
from hkd.base.files import naming
from hkd.paper.datasets import SIZES

SHOWN = 3  # of the images that are wrong, those that the message names


@dataclass(frozen=True)
class Wanted:
    """What the images are to become: see pictures.fitted."""

    colours: str | None = None
    resize: int | None = None


@dataclass(frozen=True)
class Gathered:
    """N images in an open file. shape: channels, height, width; digests: 16 bytes of each image's pixels; sha256: of the bytes of all
    images as they were read."""

    shape: tuple[int, int, int]
    digests: tuple[bytes, ...]
    sha256: str

    def images(self, stream):
        """N x C x H x W, uint8, read from the file as they are asked for."""
        return np.memmap(stream, np.uint8, "r", shape=(len(self.digests), *self.shape))


class Chosen:
    """Some of the images, by their places: a train or test set of N x C x H x W."""

    def __init__(self, images, places):
        self.images, self.places = images, np.asarray(places)

    @property
    def shape(self):
        return len(self.places), *self.images.shape[1:]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        return self.images[self.places[index]]


@contextmanager
def nameless(folder):
    """A file in `folder` that no other process sees."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as stream:
        yield stream


def gather(where, entries, wanted, stream, folder, quiet=True):
    """Writes the images to `stream`, a file in `folder`, and returns the Gathered. entries: (name, load) of each, where load() gives
    (its bytes as they are, a Pillow image) or raises pictures.Wrong. All are tried: the UserError names the first that is wrong,
    and how many more are."""
    one, wrong, digests, sha256 = None, [], [], hashlib.sha256()
    shown = not quiet and sys.stdout.isatty()
    with naming(folder):
        for name, load in track(entries, description="reading", disable=not shown, transient=True):
            try:
                data, image = load()
                one = one or _first(name, image, wanted)
                image = _alike(name, image, wanted, one)
            except pictures.Wrong as error:
                wrong.append((name, str(error)))
                continue
            sha256.update(data)
            if not wrong:
                pixels = np.ascontiguousarray(pictures.pixels(image))
                digests.append(hashlib.blake2b(pixels, digest_size=16).digest())
                stream.write(pixels)
        stream.flush()
    if wrong:
        raise UserError(_said(where, wrong))
    return Gathered((1 if one.kind == pictures.GREY else 3, one.size, one.size), tuple(digests), sha256.hexdigest())


@dataclass(frozen=True)
class _One:
    """What every image has to be, and the one that says so."""

    name: str
    kind: str
    size: int


def _first(name, image, wanted):
    size = wanted.resize or image.width
    if not wanted.resize and image.width != image.height:
        raise pictures.Wrong(f"{image.width} x {image.height} pixels: expected a square, or --resize 32")
    if wrong := wrong_size(size):
        raise pictures.Wrong(f"{image.width} x {image.height} pixels: {wrong}")
    return _One(name, wanted.colours or pictures.kind(image), size)


def wrong_size(size):
    """Why the networks cannot take images of a size; None where they can."""
    if size % 4 or not SIZES[0] <= size <= SIZES[1]:
        return f"the networks halve an image twice: expected a multiple of 4 from {SIZES[0]} to {SIZES[1]}, for example --resize 32"
    return None


def _alike(name, image, wanted, one):
    """The image as `one` is. Raises pictures.Wrong."""
    kind = wanted.colours or pictures.kind(image)
    if kind != one.kind:
        raise pictures.Wrong(
            f"{kind}, and {one.name} is {one.kind}: make all of them grey with --grey, or all colour with --colour"
        )
    if not wanted.resize and image.size != (one.size, one.size):
        raise pictures.Wrong(
            f"{image.width} x {image.height} pixels, and {one.name} has {one.size} x {one.size}: make them of one size with --resize "
            f"{one.size}"
        )
    return pictures.fitted(image, wanted.colours, wanted.resize)


def _said(where, wrong):
    (name, why), *others = wrong
    named = ", ".join(name for name, _ in others[: SHOWN - 1])
    more = f", and {len(others) - SHOWN + 1:,} more" if len(others) >= SHOWN else ""
    return f"{where}/{name}: {why}" + (f" ({len(others):,} more are wrong: {named}{more})" if others else "")
