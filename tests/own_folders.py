"""Folders of image files for tests: real pictures of Fashion-MNIST, grey as they are or coloured at 32 x 32."""

import numpy as np
import pytest
from PIL import Image

from conftest import FASHION, read_idx

NAMES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def fashion_images(count, first=0):
    """(images N x 28 x 28, labels N), uint8."""
    if not FASHION.exists():
        pytest.skip("no Fashion-MNIST here: the Debian package dataset-fashion-mnist")
    part = slice(first, first + count)
    return (
        read_idx(FASHION / "train-images-idx3-ubyte.gz", 3)[part],
        read_idx(FASHION / "train-labels-idx1-ubyte.gz", 1)[part],
    )


def coloured(images):
    """N x 32 x 32 x 3: nothing at the edges is 0, and the channels differ."""
    found = np.zeros((len(images), 32, 32, 3), np.uint8)
    for channel, weight in enumerate((256, 192, 128)):
        found[:, 2:30, 2:30, channel] = images.astype(np.uint16) * weight >> 8
    found[:, :2] = np.arange(1, 33)[:, None]
    return found


def write_classes(folder, images, labels, suffix=".png", names=NAMES, first=0, **options):
    """folder/CLASS/00012.png for each image; returns {path below `folder`: image}."""
    written = {}
    for number, (image, label) in enumerate(zip(images, labels, strict=True), first):
        path = folder / names[label] / f"{number:05}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **options)
        written[str(path.relative_to(folder))] = image
    return written
