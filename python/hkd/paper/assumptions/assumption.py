"""The record of one thing that a paper leaves open."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumption:
    """A question that a paper does not answer, what is chosen here, and why. change: how to choose otherwise, as it is typed, or the
    file where it is written."""

    question: str
    choice: str
    why: str
    change: str
