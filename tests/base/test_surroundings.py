"""What lies around is not ours: folders and other Caffes that Python would find first, a checkout that may not be written to or read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, command, namespace, one_line, snakemake

STAGE = (
    "--experiment",
    "fashion-mnist-r14-r8",
    "--stage",
    "baseline",
    "--scale",
    "0.0001",
    "--set",
    "batch=16",
    "--cpu",
)
SCRIPTS = (
    "python/run_stage.py",
    "python/make_tables.py",
    "python/make_prototxt.py",
    "python/compare_torch.py",
    "data_tools/make_lmdb.py",
    "data_tools/fetch.py",
)


@pytest.fixture
def traps(tmp_path):
    """A folder of packages and modules with the names of ours and of what we import, each of which leaves a file `ran`."""
    folder = tmp_path / "traps"
    for name in ("caffe", "hkd", "numpy", "lmdb", "six", "google", "filelock", "archives", "sources", "datasets"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    return folder


@pytest.fixture
def other_caffe(tmp_path):
    """What BVLC's instructions put on PYTHONPATH: a folder with a package called caffe, of another build."""
    folder = tmp_path / "caffe-master/python"
    (folder / "caffe").mkdir(parents=True)
    (folder / "caffe/__init__.py").write_text("from ._caffe import Net\n")
    return folder


class TestTheCurrentFolder:
    def test_a_stage_and_the_data_it_needs_run_nothing_of_it(self, traps, fashion_source, tmp_path):
        """The scripts, make_lmdb.py started by the driver, and the process that trains."""
        (tmp_path / "data").mkdir()
        out = tmp_path / "data/fashion-mnist"
        done = command("python/run_stage.py", *STAGE, "--runs", tmp_path / "runs", "--data", out, cwd=traps, check=0)
        assert "building it" in done.stdout and list((tmp_path / "runs").glob("*/*/*/record.json"))
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_a_script_runs_nothing_of_it_by_whatever_path(self, script, traps, tmp_path):
        for environment in ({}, {"PYTHONSAFEPATH": "1"}):
            command(script, "--help", cwd=traps, env=environment, check=0)
        assert not (tmp_path / "ran").exists()

    def test_make_runs_nothing_of_it(self):
        said = subprocess.run(["make", "-n", "-B", "tables"], cwd=ROOT, capture_output=True, text=True).stdout
        assert ".venv/bin/python -P -m snakemake" in said
        assert not [line for line in said.splitlines() if ".venv/bin/python -m" in line]

    def test_every_python_that_the_project_starts_is_told_so(self):
        for path in (*ROOT.glob("python/**/*.py"), *ROOT.glob("data_tools/*.py"), ROOT / "Snakefile"):
            for line in path.read_text().splitlines():
                assert "[sys.executable" not in line or "*SAFE_PATH" in line or path.name == "python.py", path


def test_a_numpy_that_pycaffe_was_not_built_for_is_one_line(tmp_path):
    """As `pip install --target` leaves a NumPy 2, found before the real one: what it says of itself, without an import."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy/__init__.py").write_text("raise ImportError('not to be imported')\n")
    (tmp_path / "numpy/version.py").write_text('version = "2.4.0"\n')
    done = command("python/run_stage.py", "--list", env={"PYTHONPATH": str(tmp_path)})
    one_line(done, "built for NumPy 1", "NumPy 2.4.0", "make setup")


class TestAnotherCaffe:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_no_script_imports_it(self, script, other_caffe):
        for path in (other_caffe, f"/nonexistent:{other_caffe}:"):
            command(script, "--help", env={"PYTHONPATH": str(path)}, check=0)

    def test_a_stage_is_trained_by_ours(self, other_caffe, fashion, tmp_path):
        where = ("--data", fashion, "--runs", tmp_path)
        command("python/run_stage.py", *STAGE, *where, env={"PYTHONPATH": str(other_caffe)}, check=0)
        assert list(tmp_path.glob("*/*/*/record.json"))

    def test_the_workflow_asks_ours(self, other_caffe):
        done = snakemake("-n", "tables", env={"PYTHONPATH": str(other_caffe)}, check=0)
        assert "This was a dry-run" in done.stdout + done.stderr

    def test_what_else_is_on_the_path_stays(self, other_caffe, tmp_path):
        (tmp_path / "mine").mkdir()
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from hkd.base.cli import use_project_python;"
            "use_project_python(); import os, caffe; print(os.environ['PYTHONPATH'], caffe.__file__)"
        )
        script = tmp_path / "asks.py"
        script.write_text(code)
        env = os.environ | {"PYTHONPATH": f"{tmp_path / 'mine'}:{other_caffe}"}
        done = subprocess.run([sys.executable, script, ROOT / "python"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{tmp_path / 'mine'} ") and str(other_caffe) not in done.stdout

    def test_where_there_is_no_other_it_is_one_line(self, other_caffe, tmp_path):
        """A Python with another Caffe installed, in a checkout without .venv."""
        for name in ("python", "data_tools"):
            shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
        (site,) = (tmp_path / "env/lib").glob("python*/site-packages")
        shutil.copytree(other_caffe / "caffe", site / "caffe")
        words = [tmp_path / "env/bin/python", tmp_path / "checkout/python/run_stage.py", "--list"]
        done = subprocess.run(words, capture_output=True, text=True)
        one_line(done, site / "caffe", "not of this project", "make setup")


class TestAReadOnlyCheckout:
    MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && '

    def test_the_workflow_keeps_its_notes_beside_the_runs(self, tmp_path):
        words = f'"{sys.executable}" -m snakemake -n --cores 1 table1 --config scale=0.01 "runs=$2"'
        done = namespace(self.MOUNT + words, ROOT, tmp_path / "runs")
        assert done.returncode == 0 and "This was a dry-run" in done.stdout + done.stderr, done.stderr
        assert (tmp_path / "runs/.snakemake").is_dir()
        assert f"{tmp_path}/runs/" in done.stdout + done.stderr and f"{ROOT}/data/" in done.stdout + done.stderr

    def test_without_a_folder_for_the_runs_it_is_one_line(self):
        done = namespace(self.MOUNT + f'"{sys.executable}" -m snakemake -n --cores 1 table1', ROOT)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2 and len(errors) == 1 and "read-only file system" in errors[0]
        assert "Traceback" not in done.stderr

    def test_a_stage_and_its_tables_go_elsewhere(self, fashion, tmp_path):
        stage = f'"{sys.executable}" python/run_stage.py {" ".join(STAGE)} --data "$2"'
        tables = f'"{sys.executable}" python/make_tables.py report --scale 0.0001'
        env = {"HKD_RUNS": str(tmp_path / "runs"), "HKD_RESULTS": str(tmp_path / "results")}
        done = namespace(self.MOUNT + f"{stage} && {tables}", ROOT, fashion, env=env)
        assert done.returncode == 0 and (tmp_path / "results/report.html").exists(), done.stderr


class TestAnEnvironmentOfAnotherUser:
    """As the user `nobody`, where the tests run as root; else folders that nobody may read."""

    @pytest.fixture
    def checkout(self, tmp_path):
        for name in ("python", "data_tools"):
            shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "checkout/.venv/bin").mkdir(parents=True)
        (tmp_path / "checkout/.venv/bin/python").symlink_to("/usr/bin/python3")
        (tmp_path / "checkout/.venv").chmod(0)
        for folder in (tmp_path, *tmp_path.parents):
            if (
                folder.owner() == tmp_path.owner()
                and folder.name.startswith(("pytest-", "popen-", "test_"))
                and os.getuid() == 0
            ):
                folder.chmod(0o755)
        yield tmp_path / "checkout"
        (tmp_path / "checkout/.venv").chmod(0o755)

    @pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no Python that every user may run")
    def test_it_is_one_line(self, checkout):
        as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
        for script in ("python/run_stage.py", "data_tools/make_lmdb.py"):
            words = ["/usr/bin/python3", checkout / script, "--help"]
            done = subprocess.run(words, capture_output=True, text=True, cwd="/", **as_nobody)
            one_line(done, checkout / ".venv", "no permission", "make setup")
