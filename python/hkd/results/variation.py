"""How much of the spread of a result is that of the nets, and how much of what all nets of one seed share: teacher and stage 1.

An analysis of variance with one random factor, the seed: net k of seed s ends at mean + seed_s + net_sk.
"""

import statistics
from collections import defaultdict
from dataclasses import dataclass

from hkd.paper.methods import METHODS
from hkd.paper.settings import number_text
from hkd.results.lines import line_of, seeds_text
from hkd.results.rows import rows_of
from hkd.results.sheet import DASH, sheet_of
from hkd.results.significance import of_f, p_text
from hkd.stages.stage import TEACHER, lineage


@dataclass(frozen=True)
class Variation:
    """Of groups of numbers: the variance inside a group, the variance that the groups add (0 where it is estimated below), F with its
    p (None without any spread)."""

    inside: float
    between: float
    F: float | None
    p: float | None

    @property
    def share(self):
        """The groups' share of the variance of one number, 0 to 1; None without any spread."""
        whole = self.inside + self.between
        return self.between / whole if whole else None


def analysed(groups):
    """The Variation of [[number]]; None of fewer than two groups with two numbers each. Groups may differ in size (Searle, Casella,
    McCulloch: Variance Components, 1992, chapter 3)."""
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 2:
        return None
    sizes = [len(group) for group in groups]
    total, count = sum(sizes), len(groups)
    mean = sum(map(sum, groups)) / total
    inside = sum((len(group) - 1) * statistics.variance(group) for group in groups) / (total - count)
    between = sum(len(group) * (statistics.mean(group) - mean) ** 2 for group in groups) / (count - 1)
    size = (total - sum(n * n for n in sizes) / total) / (count - 1)
    F = between / inside if inside else None
    p = None if F is None else of_f(F, count - 1, total - count)
    return Variation(inside, max(0.0, (between - inside) / size), F, p)


def variation(kept):
    """The methods that were run with several seeds at one scale, as a Sheet."""
    seeds = defaultdict(list)
    for scale, seed in kept.lengths:
        seeds[scale].append(seed)
    rows = []
    for scale, several in seeds.items():
        for row in rows_of(*METHODS) if len(several) > 1 else ():
            for engine, lines in _of_each_engine(kept, scale, several, row).items():
                found = analysed([line.values() for line in lines])
                if found:
                    cells = _cells(lines, found)
                    rows.append((row.experiment, number_text(scale), row.heading, engine, _shared(row), *cells))
    return sheet_of(
        "Nets and seeds: an analysis of variance",
        (
            "experiment",
            "scale",
            "method",
            "engine",
            "what the nets of a seed share",
            "Pc (%), nets of each seed",
            "sd of the nets",
            "sd of the seeds",
            "share of the seeds",
            "F",
            "p",
        ),
        rows,
        "One factor, the seed, taken as random. sd of the nets: inside a seed, of all seeds together; sd of the seeds: what they add to "
        "it, 0 where the means of the seeds differ by no more than those of so few nets do. Share: of the variance of one net of one seed. "
        "Where the nets of a seed share a teacher alone, the seeds' part is the teacher's; where they share stage 1 too, it is both.",
    )


def _of_each_engine(kept, scale, seeds, row):
    """{engine: [the Line of each seed]}: seeds of two engines would say something of these too."""
    found = defaultdict(list)
    for seed in seeds:
        line = line_of(kept.view((scale, seed)).runs, row)
        if line.done:
            found[line.engine].append(line)
    return found


def _cells(lines, found):
    share = DASH if found.share is None else f"{found.share:.0%}"
    F = DASH if found.F is None else f"{found.F:.2f}"
    return seeds_text(lines), f"{found.inside**0.5:.2f}", f"{found.between**0.5:.2f}", share, F, p_text(found.p)


def _shared(row):
    """What all nets of one seed start from."""
    *before, _ = lineage(row.stages(1)[0])
    shared = [stage for stage in before if not stage.net]
    words = ["teacher"] * any(stage.part is TEACHER for stage in shared)
    words += ["stage 1"] * any(stage.part is not TEACHER for stage in shared)
    return " and ".join(words) or "nothing"
