"""An experiment of the user's own in a TOML file: the same as its pair with --set, wherever an experiment is named."""

import csv
import json
import re
import shutil

import pytest

from conftest import ROOT, RUN, command, one_line, snakemake
from hkd.base.cli import UserError
from hkd.paper import experiment_file, experiments
from hkd.paper.experiment_file import ExperimentFile
from hkd.results import targets
from hkd.stages import records
from hkd.stages.stage import planned
from pages import PAGES, commands, marked

EXAMPLE = marked(PAGES["python/README.md"], "an experiment in a file")
MINE = """
name = "mine"
dataset = "cifar10"
teacher = "r14"
student = "r8"
methods = ["kd"]

[settings]
batch = 16
kd.max_iter = 96000
kd.stepvalue = [40000]
"""


def written(folder, text=MINE, name="mine.toml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_example_of_the_page(tmp_path):
    found = experiment_file.read(written(tmp_path, EXAMPLE))
    settings = ("lambda_kd=3", "kd.stepvalue=16000,24000", "kd.max_iter=32000")
    assert found == ExperimentFile("wide-teacher", "cifar10-r20w32-r8", settings, ("kd", "layerwise"))
    chosen = experiments.experiment(found.experiment, found.settings)
    assert (chosen.lambda_kd, chosen.teacher.width, chosen.regressed_pairs) == (3, 32, [1, 2, 3])
    stage = planned(chosen, "layerwise", "kd")
    assert stage.iterations == 32_000 and "+lambda_kd=3" in stage.name and stage.schedule.stepvalue == (16_000, 24_000)


@pytest.mark.parametrize("line", [line for line in commands(PAGES["python/README.md"]) if "mine.toml" in line])
def test_the_commands_of_the_page(line, tmp_path):
    path = written(tmp_path, EXAMPLE)
    words = [str(path) if word == "mine.toml" else word for word in line.replace("=mine.toml", f"={path}").split()]
    if words[0] == "snakemake":
        done = snakemake("-n", *words[3:4], config=words[5:], check=0)
        assert "r20w32-r8-layerwise-kd" in done.stdout + done.stderr
    elif RUN in words:
        assert "r20w32-r8-layerwise-hint3" in command(*words[1:], "--dry-run", check=0).stdout
    else:
        (tmp_path / "runs").mkdir()
        one_line(command(*words[1:], "--runs", tmp_path / "runs"), "no finished stage")


def test_from_a_file_to_a_table(colour, tmp_path):
    """Every command takes it, and what it makes is what --set makes."""
    path = written(tmp_path)
    data = tmp_path / "data/cifar10"
    data.parent.mkdir()
    data.symlink_to(colour)
    where = (f"data={data.parent}", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}", "nets=1", "scale=0.00003")
    snakemake("mine", config=(f"experiments={path}", *where), check=0)
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "out/mine.csv").open())}
    assert set(rows) == {"teacher", "baseline", "kd"} and all(row["n"] == "1" for row in rows.values())
    stage = tmp_path / "runs/cifar10/scale3e-05-seed1/r14-r8-kd-net1+batch=16+kd.max_iter=96000"
    record = records.read_record(stage)
    assert record["experiment"] == "cifar10-r14-r8" and record["iterations"] == 3
    words = ("--set", "batch=16", "--set", "kd.max_iter=96000", "--set", "kd.stepvalue=40000", "--scale", "0.00003")
    run = ("--stage", "kd", "--method", "kd", "--data", data, "--runs", tmp_path / "runs", "--scale", "0.00003")
    done = command(RUN, "--experiment", "cifar10-r14-r8", *words, *run[:-2], check=0)
    assert done.stdout.count("finished, used again") == 2 and "iteration" not in done.stdout.split("used again")[-1]
    done = command(RUN, "--experiment", path, *run, check=0)
    assert done.stdout.count("finished, used again") == 2
    command(RUN, "--status", "--experiment", path, "--runs", tmp_path / "runs", check=0)
    table = ("--experiment", path, "--runs", tmp_path / "runs", "--out", tmp_path / "table")
    assert "| KD without hints" in command("python/make_tables.py", *table, check=0).stdout
    path.write_text(MINE.replace("96000", "64000"))  # an edited file makes new stages beside the old
    assert "r14-r8-kd-net1" in command(RUN, "--experiment", path, *run, "--dry-run", check=0).stdout
    shutil.rmtree(tmp_path / "runs/cifar10/scale3e-05-seed1/r8-baseline-net1+batch=16")
    assert json.loads((stage / "record.json").read_text())["settings"]["kd.max_iter"] == 96_000


def test_what_the_command_line_sets_comes_after(tmp_path):
    found = experiment_file.named(written(tmp_path), ["batch=32"])
    assert experiments.experiment(found.experiment, found.settings).batch == 32


def test_a_teacher_of_another_data_set(tmp_path):
    text = MINE.replace('dataset = "cifar10"', 'dataset = "cifar10"\nteacher_dataset = "cifar100"')
    found = experiment_file.read(written(tmp_path, text.partition("[settings]")[0]))
    assert experiments.named(found.experiment).teacher_dataset == "cifar100"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', "name = mine", "no TOML"),
        ('name = "mine"', "", "'name' is a required property"),
        ('name = "mine"', "name = 3", "name: 3 must be string"),
        ('name = "mine"', 'name = "../mine"', "small letters"),
        ('name = "mine"', 'name = "cifar10-r14-r8"', "is an experiment's already"),
        ('dataset = "cifar10"', 'dataset = "cifar11"', "did you mean cifar10?"),
        ('dataset = "cifar10"', 'datasett = "cifar10"', "unknown key 'datasett': did you mean dataset?"),
        ('teacher = "r14"', 'teacher = "r15"', "6n+2"),
        ('teacher = "r14"', "teacher = 14", "teacher: 14 must be string"),
        ('teacher = "r14"', 'teacher = "14 layers"', "r20w32"),
        ('student = "r8"', 'student = "r8w99999"', "width"),
        ('["kd"]', '["kdd"]', "did you mean kd?"),
        ('["kd"]', "[]", "methods"),
        ('["kd"]', '["kd", "kd"]', "methods"),
        ("batch = 16", "batch = -1", "batch"),
        ("batch = 16", "bach = 16", "did you mean batch?"),
        ("batch = 16", 'batch = "many"', "batch"),
        ("batch = 16", "batch = [[1]]", "settings"),
        ("batch = 16", "batch = 2020-01-01", "settings.batch: expected a number, a text, true or false"),
        ('name = "mine"', f'name = "{"a" * 41}"', "at most 40"),
        ("kd.max_iter = 96000", "kdd.max_iter = 96000", "unknown setting 'kdd.max_iter'"),
        ("kd.stepvalue = [40000]", "kd.stepvalue = [40000", "no TOML"),
        ("kd.stepvalue = [40000]", 'run = "rm"', "run"),
    ],
)
def test_what_no_experiment_is_is_one_line(old, new, said, tmp_path):
    assert old in MINE
    path = written(tmp_path, MINE.replace(old, new))
    with pytest.raises(UserError) as error:
        experiment_file.read(path)
    assert str(path) in str(error.value) and said in str(error.value), error.value


def test_a_byte_order_mark_is_passed_over(tmp_path):
    assert experiment_file.read(written(tmp_path, b"\xef\xbb\xbf" + MINE.encode())).name == "mine"


def test_a_stage_is_of_one_of_its_methods(tmp_path):
    """Not of the proposed method, where the file does not name it."""
    path = written(tmp_path)
    assert "r14-r8-kd-net1" in (said := command(RUN, "--experiment", path, "--dry-run", check=0).stdout)
    assert "layerwise" not in said
    both = experiment_file.read(written(tmp_path, MINE.replace('["kd"]', '["kd", "layerwise"]'), "both.toml"))
    assert [both.default_method(kind) for kind in ("kd", "hint", "baseline")] == ["layerwise", "layerwise", "baseline"]
    one_line(command(RUN, "--experiment", path, "--stage", "fsp", "--dry-run"), path, "no stage fsp", "methods, kd")
    assert "r14-teacher" in command(RUN, "--experiment", path, "--stage", "teacher", "--dry-run", check=0).stdout


def test_every_rule_of_the_snakefile_is_among_the_names_that_are_taken():
    named = re.findall(r"^ *(?:rule (\w+):|name: \"([\w-]+)\")", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    rules = {one or other for one, other in named}
    assert {"tables", "dataset"} <= rules <= set(targets.RULES)


@pytest.mark.parametrize("name", ["table1", "tables", "report", "all-methods", "kd", "dataset"])
def test_a_name_of_something_else_that_is_made(name, tmp_path):
    """In Snakemake a second rule of that name, in make_tables.py the same file."""
    found = experiment_file.read(written(tmp_path, MINE.replace('"mine"', f'"{name}"')))
    with pytest.raises(UserError, match="is taken"):
        targets.check_name(found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', 'name = "report"', "is taken"),
        (
            'teacher = "r14"\nstudent = "r8"\nmethods = ["kd"]',
            'teacher = "r14w32"\nstudent = "r8"\nmethods = ["fsp"]',
            "FSP",
        ),
        ("kd.max_iter = 96000", "kd.max_iter = 10", "the rate is to fall"),
    ],
)
def test_the_workflow_refuses_it_in_one_line(old, new, said, tmp_path):
    assert old in MINE
    done = snakemake("-n", config=(f"experiments={written(tmp_path, MINE.replace(old, new))}",))
    assert said in done.stderr + done.stdout and "Traceback" not in done.stderr + done.stdout
    assert (done.stderr + done.stdout).count("error: ") == 1


def test_a_file_that_is_none_is_one_line(tmp_path):
    for path, said in (
        (tmp_path / "none.toml", "is not there"),
        (tmp_path, "unknown experiment"),
        (written(tmp_path, b"name = '\xff'", "latin.toml"), "not UTF-8"),
        (written(tmp_path, "", "empty.toml"), "required property"),
    ):
        one_line(command(RUN, "--experiment", path, "--dry-run"), path, said)
    (tmp_path / "folder.toml").mkdir()
    one_line(command("python/make_tables.py", tmp_path / "folder.toml"), "is a folder")
    path = written(tmp_path)
    one_line(command("python/make_tables.py", path, "table1"), path, "leave table1 out")
    one_line(command("python/compare_torch.py", "--experiment", tmp_path / "none.toml"), "is not there")
    done = snakemake("-n", config=(f"experiments={path},cifar10-r14-r8",))
    assert done.returncode and "name it alone" in done.stderr + done.stdout
