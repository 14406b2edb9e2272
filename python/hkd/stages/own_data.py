"""Data sets of the user's own in a folder of runs: what their records say of them, where the images are not at hand."""

from pathlib import Path

from hkd.base.cli import UserError
from hkd.paper import datasets, own
from hkd.stages import records


def declare(record):
    """Declares the data sets of the user's own that a record speaks of, but for those that are known."""
    for facts in record.get("data_sets", []):
        if own.known(facts["name"]) is None:
            datasets.declare(facts)


def declare_all(runs):
    """The same of the runs under a folder: of each data set what its first readable record says. One that cannot be read is
    refused where it is used."""
    for folder in sorted(Path(runs).glob("*")):
        if folder.name in datasets.DATASETS:
            continue
        for path in sorted(folder.glob("*/*/record.json")):
            try:
                declare(records.read_record(path.parent))
            except UserError:
                continue
            if own.known(folder.name) is not None:
                break
