"""The recipe that builds Caffe: what is there, what is said when something is missing, and that it does nothing twice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

BUILD = ROOT / "docker/build_caffe.sh"


def build(*arguments, path=None, **environment):
    env = {**os.environ, **environment}
    if path:
        env["PATH"] = str(path)
    return subprocess.run([shutil.which("bash"), BUILD, *map(str, arguments)], capture_output=True, text=True, env=env)


def says(done, *words):
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("build_caffe.sh: error: ")
    for word in words:
        assert word in line, line


@pytest.fixture
def elsewhere(tmp_path):
    """Another Python environment, where no Caffe is: the recipe has work to do there, in a build folder of its own."""
    if shutil.which("g++") is None:
        pytest.skip("no compiler here, as in the container image: nothing can be built")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", tmp_path / "env"], check=True
    )
    python = tmp_path / "env/bin/python"
    numpy = Path(__import__("numpy").__file__).parents[1]
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text(f"{numpy}\n")
    return python, str(tmp_path / "build")


def tools_without(tmp_path, missing):
    """A PATH with everything but one tool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for directory in reversed(os.environ["PATH"].split(":")):
        for tool in Path(directory).glob("*") if Path(directory).is_dir() else ():
            if tool.name != missing:
                (folder / tool.name).unlink(missing_ok=True)
                (folder / tool.name).symlink_to(tool)
    return folder


def test_a_second_run_does_nothing():
    done = build(sys.executable)
    assert done.returncode == 0 and done.stdout.startswith("Caffe is built already")


def test_pycaffe_and_the_binary_are_of_this_environment():
    import caffe

    assert Path(caffe.__file__).is_relative_to(sys.prefix)
    done = subprocess.run([Path(sys.executable).with_name("caffe"), "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and "caffe version" in done.stdout
    # The serial OpenBLAS is not safe under our threads (cpu-parallel-convolution.patch).
    linked = subprocess.run(["ldd", Path(caffe.__file__).with_name("_caffe.so")], capture_output=True, text=True).stdout
    assert "openblas-pthread" in linked and "not found" not in linked


@pytest.mark.parametrize("tool", ["g++", "cmake", "protoc", "patch"])
def test_a_missing_tool_is_one_line_that_says_what_to_install(elsewhere, tmp_path, tool):
    python, folder = elsewhere
    package = {"protoc": "protobuf-compiler"}.get(tool, tool)
    says(
        build(python, BUILD_DIR=folder, path=tools_without(tmp_path, tool)),
        f"{tool} is not installed",
        f"apt-get install {package}",
    )


def test_a_missing_package_is_named(elsewhere, tmp_path):
    """dpkg-query, asked for real, of a machine without LMDB's headers."""
    python, folder = elsewhere
    tools = tools_without(tmp_path, "dpkg-query")
    real = shutil.which("dpkg-query")
    (tools / "dpkg-query").write_text(f'#!/bin/sh\ncase "$*" in *liblmdb-dev*) exit 1;; esac\nexec {real} "$@"\n')
    (tools / "dpkg-query").chmod(0o755)
    says(build(python, BUILD_DIR=folder, path=tools), "apt-get install liblmdb-dev")


def test_a_wrong_checksum_is_refused_and_nothing_is_unpacked(elsewhere, tmp_path):
    python, folder = elsewhere
    archive = tmp_path / "caffe.tar.gz"
    archive.write_bytes(b"not Caffe")
    says(build(python, BUILD_DIR=folder, CAFFE_SDIST=str(archive)), "caffe.tar.gz", "wrong checksum")
    assert not list(Path(folder).glob("source-*"))
    says(build(python, BUILD_DIR=folder, CAFFE_SDIST=str(tmp_path / "none")), "no such file")


def test_a_download_that_fails_is_one_line(elsewhere):
    python, folder = elsewhere
    unreachable = dict.fromkeys(
        ("PIP_INDEX_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9/"
    )
    pip = {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "2",
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
    }
    says(build(python, BUILD_DIR=folder, **unreachable, **pip), "cannot get brocolli-caffe==3.0.0", "CAFFE_SDIST")


@pytest.mark.parametrize("name", ["CAFFE_CUDA", "CAFFE_STOCK"])
def test_a_flag_that_is_neither_0_nor_1(name):
    says(build(sys.executable, **{name: "yes"}), f"{name}=yes", "0 or 1")


def test_cuda_without_its_compiler(elsewhere, tmp_path):
    python, folder = elsewhere
    says(build(python, BUILD_DIR=folder, CAFFE_CUDA="1", path=tools_without(tmp_path, "nvcc")), "nvcc")


def test_no_python_there(tmp_path):
    says(build(tmp_path / "python"), "no Python at", "make setup")


def test_every_package_has_its_reason_and_is_listed_once():
    lines = [x for x in (ROOT / "docker/packages.txt").read_text().splitlines() if x and not x.startswith("#")]
    names = [line.split()[0] for line in lines]
    assert names == sorted(set(names)) and all(
        "#" in line and line.split()[-1] in ("build", "run", "test") for line in lines
    )
    listed = [
        subprocess.run([ROOT / "docker/packages.sh", "list", *which], capture_output=True, text=True).stdout.split()
        for which in ([], ["test"])
    ]
    assert sorted([*listed[0], *listed[1]]) == names and "chromium" in listed[1] and "cmake" in listed[0]


def test_no_package_is_missing():
    done = subprocess.run([ROOT / "docker/packages.sh", "missing"], capture_output=True, text=True)
    absent = done.stdout.split()
    if shutil.which("g++") is None:  # the container image: what only builds is absent
        reasons = [x for x in (ROOT / "docker/packages.txt").read_text().splitlines() if x and not x.startswith("#")]
        absent = [x.split()[0] for x in reasons if x.split()[0] in absent and x.split()[-1] == "run"]
        absent = [name for name in absent if not name.endswith("-dev")]
    assert absent == []


def test_what_a_built_caffe_needs_is_derived_from_the_same_list():
    """packages.sh runtime: of every -dev package that is needed to run, a library's package in its place."""
    caffe = Path(sys.executable).with_name("caffe")
    done = subprocess.run([ROOT / "docker/packages.sh", "runtime", caffe], capture_output=True, text=True)
    names = done.stdout.split()
    assert done.returncode == 0 and not [name for name in names if name.endswith("-dev")]
    assert {"python3", "make", "dataset-fashion-mnist", "libopenblas0-pthread"} <= set(names)
    for library in (
        "boost-python",
        "boost-thread",
        "boost-filesystem",
        "gflags",
        "google-glog",
        "hdf5",
        "lmdb",
        "protobuf",
    ):
        assert [name for name in names if name.startswith(f"lib{library}")], library


def test_every_patch_says_why():
    for patch in (ROOT / "docker/caffe").glob("*.patch"):
        reason, _, hunks = patch.read_text().partition("--- a/")
        assert len(reason.split()) > 20 and hunks
