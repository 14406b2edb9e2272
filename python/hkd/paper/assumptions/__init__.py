"""What the papers leave open: each choice, its reason, and how to change it, one file a paper (etri, fsp, dense_flow, hint_dynamic) and one
of data sets (data_sets), each a list of Assumptions (assumption). README.md of the room shows them as one (a test compares)."""

from hkd.paper.assumptions import data_sets, dense_flow, etri, fsp, hint_dynamic

ASSUMPTIONS = (
    *etri.ASSUMPTIONS,
    *fsp.ASSUMPTIONS,
    *dense_flow.ASSUMPTIONS,
    *hint_dynamic.ASSUMPTIONS,
    *data_sets.ASSUMPTIONS,
)


def markdown():
    """The list as README.md shows it."""
    rows = [f"| {a.question} | {a.choice} | {a.why} | `{a.change}` |" for a in ASSUMPTIONS]
    return "\n".join(["| open question | choice | why | to change it |", "|---|---|---|---|", *rows]) + "\n"
