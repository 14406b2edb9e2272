"""One PNG, JPEG or WebP file as 8 bits a channel, grey or colour: what cannot be that exactly is refused, never rounded.

Palettes become the colours that they stand for, an alpha channel that hides nothing is left out, a JPEG from a camera is turned as
its EXIF note says. Colour profiles are not applied.
"""

import io
import stat
import warnings

import numpy as np
import PIL
from PIL import Image, ImageOps, features

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_FILE = 64 << 20  # bytes
MOST_PIXELS = 50_000_000
GREY, COLOUR = "grey", "colour"
PLAIN = {"1": "L", "L": "L", "LA": "L", "RGB": "RGB", "RGBA": "RGB", "P": "RGB", "PA": "RGB"}
"""The modes of Pillow that are read, and what they become."""


class Wrong(Exception):
    """What is wrong with an image, in a few words."""


def content(path):
    """The bytes of an image file (a Path). Raises Wrong."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Wrong("no file" if not stat.S_ISDIR(found.st_mode) else "a folder")
        if found.st_size > LARGEST_FILE:
            raise Wrong(f"{found.st_size:,} bytes: expected at most {LARGEST_FILE:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise Wrong("a link to a file that is not there" if path.is_symlink() else "not there") from None
    except OSError as error:
        raise Wrong(error.strerror or str(error)) from None


def decoded(data):
    """A Pillow image, 8-bit grey (mode L) or RGB, of the bytes of a file. Raises Wrong."""
    if not data:
        raise Wrong("empty")
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10":
        raise Wrong("16 bits a channel: convert it to 8")  # of colours Pillow would drop the lower byte in silence
    try:
        # What a decoder only warns of is wrong too: a header that claims a huge image.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _read(data)
    except Image.UnidentifiedImageError:
        raise Wrong("no PNG, JPEG or WebP file, whatever its name") from None
    except Wrong:
        raise
    except Exception as error:  # of any kind: what a decoder raises at damaged bytes is stated nowhere
        raise Wrong(f"damaged or cut short ({' '.join(str(error).split())[:100]})") from None


def _read(data):
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise Wrong(f"{image.width:,} x {image.height:,} pixels: expected at most {MOST_PIXELS:,} in all")
        if getattr(image, "n_frames", 1) > 1:
            raise Wrong(f"animated, {image.n_frames} pictures: keep one of them")
        image.load()
        return _plain(ImageOps.exif_transpose(image) if image.info.get("exif") else image)


def _plain(image):
    mode = PLAIN.get(image.mode)
    if mode is None:
        raise Wrong(f"pixels of the kind {image.mode}: convert it to 8-bit grey or RGB")
    if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        whole = image.convert("LA" if mode == "L" else "RGBA")
        if whole.getchannel("A").getextrema()[0] < 255:
            raise Wrong("transparent pixels: put it on a background")
        return whole.convert(mode)
    return image.convert(mode)


def kind(image):
    """GREY or COLOUR."""
    return GREY if image.mode == "L" else COLOUR


def fitted(image, colours=None, resize=None):
    """The image made grey or colour, and resize x resize pixels large (bilinear over all pixels that it covers; the shape is not
    kept). None: as it is."""
    mode = {GREY: "L", COLOUR: "RGB", None: image.mode}[colours]
    image = image if image.mode == mode else image.convert(mode)
    if resize and image.size != (resize, resize):
        image = image.resize((resize, resize), Image.Resampling.BILINEAR)
    return image


def pixels(image):
    """uint8, channels x height x width; red, green, blue."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def decoder():
    """What decodes: other libraries may round the pixels of a JPEG or WebP otherwise."""
    return f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}, libwebp {features.version_module('webp')}"
