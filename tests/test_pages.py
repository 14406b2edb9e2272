"""Every command in README and in the pages of the folders: run here as it stands where it is quick, dry where it would train for
days."""

import importlib.util
import re
import shlex
import subprocess

import pytest

from conftest import ROOT, command, snakemake
from pages import PAGES, commands, marked

TOP = ("python", "data_tools", "docker", "results", "tests", "prototxt", "solvers", "profiles")
ELSEWHERE = ("photos", "listed", "mixed", "known", "mine.toml")
"""In commands with data sets of the user's own, which test_own_images.py and test_foreign_lmdb.py run, and with an experiment file, which
test_experiment_file.py runs."""
COMMANDS = [
    line
    for line in dict.fromkeys(line for text in PAGES.values() for line in commands(text))
    if not re.search(rf"\b({'|'.join(ELSEWHERE)})\b", line)
]


def needs_torch(words):
    if any(word.startswith("torch") for word in words) and importlib.util.find_spec("torch") is None:
        pytest.skip("no PyTorch: make torch")


def test_the_two_commands_come_first():
    assert commands(PAGES["README.md"])[:2] == ["make demo", "make test"]


def test_readme_is_one_page():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_every_page_is_here_and_linked_from_readme():
    found = {
        str(path.relative_to(ROOT)) for top in ROOT.iterdir() if top.name in TOP for path in top.rglob("README.md")
    }
    assert found | {"README.md"} == set(PAGES)
    assert not [name for name in found if f"]({name})" not in PAGES["README.md"]]


@pytest.mark.parametrize("name", PAGES)
def test_its_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[name]):
        assert link.startswith("https://") or ((ROOT / name).parent / link).exists(), link


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("make ")])
def test_a_make_target_exists(line):
    # What it runs is run by CI (make test-slow, which has the demo), or by hand (make bench).
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_bench_starts():
    """With the words of the Makefile, up to where it begins to measure."""
    words = subprocess.run(["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()[-1]
    done = subprocess.run([*shlex.split(words), "none"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: no part none: known are data")


# Those that name a file of weights are test_given.py's, which has one.
@pytest.mark.parametrize(
    "line", [c for c in COMMANDS if c.startswith("python python/run_stage.py") and "resnet26." not in c]
)
def test_a_stage_command(line):
    words = [word for word in shlex.split(line)[2:] if word != "--watch"]  # test_watching.py
    needs_torch(words)
    quick = {"--dry-run", "--list", "--status"} & set(words)
    command("python/run_stage.py", *words, *([] if quick else ["--dry-run"]), check=0)


def test_the_data_command_and_the_tables_command(tmp_path):
    assert "python data_tools/make_lmdb.py --dataset fashion-mnist" in COMMANDS
    command("data_tools/make_lmdb.py", "--dataset", "fashion-mnist", "--out", tmp_path / "f", check=0)
    assert "python data_tools/make_lmdb.py --dataset fashion-mnist --check" in COMMANDS
    command("data_tools/make_lmdb.py", "--dataset", "fashion-mnist", "--check", "--out", tmp_path / "f", check=0)
    line = next(c for c in COMMANDS if "make_tables.py --experiment" in c)
    done = command("python/make_tables.py", *shlex.split(line)[2:], "--runs", tmp_path, "--out", tmp_path)
    assert done.returncode == 2 and "no finished stage of fashion-mnist-r14-r8" in done.stderr


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("snakemake ")])
def test_a_workflow_command(line):
    # Dry: test_workflow.py runs small ones to their end.
    words = [word for word in shlex.split(line)[1:] if word != "-n"]
    done = snakemake("-n", *words, check=0)
    assert "This was a dry-run" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(c, marks=pytest.mark.slow if "--measure" in c else ())
        for c in COMMANDS
        if "make_tables.py" in c and "--experiment" not in c and "--lay" not in c
    ],
)
def test_a_tables_command(line, paper_runs, tmp_path):
    words = [word for word in shlex.split(line)[2:] if word not in ("--scale", "0.01")]
    needs_torch(words)
    command("python/make_tables.py", *words, "--runs", paper_runs[0] / "runs", "--out", tmp_path, check=0)


def test_what_is_kept_is_laid_by_the_page_s_command(tmp_path):
    (line,) = {c for c in COMMANDS if "--lay" in c}
    *words, runs = shlex.split(line)[2:]
    assert runs == "runs" and " stages in " in command("python/make_tables.py", *words, tmp_path, check=0).stdout


def test_the_costs_shown_are_the_costs_printed():
    printed = command("python/make_tables.py", "--cost", "--rate", "10", check=0).stdout
    assert marked(PAGES["python/README.md"], "printed by make_tables.py --cost --rate 10") == printed.strip()


def test_the_table_shown_has_the_papers_numbers_and_todays_columns(paper_runs):
    shown = marked(PAGES["python/README.md"], "table1.md of such a run").splitlines()
    made = (paper_runs[0] / "out/table1.md").read_text().splitlines()
    assert shown[0] in made
    for line in shown[2:]:
        assert any(
            other.startswith(line.split(" | ")[0]) and line.split(" | ")[1:3] == other.split(" | ")[1:3]
            for other in made
        )


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("docker ")])
def test_a_container_command(line):
    """The image, the service and the volumes are there, and what is run inside is a command; test_docker.py runs images."""
    words = iter(shlex.split(line))
    assert next(words) == "docker"
    names = {"hkd-caffe", "hkd-caffe:cuda"} if (kind := next(words)) == "run" else {"cpu", "cuda"}
    assert kind == "run" or (kind == "compose" and next(words) == "run")
    options = {"--rm": 0, "--user": 1, "-v": 1, "--gpus": 1}
    for word in words:
        if word in names:
            break
        value = [next(words) for _ in range(options[word])]
        assert word != "-v" or value[0].split(":")[1] in ("/data", "/runs")
    inside = list(words)
    if inside[0] == "make":
        assert subprocess.run(["make", "-n", *inside[1:]], cwd=ROOT, capture_output=True).returncode == 0
    else:
        assert inside[:2] == ["python", "python/run_stage.py"]
        command(*inside[1:], "--dry-run", check=0)


def test_no_other_kind_of_command_is_in_it():
    known = (
        "make ",
        "pip install '.[torch]'",  # test_without_caffe.py
        "python python/run_stage.py",
        "python data_tools/make_lmdb.py",
        "python python/make_tables.py",
        "python python/compare_torch.py",
        "python python/import_weights.py resnet26.",
        "snakemake --",
        ". .venv",
        "docker run --rm ",
        "docker compose run --rm ",
    )
    assert not [c for c in COMMANDS if not c.startswith(known)]


def test_the_plan_shown_is_the_plan_printed():
    printed = command(
        "python/run_stage.py", "--stage", "hint", "--step", "2", "--dry-run", "--runs", "/nonexistent", check=0
    ).stdout
    shown = marked(PAGES["README.md"], "printed by run_stage.py").splitlines()
    assert [x for x in printed.splitlines() if not x.startswith("data:")] == shown


def test_every_file_and_folder_that_it_names_is_there():
    named = re.findall(r"`((?:python|data_tools|docker|tests|prototxt|solvers)/[\w./]*)`", "".join(PAGES.values()))
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout, as in the container image")
def test_no_path_of_one_machine_is_in_the_project():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for path in files:
        text = (ROOT / path).read_text(errors="replace")
        assert not re.search(r"(?<![\w.])/(work|root|home/\w+)/", text), path
