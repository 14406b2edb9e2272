"""The methods of one experiment side by side, whether or not a paper has them in one table."""

from hkd.paper import experiments
from hkd.paper.settings import number_text
from hkd.results import targets
from hkd.results.lines import NETS, Line
from hkd.results.rows import PROPOSED, TITLES, Row
from hkd.results.sheet import Sheet, mean_sd, number, titled
from hkd.results.tables import elsewhere

ALWAYS = ("", "baseline", "kd", PROPOSED)  # the other methods have a row once they were run


def lines(experiment, runs, methods=()):
    """The Lines of the methods of one experiment from `runs` (runs.Runs): of those that are ALWAYS there, and of others that were run.
    methods: of these, the teacher and the student alone."""
    found = []
    for method, title in TITLES.items():
        if methods and method not in ("", "baseline", *methods):
            continue
        reported = targets.reported_pc(experiment, method)
        row = Row(title, experiment, method, (), reported)
        line = Line(row, tuple(runs.cell(title, row.stages(NETS))), "Pc")
        if line.done or method in methods or (method in ALWAYS and not targets.why_not(experiment, method)):
            found.append(line)
    return found


def heading(experiment, found):
    """The title of the table, and what it has to say of its length or ''."""
    e = experiments.experiment(experiment)
    scales = dict.fromkeys(run.condition.scale for line in found for run in line.done if run.condition.scale != 1)
    transferred = f", teacher of {e.teacher_facts.title}" if e.teacher_dataset else ""
    words = f"every number of iterations x {' and '.join(map(number_text, scales))}: not comparable with the paper's"
    return f"{e.facts.title}, {e.teacher.depth} -> {e.student.depth} layers{transferred}", words if scales else ""


def sheet(experiment, found, words=""):
    """Its Lines as a Sheet; words: what its title says of its length. A dash stands where nothing was run or reported."""
    e = experiments.experiment(experiment)
    rows = []
    for line in found:
        rows.append((
            line.short_heading,
            e.student.depth if line.row.method else e.teacher.depth,
            f"{line.net_iterations:,}" if line.done else None,
            mean_sd(line.values()),
            mean_sd(line.values("best")),
            len(line.done) or None,
            number(line.row.reported_mean, 2),
        ))  # fmt: skip
    heads = ("method", "layers", "iterations", "Pc last (%)", "Pc best (%)", "n", "paper (%)")
    title, length = heading(experiment, found)
    whole = titled(title, words) if words else ", ".join(filter(None, (title, length)))
    return Sheet(whole, heads, tuple(rows), tuple(elsewhere(found)))
