"""What a setting changes: the stages that were run with it and without it, beside each other."""

import shutil

import pytest

from conftest import ROOT, command
from hkd.stages import records

SHORT = ROOT / "results/measured/records/torch/mnist/scale0.015625-seed1"


def kept(folder, name, seed, engine="torch", change=(), add=0.0):
    """A kept record of MNIST's short runs as if it had another seed, engine, setting and accuracy."""
    key, value = change or ("", None)
    stage = f"{name}+{key}={value}" if change else name
    path = folder / f"records/{engine}/mnist/scale0.015625-seed{seed}" / stage
    shutil.copytree(SHORT / name, path)
    record = records.read_record(path)
    Pc = {**record["Pc"], "last": round(record["Pc"]["last"] + add, 6)}
    settings = {**record["settings"], **({key: value} if change else {})}
    made = {**record, "seed": seed, "engine": engine, "stage": stage, "settings": settings, "Pc": Pc}
    records.write_record(path, made)


@pytest.fixture
def table(tmp_path):
    """The lines of the table that is made of what lies in the folder `measured`."""

    def made():
        command("python/make_tables.py", "--measured", tmp_path / "measured", check=0)
        text = (tmp_path / "measured/open-choices.md").read_text()
        return [line for line in text.splitlines() if line.startswith("| mnist")]

    return made


def test_with_and_without_a_setting_seed_by_seed(tmp_path, table):
    folder, projection = tmp_path / "measured", ("shortcut", "projection")
    for seed, more, apart in ((1, 0.0, 0.5), (2, 0.3, 0.6), (3, -0.2, 0.7)):
        kept(folder, "r32-teacher", seed, add=more)
        kept(folder, "r32-teacher", seed, change=projection, add=more + apart)
    kept(folder, "r8-baseline-net1", 1, change=projection)  # without the setting it was not run
    (line,) = table()
    assert line.startswith(
        "| mnist-r32-r8 | 0.015625 | teacher | torch | shortcut=projection | 98.56; 98.86; 98.36 | 99.06; 99.46; 99.06 | "
        "+0.60 ± 0.10 | 3 |"
    )


def test_neither_another_engine_nor_what_the_setting_does_not_reach_is_compared(tmp_path, table):
    folder, projection = tmp_path / "measured", ("shortcut", "projection")
    kept(folder, "r32-teacher", 1, engine="torch-bf16")
    kept(folder, "r32-teacher", 1, change=projection)
    kept(folder, "r8-baseline-net1", 1)
    assert table() == []
