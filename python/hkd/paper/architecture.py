"""The shape of a ResNet, and how a layer in it is named: depth, widths, residual modules."""

from dataclasses import dataclass

from hkd.base.cli import UserError
from hkd.paper import stated

DEEPEST, WIDEST = 1202, 1024


@dataclass(frozen=True)
class Architecture:
    """A ResNet of 6n+2 weighted layers whose three stacks are width, 2 width and 4 width channels wide."""

    depth: int
    width: int = stated.STACK_WIDTHS[0]

    def __post_init__(self):
        if self.depth < 8 or (self.depth - 2) % 6:
            raise UserError(f"depth {self.depth}: a CIFAR ResNet has 6n+2 layers: 8, 14, 20, 26, 32, ...")
        if self.depth > DEEPEST:
            raise UserError(f"depth {self.depth:,}: expected at most {DEEPEST:,}, the deepest of He et al.")
        if not 1 <= self.width <= WIDEST:
            raise UserError(f"width {self.width:,}: the first stack has 1 to {WIDEST:,} channels")

    @property
    def blocks(self):
        """Residual modules in each stack: n."""
        return (self.depth - 2) // 6

    @property
    def widths(self):
        """Channels of stacks 1, 2 and 3."""
        return (self.width, 2 * self.width, 4 * self.width)

    @property
    def modules(self):
        """The residual modules as (stack, block), both from 1, bottom up."""
        return [(stack, block) for stack in (1, 2, 3) for block in range(1, self.blocks + 1)]

    def end(self, stack):
        """The last module of a stack."""
        return (stack, self.blocks)

    @property
    def name(self):
        """r26, or r26w64 where the first stack has not 16 channels."""
        return f"r{self.depth}" + (f"w{self.width}" if self.width != stated.STACK_WIDTHS[0] else "")


ENDS = ("1.end", "2.end", "3.end")


def modules(key, places, architecture):
    """Places as --set takes them, '2.1' or '2.end', as modules of an architecture, rising."""
    found = []
    for place in places:
        stack, _, block = place.partition(".")
        module = (int(stack), architecture.blocks if block == "end" else int(block))
        if module not in architecture.modules:
            raise UserError(
                f"--set {key}={','.join(places)}: {place}: {architecture.name} has blocks 1 to {architecture.blocks}"
            )
        found.append(module)
    if sorted(set(found)) != found:
        raise UserError(f"--set {key}={','.join(places)}: expected three layers, each above the one before")
    return tuple(found)
