"""Every kind of stage by its name. A new kind is a file here with its record, and a line in this list."""

from hkd.base.cli import did_you_mean
from hkd.networks import fsp, hint, hint_dynamic, kd, plain
from hkd.paper.methods import METHODS

KINDS = {
    kind.name: kind
    for kind in (
        plain.TEACHER,
        plain.BASELINE,
        kd.KIND,
        hint.KIND,
        plain.FINETUNE,
        plain.GROW,
        fsp.KIND,
        hint_dynamic.KIND,
    )
}


def _refuse_unknown():
    """Raises UserError for a method whose stage is of no kind, when this is imported and not when it is trained."""
    for method, parts in METHODS.items():
        for part in parts:
            if part.kind not in KINDS:
                raise did_you_mean(part.kind, KINDS, f"kind of stage of method {method}")


_refuse_unknown()
