"""A table before it is written: Markdown for pages, CSV for programs and HTML for the report come from it alone, so that nothing
is read back from a text that was made for people."""

import csv
import io
import re
import statistics
from dataclasses import dataclass

from markupsafe import Markup

DASH = "-"


@dataclass(frozen=True)
class Sheet:
    """title: may be empty; heads: of the columns; rows: of cells, each a text, a number or None for what there is not; foot: the
    paragraphs below; not_run: the places of the rows of which nothing was run."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple, ...]
    foot: tuple[str, ...] = ()
    not_run: frozenset[int] = frozenset()


def sheet_of(title, heads, rows, below):
    """A Sheet with the paragraph `below` it, or without any row with a word that nothing was run."""
    return Sheet(title, heads, tuple(rows), (below if rows else "Nothing of it was run.",))


def titled(title, words):
    """The title of a sheet, with `words` on what it is made of where there are any."""
    return f"{title}: {words}" if words else title


def number(value, digits, sign=""):
    """A cell of a number with so many decimals; sign: "+" to have one always; empty for None."""
    return "" if value is None else f"{value:{sign}.{digits}f}"


def mean_sd(values, digits=2):
    """A cell of mean ± standard deviation, of the mean alone where there is one value, of a dash without any."""
    if not values:
        return DASH
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def markdown(*sheets):
    """Sheets as a Markdown page, each under its title."""
    return "\n".join(map(_markdown, sheets))


def _markdown(sheet):
    lines = [f"### {_escaped(sheet.title)}", ""] if sheet.title else []
    if sheet.rows:
        lines += [*_table(sheet, sheet.rows), ""]
    for paragraph in sheet.foot:
        lines += [_escaped(paragraph), ""]
    return "\n".join(lines)


def table_of_runs(sheet):
    """A sheet's table as Markdown, without title and foot, and without the rows of which nothing was run."""
    run = [row for place, row in enumerate(sheet.rows) if place not in sheet.not_run]
    return "".join(f"{line}\n" for line in _table(sheet, run))


def _table(sheet, rows):
    cells = [[_escaped(_text(cell)) for cell in row] for row in rows]
    heads = list(map(_escaped, sheet.heads))
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *cells)]


def as_csv(*sheets):
    """Sheets of the same heads below each other: the cells unrounded under their heads; nothing where there is none. Title and foot are not in it."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([sheets[0].heads, *(row for one in sheets for row in one.rows)])
    return stream.getvalue()


def html(sheet):
    """A table that scrolls by itself where the screen is narrow, and the foot below it."""
    row = Markup('<tr><th scope="row">{}</th>{}</tr>\n')
    cell, head, paragraph = Markup("<td>{}</td>"), Markup('<th scope="col">{}</th>'), Markup("<p>{}</p>\n")
    none = Markup("")
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n<table>\n<caption>{title}</caption>\n'
        "<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n{foot}"
    ).format(
        title=sheet.title,
        heads=none.join(map(head.format, sheet.heads)),
        rows=none.join(
            row.format(_text(first), none.join(cell.format(_text(other)) for other in others))
            for first, *others in sheet.rows
        ),
        foot=none.join(map(paragraph.format, sheet.foot)),
    )


def _text(cell):
    return DASH if cell is None or cell == "" else str(cell)


def _escaped(text):
    """Text as Markdown shows it: what comes from a record must open no tag, no link and no column of its own."""
    text = re.sub(r"&(?=[#\w])", "&amp;", " ".join(text.split()))
    return re.sub(r"<(?=[^\s=])", "&lt;", text).replace("|", "\\|").replace("[", "\\[")
