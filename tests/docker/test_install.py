"""A whole install by `make setup` in a folder whose name breaks what is not quoted, then the same folder in other places."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, namespace, needs_compiler
from hkd.base.files import sha256

pytestmark = pytest.mark.slow

MADE = (".git", ".venv", "build", "data", "runs", "__pycache__", "*.egg-info", ".snakemake", ".hypothesis", ".*_cache")
STAGE = "--experiment fashion-mnist-r14-r8 --stage baseline --scale 0.0001 --set batch=16 --cpu --threads 1"


def setup(folder):
    archive = ROOT / "build/caffe/brocolli-caffe-3.0.0.tar.gz"
    env = os.environ | ({"CAFFE_SDIST": str(archive)} if archive.exists() else {})
    words = ["make", "setup", f"PYTHON={sys.base_prefix}/bin/python3.11"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def activated(folder, script, shell="bash", where=ROOT.anchor):
    """What a shell says that has activated the environment of `folder`."""
    env = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "FOLDER": str(folder), "GLOG_minloglevel": "2"}
    words = [shell, "-c", f'cd "$FOLDER" && . .venv/bin/activate && cd "{where}" && {script}']
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    needs_compiler()
    folder = tmp_path_factory.mktemp("place") / "a b ü'"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*MADE))
    assert "Caffe is ready" in setup(folder)
    return folder


def trained(folder, fashion, runs):
    words = f'python "$FOLDER/python/run_stage.py" {STAGE} --data "{fashion}" --runs "{runs}"'
    activated(folder, words)
    (weights,) = runs.glob("*/*/*/final.caffemodel")
    return sha256(weights)


@pytest.fixture(scope="module")
def moved(installed, fashion, tmp_path_factory):
    """The folder after it was renamed, and the weights of a stage that was trained before."""
    before = trained(installed, fashion, tmp_path_factory.mktemp("before"))
    commands = activated(installed, "command -v snakemake; caffe --version; snakemake --version")
    assert commands[0] == f"{installed}/.venv/bin/snakemake" and "caffe version" in commands[1]
    return installed.rename(installed.with_name('c "d" é')), before


class TestMoved:
    def test_the_environment_is_that_of_the_new_place(self, moved):
        folder, _ = moved
        for shell in ("bash", "zsh"):
            if shutil.which(shell):
                assert activated(folder, "command -v python", shell=shell) == [f"{folder}/.venv/bin/python"]
        said = activated(
            folder, "snakemake --version && python -P -c 'import hkd, sys; print(hkd.__file__, sys.prefix)'"
        )
        assert said[0].startswith("9.") and said[1] == f"{folder}/python/hkd/__init__.py {folder}/.venv"

    def test_nothing_names_the_old_place(self, moved):
        folder, _ = moved
        # Those that every shell may read know no better than the place they were made at; activated, they do.
        scripts = [path for path in (folder / ".venv/bin").iterdir() if path.read_bytes().startswith(b"#!")]
        assert len(scripts) > 20 and not [path for path in scripts if b"a b " in path.read_bytes()]
        assert [p.read_text() for p in (folder / ".venv/lib").rglob("__editable__*.pth")] == ["../../../../python\n"]

    def test_the_workflow_and_a_stage_run_there(self, moved, fashion, tmp_path):
        folder, before = moved
        dry = "snakemake -n --cores 1 tables --config scale=0.01"
        assert "This was a dry-run" in "\n".join(activated(folder, dry, where="$FOLDER"))
        assert trained(folder, fashion, tmp_path) == before

    def test_make_setup_has_nothing_to_do(self, moved):
        folder, _ = moved
        assert setup(folder).splitlines() == [
            f"Caffe is built already ({folder}/.venv/lib/python3.11/site-packages/caffe)"
        ]

    def test_a_second_mount_leaves_the_build_as_it_is(self, moved, tmp_path):
        folder, _ = moved
        built = {path: path.stat().st_mtime_ns for path in (folder / ".venv").rglob("_caffe.so")}
        (tmp_path / "second").mkdir()
        said = namespace(
            f'mount --bind "$1" "$2" && cd "$2" && make setup PYTHON={sys.base_prefix}/bin/python3.11',
            folder,
            tmp_path / "second",
        )
        assert said.returncode == 0 and said.stdout.startswith("Caffe is built already"), said.stderr
        assert {path: path.stat().st_mtime_ns for path in Path(folder / ".venv").rglob("_caffe.so")} == built
