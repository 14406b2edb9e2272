"""A method is a list of stages, as data. The teacher is not in the list: it is trained once and serves every method."""

from dataclasses import dataclass

from hkd.cli import UserError, did_you_mean


@dataclass(frozen=True)
class Part:
    """One stage of a method. kind: the network that it trains; `after`: the part whose student it starts from (an index
    into the method, None: random weights); `shared`: one run serves nets 1 to 3, as the papers' hint stages do.
    """

    kind: str
    step: int = 0
    after: int | None = None
    shared: bool = False

    @property
    def name(self):
        return f"{self.kind}{self.step}" if self.step else self.kind

    @property
    def needs_teacher(self):
        return self.kind in ("hint", "kd")


METHODS = {
    # The student alone.
    "baseline": (Part("baseline"),),
    # Equation (2) from random weights: knowledge distillation without hints.
    "kd": (Part("kd"),),
    # The proposed method (equations 5 and 6): each step starts from the one before, then equation (2).
    "layerwise": (
        Part("hint", 1, shared=True),
        Part("hint", 2, after=0, shared=True),
        Part("hint", 3, after=1, shared=True),
        Part("kd", after=2),
    ),
}
DEFAULT = "layerwise"


def find(method, kind, step):
    """The index of the part of `method` that `--stage kind --step step` means. step None: the last one of that kind."""
    if method not in METHODS:
        raise did_you_mean(method, METHODS, "method")
    parts = METHODS[method]
    steps = [part.step for part in parts if part.kind == kind]
    if not steps:
        known = ", ".join(dict.fromkeys(part.kind for part in parts))
        raise UserError(f"method {method} has no stage {kind}: its stages are {known} (choose another with --method)")
    if steps == [0]:
        if step is not None:
            raise UserError(f"--step {step}: stage {kind} has no steps, leave --step out")
        step = 0
    elif step is None:
        step = steps[-1]
    elif step not in steps:
        raise UserError(f"--step {step}: method {method} has steps {steps[0]} to {steps[-1]}")
    return next(i for i, part in enumerate(parts) if (part.kind, part.step) == (kind, step))
