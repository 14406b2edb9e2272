"""Data sets of the user's own in folders of runs: what their records say of them, where the images are not at hand."""

from pathlib import Path

from hkd.base.cli import UserError
from hkd.paper import datasets, own_datasets
from hkd.stages import records


def declare(record):
    """Declares the data sets of the user's own that a record speaks of, but for those that are known."""
    for facts in record.get("data_sets", []):
        if own_datasets.known(facts["name"]) is None:
            datasets.declare(facts)


def declare_under(runs):
    """Declares the data sets of the user's own that something under a folder of runs was trained on, as far as it can be read."""
    declare_all(path.parent for path in sorted(Path(runs).glob("*/*/*/record.json")))


def declare_all(folders):
    """The same of the stages in `folders`; a damaged record is refused where it is used. Returns the names of the
    experiments on such data sets, in order."""
    found = set()
    for folder in folders:
        if folder.parent.parent.name in datasets.DATASETS:
            continue
        try:
            record = records.read_record(folder) or {}
        except UserError:
            continue
        declare(record)
        found |= {record["experiment"]} if record.get("data_sets") else set()
    return tuple(sorted(found))
