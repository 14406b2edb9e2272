"""Readers of the official files: one small function a format. Each gives images N x C x H x W and labels N, uint8.

Formats: CIFAR binary version (www.cs.toronto.edu/~kriz/cifar.html: label bytes, then 1,024 red, green and blue pixels a
record) and MNIST idx (big-endian magic number and dimensions, then bytes) here, the others in svhn.py and tiny_imagenet.py.
"""

import hashlib
import math

import numpy as np

import archives
import sources
import svhn
import tiny_imagenet
from hkd.base.cli import UserError

LARGEST_FILE = 200_000_000
"""Bytes of the largest file that any of the data sets holds, with room: an archive may not unpack to more."""
LARGEST_SOURCE = 400_000_000
"""The same of all files of a data set."""


def read_dataset(facts, source, trust=False):
    """((train images, labels), (test images, labels), differences, sha256 of the source) of an archive or folder; differences:
    a line for each file that is not what the authors published, none for the official data set.

    Images are read only by their length, shape and one at a time: Tiny-ImageNet's are decoded when they are asked for.
    Raises UserError for bad input; see check_official.
    """
    names, images = sources.NAMES[facts.name], sources.IMAGES.get(facts.name)
    others = sources.OTHERS.get(facts.name, {})
    files, sha256 = archives.read_files(source, archives.Wanted(names, LARGEST_FILE, LARGEST_SOURCE, images, others))
    differences = check_official(facts, source, files, sha256, trust)
    train, test = READERS[facts.name](facts, files)
    for (images, labels), which in ((train, "training"), (test, "test")):
        check(facts, images, labels, which)
    return train, test, differences, sha256


def check_official(facts, source, files, source_sha256, trust):
    """A line for each file that is not, byte for byte, what the authors published.

    A file of the official size with other bytes is damaged, and refused, unless `trust`; one of another size is somebody's
    own data set in the official layout: read, and not official.
    """
    if facts.name in sources.ARCHIVES:
        archive = sources.ARCHIVES[facts.name]
        found = [(str(source), source.stat().st_size if source.is_file() else None, source_sha256, archive)]
    else:
        members = sources.MEMBERS[facts.name].items()
        found = [(name, len(files[name]), hashlib.sha256(files[name]).hexdigest(), member) for name, member in members]
    for name, size, sha256, published in found:
        if size == published.size and sha256 != published.sha256 and not trust:
            raise UserError(
                f"{name}: has the official size but not the official content (sha256 should be {published.sha256[:12]}...): "
                f"damaged? get it again, or say --trust to use it as it is"
            )
    return [line for each in found if (line := _difference(*each))]


def _difference(name, size, sha256, published):
    if size is None:
        return "an unpacked folder, which cannot be compared with it"
    if size != published.size:
        return f"{name} has {size:,} bytes (official: {published.size:,})"
    if sha256 != published.sha256:
        return f"{name} has sha256 {sha256[:12]} (official: {published.sha256[:12]})"
    return None


def check(facts, images, labels, which):
    if len(images) != len(labels):
        raise UserError(
            f"{facts.name}: {len(images)} {which} images but {len(labels)} labels: expected as many of each"
        )
    if len(images) == 0:
        raise UserError(
            f"{facts.name}: no {which} images at all: expected {facts.train_images if which == 'training' else facts.test_images}"
        )
    if labels.max() >= facts.classes:
        where = int(np.argmax(labels >= facts.classes))
        raise UserError(
            f"{facts.name}: {which} image {where} has label {labels[where]}: expected 0 to {facts.classes - 1}"
        )


def read_cifar10(facts, files):
    train = [_records(name, files[name], 1) for name in sources.CIFAR10 if name.startswith("data_batch")]
    images = np.concatenate([images for images, _ in train])
    labels = np.concatenate([labels for _, labels in train])
    return (images, labels), _records("test_batch.bin", files["test_batch.bin"], 1)


def read_cifar100(facts, files):
    # Two label bytes, coarse then fine; the 100 classes are the fine ones.
    return _records("train.bin", files["train.bin"], 2), _records("test.bin", files["test.bin"], 2)


def _records(name, content, label_bytes):
    """CIFAR records: `label_bytes` labels (the last one counts), then 3 x 32 x 32 pixels."""
    size = label_bytes + 3 * 32 * 32
    if len(content) % size:
        raise UserError(
            f"{name}: {len(content)} bytes is no multiple of the record size {size}: cut short? get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1]


def read_mnist(facts, files):
    splits = []
    for prefix in ("train", "t10k"):
        images = _idx(f"{prefix}-images-idx3-ubyte", files, 3)
        labels = _idx(f"{prefix}-labels-idx1-ubyte", files, 1)
        if images.shape[1:] != (facts.size, facts.size):
            raise UserError(
                f"{prefix}-images-idx3-ubyte: images of {images.shape[1]} x {images.shape[2]}: expected {facts.size} x {facts.size}"
            )
        splits.append((images[:, None], labels))
    return splits


def _idx(name, files, dimensions):
    """An idx array of unsigned bytes: magic 0x0000 08 dd, then dd big-endian 32-bit sizes, then the bytes."""
    content = files[name]
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise UserError(
            f"{name}: starts with {content[:4].hex() or 'nothing'}: expected the idx magic 000008{dimensions:02x}"
        )
    shape = np.frombuffer(content[4:header], ">u4").tolist()
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise UserError(f"{name}: {len(content)} bytes, but its header promises {expected}: cut short? get it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


READERS = {
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "mnist": read_mnist,
    "fashion-mnist": read_mnist,
    "svhn": svhn.read,
    "tiny-imagenet": tiny_imagenet.read,
}
