"""README.md and the page of each folder: their commands, and the blocks that a marker, `<!-- words -->`, names."""

import re

from conftest import ROOT

PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "python/README.md",
        "python/hkd/README.md",
        "python/hkd/paper/README.md",
        "data_tools/README.md",
        "docker/README.md",
        "python/hkd/without_pycaffe/README.md",
        "results/measured/README.md",
        "results/weights/README.md",
        "tests/README.md",
    )
}


def commands(text):
    """The commands of its fenced blocks of shell, in order, without comments."""
    lines = (line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines())
    return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


def marked(text, marker):
    """What stands below a marker: the inside of a fenced block, or the lines of a table."""
    (below,) = re.findall(rf"^<!-- {re.escape(marker)} -->\n(.*?)\n\n", text + "\n\n", re.DOTALL | re.MULTILINE)
    fenced = re.fullmatch(r"```\w*\n(.*?)\n?```", below, re.DOTALL)
    return fenced[1] if fenced else below
