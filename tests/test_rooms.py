"""The rooms of python/hkd: which may import which, and the package installed as any other, without the checkout."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

ROOMS = ("base", "paper", "layers", "networks", "stages", "engines", "training", "results")
"""A room may import those before it."""
PACKAGE = ROOT / "python/hkd"


def imported(source):
    """The modules that a file imports, whole names; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_in(source):
    """The rooms that a file imports from."""
    parts = [name.split(".") for name in imported(source)]
    return {name[1] for name in parts if name[0] == "hkd" and len(name) > 1}


def test_the_rooms_are_the_folders_and_the_map_names_them_in_order():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    assert tuple(re.findall(r"^ +(\w+)/ ", importlib.import_module("hkd").__doc__, re.M)) == ROOMS
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_points_against_the_direction(room):
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for path in (PACKAGE / room).rglob("*.py"):
        against = rooms_in(path.read_text()) - set(allowed)
        assert not against, f"{path.relative_to(ROOT)} imports from {', '.join(against)}"


def test_python_layers_stand_on_numpy_and_caffe_alone():
    for path in (PACKAGE / "layers").glob("*.py"):
        others = {name.split(".")[0] for name in imported(path.read_text())} - sys.stdlib_module_names
        assert others <= {"numpy", "caffe", "hkd"} and rooms_in(path.read_text()) <= {"layers"}, path


@pytest.mark.parametrize(
    "source", ["from hkd import results", "from hkd.results import runs", "import hkd.results.runs"]
)
def test_an_import_is_seen_however_it_is_written(source):
    assert rooms_in(f"def f():\n    {source}\n") == {"results"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_lies_in_it_and_what_it_may_import(room):
    said = importlib.import_module(f"hkd.{room}").__doc__
    assert "import" in said
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}
    assert {name for name in modules if not re.search(rf"\b{name}\b", said)} == set()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """(Python of a new environment that the package was installed into by pip, folder with copies of the commands). Other
    packages are those of this environment, our checkout is not among them."""
    home = tmp_path_factory.mktemp("installed")
    source = home / "source"
    shutil.copytree(PACKAGE, source / "python/hkd", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    site = next((home / "env/lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    done = subprocess.run([*pip, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The .pth files of borrowed folders, of which one names our checkout, are not read.
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    shutil.rmtree(source)
    (home / "commands").mkdir()
    for name in ("run_stage.py", "make_tables.py"):
        shutil.copy(ROOT / "python" / name, home / "commands")
    return home / "env/bin/python", home / "commands"


class TestInstalled:
    def command(self, installed, folder, name, *arguments):
        python, commands = installed
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        line = [python, commands / name, *arguments]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_it_lists_the_experiments(self, installed, tmp_path):
        assert "cifar10-r26-r14" in self.command(installed, tmp_path, "run_stage.py", "--list")

    def test_it_makes_a_report(self, installed, tmp_path):
        runs = ROOT / "results/measured/records/caffe"
        self.command(installed, tmp_path, "make_tables.py", "report", "--runs", runs)
        page = (tmp_path / "results/report.html").read_text()
        assert f"from {len(list(runs.rglob('record.json')))} records of finished stages" in page
