"""What a setting changes: the stages that were run with it and without it, beside each other."""

import pytest

from conftest import MAKE, command
from run_folders import as_if


@pytest.fixture
def table(tmp_path):
    """The lines of the table that is made of what lies in the folder `measured`."""

    def made():
        command(MAKE, "--measured", tmp_path / "measured", check=0)
        text = (tmp_path / "measured/open-choices.md").read_text()
        return [line for line in text.splitlines() if line.startswith("| mnist")]

    return made


def test_with_and_without_a_setting_seed_by_seed(tmp_path, table):
    folder, projection = tmp_path / "measured", ("shortcut", "projection")
    for seed, more, apart in ((1, 0.0, 0.5), (2, 0.3, 0.6), (3, -0.2, 0.7)):
        as_if(folder, "r32-teacher", seed, add=more)
        as_if(folder, "r32-teacher", seed, setting=projection, add=more + apart)
    as_if(folder, "r8-baseline-net1", 1, setting=projection)  # without the setting it was not run
    (line,) = table()
    assert line.startswith(
        "| mnist-r32-r8 | 0.015625 | teacher | torch | shortcut=projection | 98.56; 98.86; 98.36 | 99.06; 99.46; 99.06 | "
        "+0.60 ± 0.10 | 3 |"
    )


def test_neither_another_engine_nor_what_the_setting_does_not_reach_is_compared(tmp_path, table):
    folder, projection = tmp_path / "measured", ("shortcut", "projection")
    as_if(folder, "r32-teacher", 1, engine="torch-bf16")
    as_if(folder, "r32-teacher", 1, setting=projection)
    as_if(folder, "r8-baseline-net1", 1)
    assert table() == []
