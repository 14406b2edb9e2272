"""What a data set is built from: where it comes from (Origin: an official archive, or images of the user's own) and what was read
there (Content)."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from hkd.paper.datasets import Dataset


@dataclass(frozen=True)
class Content:
    """facts: of the data set; train, test: (images N x C x H x W, labels N), images read by length, shape and one at a time; channels:
    their names; source: where it was read; sha256: of that; official: whether it is what its authors published; said: what else the
    manifest is to say."""

    facts: Dataset
    train: tuple[Any, Any]
    test: tuple[Any, Any]
    channels: tuple[str, ...]
    source: str
    sha256: str
    official: bool
    said: dict = field(default_factory=dict)


class Origin(Protocol):
    """Where a data set comes from."""

    name: str
    source: Any  # as it was given, None where it was not

    def facts(self, out):
        """The Dataset, as far as it is known before anything is read: of what stands in `out`, or None."""

    def pad(self, facts):
        """The padding of training images where none is asked for."""

    def refuse_other(self, out, manifest, written):
        """Raises UserError where what stands in `out` was built from something else. manifest, written: its manifest, read."""

    def read(self, folder, pad, quiet):
        """A context manager that gives the Content, as long as it is entered; what it needs on the disk lies in `folder`. pad: as
        asked for, or None. Raises UserError for bad input."""

    def again(self, written):
        """The Origin that the index of what stands is made from, and checked against."""
