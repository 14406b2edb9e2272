"""Folders of runs, to be found and to be changed, and kept records as if there were more of them."""

import shutil

from conftest import ROOT
from hkd.stages import records

SHORT = ROOT / "results/measured/records/torch/mnist/scale0.015625-seed1"
"""MNIST's short runs, as they are kept with the project."""


def stage(runs, pattern, dataset="*"):
    """The folder of the one stage whose name fits the pattern."""
    (found,) = runs.glob(f"{dataset}/*/{pattern}")
    return found


def rewrite(folder, **changes):
    """A record with other content and a checksum that fits: what an honest run under other conditions would have left."""
    record = records.read_record(folder)
    records.write_record(folder, {**record, **changes})


def as_if(measured, name, seed, engine="torch", setting=None, add=0.0):
    """The stage `name` of SHORT in the folder `measured`, as if it had another seed, engine, setting (its name and value) and
    accuracy."""
    key, value = setting or ("", None)
    stage = f"{name}+{key}={value}" if setting else name
    folder = measured / f"records/{engine}/mnist/scale0.015625-seed{seed}" / stage
    shutil.copytree(SHORT / name, folder)
    record = records.read_record(folder)
    Pc = record["Pc"] and {**record["Pc"], "last": round(record["Pc"]["last"] + add, 6)}
    settings = {**record["settings"], **({key: value} if setting else {})}
    rewrite(folder, seed=seed, engine=engine, stage=stage, settings=settings, Pc=Pc)
