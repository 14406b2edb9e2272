"""Arguments of make_tables.py that are wrong, or do not go together."""

import pytest

from conftest import MAKE, command, one_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table7"], ["unknown table or figure 'table7'", "did you mean"]),
        (["--engine", "theano"], ["unknown engine 'theano'"]),
        (["--scale", "2"], ["--scale 2.0"]),
        (["--set", "tua=3"], ["unknown setting 'tua'", "did you mean tau?"]),
        (["--experiment", "cifar11"], ["unknown experiment 'cifar11'"]),
        (["--runs", "/nonexistent"], ["/nonexistent is not there", "--runs"]),
        (["--cost", "--rate", "0"], ["--rate 0.0"]),
        (["--cost", "--nets", "4"], ["--nets 4"]),
        (["--colour"], ["--colour"]),
        (["--experiment", ""], ["--experiment ''"]),
        (["--check", "--cost"], ["--check and --cost do not go together"]),
        (["--check", "table1"], ["table1 does not go with --check", "--scale"]),
        (["--check", "--nets", "2"], ["--nets does not go with --check"]),
        (["--experiment", "cifar10-r14-r8", "table1"], ["table1 does not go with --experiment"]),
        (["table1", "--nets", "2"], ["--nets is of --cost"]),
        (["--rate", "2"], ["--rate is of --cost"]),
        (["--cost", "--jobs", "2"], ["--jobs", "--measure"]),
        (["--cost", "--seed", "2"], ["--seed does not go with --cost"]),
        (["--cost", "--measure", "--rate", "2"], ["--rate", "--measure"]),
    ],
)
def test_a_wrong_argument_is_one_line(words, said, tmp_path):
    (tmp_path / "runs").mkdir()
    where = [] if "--runs" in words else ["--runs", tmp_path / "runs"]
    one_line(command(MAKE, *words, *where, "--out", tmp_path / "out"), *said)


def test_what_is_measured_has_one_place(tmp_path):
    for words in (["--out", tmp_path], ["--scale", "1"], ["table1"]):
        one_line(command(MAKE, "--measured", tmp_path, *words), "does not go with --measured", words[0])
    one_line(command(MAKE, "--collect", tmp_path), "--collect is of --measured FOLDER")


def test_a_folder_that_is_not_used_is_a_note(tmp_path):
    done = command(MAKE, "--cost", "figure9", "--out", tmp_path, check=0)
    assert done.stderr == "note: --cost does not use --out\n"
