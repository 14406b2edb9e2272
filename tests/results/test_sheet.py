"""A table written as Markdown, CSV and HTML, and the statistics that stand in it."""

import csv
import io

import pytest

from hkd.results import significance
from hkd.results.sheet import Sheet, as_csv, html, markdown

SCRIPT = "<script>alert(1)</script>"
SHEET = Sheet(
    "a < b", ("method", "Pc (%)"), (("x > y", 0.5), (SCRIPT, None), ("a | b", "![x](y)")), ("p < 0.05", SCRIPT)
)


def test_markdown():
    rows = markdown(SHEET).splitlines()
    assert rows[0] == "### a < b" and rows[2:5] == ["| method | Pc (%) |", "| --- | --- |", "| x > y | 0.5 |"]
    assert rows[5] == "| &lt;script>alert(1)&lt;/script> | - |" and rows[6] == r"| a \| b | !\[x](y) |"
    assert rows[8] == "p < 0.05" and rows[10].startswith("&lt;script>")


def test_pages_of_several():
    assert markdown(SHEET, SHEET) == f"{markdown(SHEET)}\n{markdown(SHEET)}"
    assert markdown(Sheet("nothing", ("a",), (), ("Not run.",))) == "### nothing\n\nNot run.\n"


def test_csv_has_the_cells_as_they_are():
    assert list(csv.reader(io.StringIO(as_csv(SHEET)))) == [
        ["method", "Pc (%)"],
        ["x > y", "0.5"],
        [SCRIPT, ""],
        ["a | b", "![x](y)"],
    ]


def test_html_escapes_every_cell():
    page = html(SHEET)
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert '<th scope="row">x &gt; y</th><td>0.5</td>' in page and "<td>-</td>" in page
    assert page.count("<p>") == 2 and "<caption>a &lt; b</caption>" in page


@pytest.mark.parametrize(
    ("ps", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # as R's p.adjust(p, "holm")
        ([0.5, None, 0.6], [1.0, None, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm(ps, corrected):
    assert significance.holm(ps) == pytest.approx(corrected)


def test_no_p_value_is_said_to_be_0_or_1():
    said = {0.0004: "< 0.001", 0.0006: "0.001", 0.05: "0.050", 0.9994: "0.999", 0.9996: "> 0.999", None: ""}
    assert {p: significance.p_text(p) for p in said} == said


def test_a_difference_net_by_net():
    found = significance.paired([(3, 1), (5, 2), (4, 3)])
    assert (found.mean, found.sd, found.n) == (2, 1, 3) and found.text(2) == "+2.00 ± 1.00"
    assert significance.paired([(1, 2)]).text(1) == "-1.0" and significance.paired([]) is None


def test_what_so_few_pairs_cannot_show():
    """Of the 2 ** 3 ways to give three differences their signs one is the one that was seen."""
    assert "With 3 pairs" in significance.sign_flip_bound(
        3
    ) and "below 0.125 one-sided (0.25" in significance.sign_flip_bound(3)
