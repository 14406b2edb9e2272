"""Tables of the measured results in pages that people write.

Under a comment that names a kept file, `<!-- results/measured/table4.md: full length -->`, stands the table of that file whose title
ends in these words (without words: its only one), without the rows of which nothing was run.
"""

import re

from hkd.base.cli import UserError
from hkd.base.files import shown
from hkd.results.sheet import table_of_runs

MARKED = re.compile(
    r"^<!-- results/measured/(?P<name>[\w-]+)\.md(?:: (?P<words>[^>]+?))? -->\n(?P<table>(?:\|.*\n)*)", re.MULTILINE
)


def renewed(pages, sheets):
    """{page: text} of the files `pages` with their tables as `sheets` have them now. Raises UserError, naming the page, for one that
    cannot be read, and as `refreshed` does."""
    found = {}
    for page in pages:
        try:
            found[page] = refreshed(page.read_text(), sheets)
        except OSError as error:
            raise UserError(f"--pages {page}: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"{shown(page)}: {error}") from None
    return found


def refreshed(text, sheets):
    """The page `text` with its tables as `sheets`, {name: [Sheet]}, have them now. Raises UserError for a comment that names no table,
    or more than one."""
    return MARKED.sub(lambda found: _refreshed(found, sheets), text)


def _refreshed(found, sheets):
    name, words = found["name"], found["words"] or ""
    meant = [sheet for sheet in sheets.get(name, ()) if sheet.title.endswith(words)]
    if len(meant) != 1:
        titles = "; ".join(sheet.title for sheet in sheets.get(name, ())) or "nothing of it was run"
        raise UserError(f"{found[0].splitlines()[0]} names {len(meant)} tables: {name}.md has {titles}")
    return found[0].splitlines()[0] + "\n" + table_of_runs(*meant)
