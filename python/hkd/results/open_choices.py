"""What was run with one setting otherwise than the paper has it, or than we read it, beside the same with none: which open choices
matter."""

from collections import defaultdict

from hkd.paper.settings import number_text
from hkd.results import significance
from hkd.results.differences import comparable, net_by_net
from hkd.results.lines import NETS, line_of, seeds_text
from hkd.results.rows import TITLES, rows_of
from hkd.results.sheet import sheet_of
from hkd.results.significance import p_text
from hkd.stages import records

OWN_TABLES = ("kd_tau_squared", "sl_fc")
"""Settings that ablations.py has a table of."""


def open_choices(kept):
    """A row for each setting, method and engine that were run both ways at one scale, with the same seeds, as a Sheet."""
    found = [
        (change, scale, *both)
        for (change, scale), seeds in _changes(kept.folder).items()
        for both in _both_ways(kept, scale, seeds, change)
    ]
    ps = [significance.student(_values(changed), _values(plain)) for *_, plain, changed in found]
    rows = [
        (*_cells(*both), p_text(p), p_text(p_holm))
        for both, p, p_holm in zip(found, ps, significance.holm(ps), strict=True)
    ]
    return sheet_of(
        "One setting otherwise",
        (
            "experiment", "scale", "method", "engine", "--set", "Pc (%), without it", "Pc (%), with it",
            "difference, paired ± sd", "n", "p", "p, Holm",
        ),
        rows,
        "Nets of a seed with commas, seeds with semicolons. Difference: with the setting less without it, net by net and seed by seed. "
        "p: two-sided Student's t-test with one variance for both; p, Holm: corrected for all tests of this table. "
        f"{significance.sign_flip_bound(NETS)}",
    )  # fmt: skip


def _cells(change, scale, plain, changed):
    """The columns of a row up to its tests."""
    both = zip(changed, plain, strict=True)
    apart = significance.paired([pair for one, other in both for pair in net_by_net(one, other)])
    row = plain[0].row
    return (
        row.experiment, number_text(scale), row.heading, plain[0].engine, change, seeds_text(plain), seeds_text(changed),
        apart.text(2), str(apart.n),
    )  # fmt: skip


def _changes(folder):
    """{(setting, scale): seeds} of kept stages with one setting changed, as --set takes it, but for those of OWN_TABLES."""
    found = defaultdict(set)
    for path in sorted(folder.glob("*/*/*/*+*/record.json")):
        _, *changes = path.parent.name.split("+")
        if len(changes) == 1 and not changes[0].startswith(OWN_TABLES):
            record = records.read_record(path.parent)
            found[changes[0], record["scale"]].add(record["seed"])
    return found


def _both_ways(kept, scale, seeds, change):
    """[(Lines without the change, Lines with it)], a Line a seed, of every method that was run both ways by one engine."""
    found = defaultdict(lambda: ([], []))
    for seed in sorted(seeds):
        without, changed = (kept.view((scale, seed), *changes).runs for changes in ((), (change,)))
        for row in rows_of(*TITLES):
            plain, other = line_of(without, row), line_of(changed, row)
            if not (plain.done and other.done) or plain.done[0].folder == other.done[0].folder:
                continue  # not run both ways, or the setting does not reach it
            if comparable(plain, other):
                found[row, plain.engine][0].append(plain)
                found[row, plain.engine][1].append(other)
    return found.values()


def _values(lines):
    return [value for line in lines for value in line.values()]
