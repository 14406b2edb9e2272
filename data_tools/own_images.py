"""Images of the user's own as a data set: divided into training and test images, and these compared with each other."""

import hashlib
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import own_sources
import pictures
from content import Content
from gathered import Chosen, nameless
from hkd.base.cli import UserError, did_you_mean
from hkd.base.files import shown
from hkd.networks.solvers import LARGEST_TEST_BATCH, test_batch
from hkd.paper.datasets import DATASETS, Dataset, is_built, own_facts, read_written

TEST_SHARE = 0.1
PAIRS = 5  # of images that are in train and test, those that the manifest names
FEW, MANY = 10, 50  # images in a batch of a test
PADDED = 8  # the padding is this part of the side, as CIFAR's


@dataclass(frozen=True)
class How:
    """How the images are read: made grey or colour, made of one size; which share of each class is for the test. None: as they are;
    the share: as the source divides them."""

    colours: str | None = None
    resize: int | None = None
    test_share: float | None = None

    def on(self, divided):
        """The same where the source divides its images, or does not."""
        return replace(self, test_share=self.test_share if divided else self.test_share or TEST_SHARE)

    @property
    def words(self):
        """As the command line says it."""
        given = [f"--{self.colours}"] if self.colours else []
        given += [f"--resize {self.resize}"] if self.resize else []
        return " ".join([*given, *([f"--test-share {self.test_share:g}"] if self.test_share else [])]) or "none"


class Own:
    """A content.Origin: images that the user has in `source`, as data set `name`."""

    def __init__(self, name, source, how, seed):
        self.name, self.source, self._how, self._seed = name, source, how, seed

    def facts(self, out):
        if not is_built(out) or (written := read_written(out))["dataset"] != self.name:
            return None
        return Dataset(**own_facts(out, written), mean=True, title=self.name)

    def pad(self, facts):
        return facts.size // PADDED

    def refuse_other(self, out, manifest, written):
        if self.source is None:
            return
        way = "name another --out, or delete it"
        if written["source"] != str(Path(self.source).absolute()):
            raise UserError(f"{shown(out)} was built from {written['source']}, not {self.source}: {way}")
        before = How(**written["read"])
        now = self._how.on(divided=before.test_share is None)
        if before != now:
            raise UserError(f"{shown(out)} was built with the options {before.words}, not {now.words}: {way}")
        if Path(self.source).exists() and own_sources.find(self.source).digest != written["files_sha256"]:
            raise UserError(f"{shown(out)} was built from other images than are in {self.source} now: {way}")

    @contextmanager
    def read(self, folder, pad, quiet):
        if self.source is None:
            raise UserError(
                f"{did_you_mean(self.name, DATASETS, 'data set')}; of images of your own name a folder, a .csv or an LMDB with --source"
            )
        source = own_sources.find(self.source)
        if source.divided and self._how.test_share:
            raise UserError(
                f"--test-share {self._how.test_share:g}: {self.source} has test images of its own: leave it out"
            )
        with nameless(folder) as stream:
            read = source.read(self._how.colours, self._how.resize, stream, folder, quiet)
            yield self._content(source, read, read.gathered.images(stream), pad)

    def again(self, written):
        return Own(self.name, self.source or written["source"], How(**written["read"]), written["seed"])

    def _content(self, source, read, images, pad):
        how, labels = self._how.on(source.divided), np.array(read.labels, np.uint16)
        train, test = divided(read, labels, how.test_share, self._seed, self.source)
        channels, size, _ = read.gathered.shape
        pad = size // PADDED if pad is None else pad
        facts = Dataset(
            self.name, len(read.classes), channels, size, len(train), len(test), pad, mean=True, title=self.name
        )
        said = {
            "class_names": list(read.classes),
            "read": asdict(how),
            "files_sha256": source.digest,
            "passed_over": source.passed_over,
            "in_train_and_test": in_both(read, train, test),
            "decoder": pictures.decoder(),
        }
        tell(facts, said, how, labels[test])
        sets = [(Chosen(images, places), labels[places]) for places in (train, test)]
        return Content(
            facts, *sets, read.channels, str(Path(self.source).absolute()), read.gathered.sha256, False, said
        )


def divided(read, labels, share, seed, where):
    """(places of the training images, of the test images), each in the order of the source. share: of each class, at least one
    image, None where the source says the split. Raises UserError for a class that has no training image."""
    if share is None:
        testing = np.array([split == "test" for split in read.splits])
    else:
        testing = np.zeros(len(labels), bool)
        for number, name in enumerate(read.classes):
            (places,) = np.nonzero(labels == number)
            # By the name, so that a class more leaves the others as they were.
            drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
            count = max(1, round(share * len(places))) if len(places) else 0
            testing[np.random.default_rng([seed, drawn]).permutation(places)[:count]] = True
    counts = np.bincount(labels[~testing], minlength=len(read.classes))
    if not counts.all():
        name = read.classes[int(np.argmin(counts))]
        raise UserError(
            f"{where}: class {name} has no training image: expected at least one of each class"
            + (f" beside those for the test ({share:g} of each class)" if share else "")
        )
    if not testing.any():
        raise UserError(f"{where}: no test images: expected at least one")
    return np.nonzero(~testing)[0], np.nonzero(testing)[0]


def in_both(read, train, test):
    """What the manifest says of test images whose very pixels are a training image's too: how many, and the first pairs."""
    first = {}
    for place in train.tolist():
        first.setdefault(read.gathered.digests[place], place)
    found = [(first[digest], place) for place in test.tolist() if (digest := read.gathered.digests[place]) in first]
    return {"test_images": len(found), "first": [[read.names[a], read.names[b]] for a, b in found[:PAIRS]]}


def slow_test(images):
    """What is to be said of a number of test images that only small batches divide, or None: a test sees each of them once."""
    batch = test_batch(images)
    if batch >= FEW or images <= LARGEST_TEST_BATCH:
        return None
    fewer = next(n for n in range(1, LARGEST_TEST_BATCH) if test_batch(images - n) >= MANY)
    return f"{images:,} test images divide into batches of {batch} alone, which is slow: leave out {fewer} of them"


def tell(facts, said, how, test_labels):
    """Says on the terminal what was decided, and what is odd."""
    kind = "colour" if facts.channels == 3 else "grey"
    share = f"; {how.test_share:g} of each class for the test" if how.test_share else ""
    over = f"; {said['passed_over']:,} other files passed over" if said["passed_over"] else ""
    print(
        f"{facts.name}: {facts.classes:,} classes, {kind}, {facts.size} x {facts.size} pixels{share}{over}", flush=True
    )
    notes = []
    both = said["in_train_and_test"]
    if both["test_images"]:
        pair = " and ".join(both["first"][0])
        notes.append(f"{both['test_images']:,} test images are training images too, pixel by pixel; the first: {pair}")
    if untested := set(range(facts.classes)) - set(test_labels.tolist()):
        notes.append(f"{len(untested):,} classes have no test image, the first: {said['class_names'][min(untested)]}")
    if slow := slow_test(facts.test_images):
        notes.append(slow)
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
