"""The recipe that builds Caffe: what is there, what is said when something is missing, and that it does nothing twice."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, needs_compiler, one_line
from hkd.engines import nvidia

BUILD = ROOT / "docker/build_caffe.sh"
NUMPY = Path(importlib.util.find_spec("numpy").origin).parent


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
    needs_compiler()
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", tmp_path / "env"], check=True
    )
    python = tmp_path / "env/bin/python"
    site = next((tmp_path / "env/lib").glob("python*/site-packages"))
    for part in NUMPY.parent.glob("numpy*"):  # and nothing else: NVIDIA's packages would be found
        (site / part.name).symlink_to(part)
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


@pytest.mark.parametrize("name", ["CAFFE_CUDA", "CAFFE_STOCK", "CAFFE_NCCL", "CAFFE_CUDNN"])
def test_a_flag_that_is_neither_0_nor_1(name):
    says(build(sys.executable, **{name: "yes"}), f"{name}=yes", "must be 0")


class TestCuda:
    @pytest.fixture
    def refused(self, elsewhere):
        """What the recipe says of settings, the rest of a CUDA build given as far as this machine has it."""
        python, folder = elsewhere

        def said(*words, path=None, **settings):
            says(build(python, BUILD_DIR=folder, CAFFE_CUDA="1", path=path, **settings), *words)
            assert not Path(folder).exists()

        return said

    @pytest.fixture
    def nvcc(self):
        return shutil.which("nvcc") or pytest.skip("no nvcc on PATH")

    def test_without_its_compiler(self, refused, tmp_path):
        refused("needs nvcc", "CUDA_HOME", "make caffe-cuda", path=tools_without(tmp_path, "nvcc"))

    def test_a_toolkit_that_is_none(self, refused, tmp_path):
        refused("CUDA_HOME=", "no bin/nvcc", CUDA_HOME=str(tmp_path))

    def test_a_compiler_that_is_not_nvidias(self, refused, tmp_path):
        (tmp_path / "cuda/bin").mkdir(parents=True)
        (tmp_path / "cuda/bin/nvcc").symlink_to(shutil.which("g++"))
        refused("names no release", CUDA_HOME=str(tmp_path / "cuda"))

    @pytest.mark.parametrize(("names", "words"), [("35", ["does not know 35", "it knows"]), ("8.0", ["8.0 is none"])])
    def test_an_architecture_that_it_does_not_know(self, refused, nvcc, names, words):
        refused(f"CAFFE_CUDA_ARCHITECTURES=90;{names}", *words, CAFFE_CUDA_ARCHITECTURES=f"90;{names}")

    def test_a_host_compiler_that_it_cannot_use(self, refused, nvcc):
        refused("cannot compile with /bin/false", CUDAHOSTCXX="/bin/false")

    def test_without_cublas(self, refused, nvcc):
        if Path("/usr/include/cublas_v2.h").exists():
            pytest.skip("this machine has cuBLAS")
        refused("cuBLAS", "cublas_v2.h", "pip install 'nvidia-cublas==")

    def test_settings_of_the_gpu_code_without_it(self):
        for setting in ("CAFFE_CUDNN", "CAFFE_NCCL"):
            says(build(sys.executable, CAFFE_CUDA="0", **{setting: "1"}), "of the GPU code", "CAFFE_CUDA=1")


@pytest.fixture(scope="module")
def cuda_python(tmp_path_factory):
    """The Python of an environment with a CUDA build: HKD_CUDA_PYTHON where that is set, else made here, in 10 minutes."""
    if given := os.environ.get("HKD_CUDA_PYTHON"):
        return Path(given)
    needs_compiler()
    folder = tmp_path_factory.mktemp("cuda")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    site = next((folder / "env/lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text(f"{NUMPY.parent}\n")
    python = folder / "env/bin/python"
    done = build(python, BUILD_DIR=str(folder / "build"), CAFFE_CUDA="1")
    if done.returncode and any(word in done.stderr for word in ("needs nvcc", "is not found", "is not beside")):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return python


class TestACudaBuild:
    """What can be said of a CUDA build without a GPU."""

    pytestmark = pytest.mark.slow
    STAGE = ("--experiment", "fashion-mnist-r14-r8", "--stage", "baseline", "--scale", "0.0002", "--set", "batch=16")

    def run(self, python, *words):
        words = [python, ROOT / "python/run_stage.py", *words]
        return subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "2"}
        )

    def test_it_says_what_it_was_built_with(self, cuda_python):
        asked = "import caffe, json; from hkd.engines import devices; print(json.dumps([devices.caffe_build(), caffe.has_nccl()]))"
        env = os.environ | {"PYTHONPATH": str(ROOT / "python")}
        done = subprocess.run([cuda_python, "-c", asked], capture_output=True, text=True, env=env)
        info, has_nccl = json.loads(done.stdout)
        assert int(info["cuda"].split(".")[0]) >= 11 and info["architectures"] and bool(info["nccl"]) == has_nccl
        linked = subprocess.run(["ldd", self.library(cuda_python)], capture_output=True, text=True).stdout
        assert "not found" not in linked
        for name, wanted in (("libcublas", True), ("libcudnn", info["cudnn"]), ("libnccl", info["nccl"])):
            assert (name in linked) == bool(wanted), name

    @staticmethod
    def library(python):
        return next(python.parents[1].glob("lib/python*/site-packages/caffe/_caffe.so"))

    def test_a_later_build_without_settings_leaves_it(self, cuda_python):
        done = build(cuda_python)
        assert done.returncode == 0 and done.stdout.startswith("Caffe is built already")

    def test_it_trains_on_the_cpu_to_the_same_bytes(self, cuda_python, fashion, tmp_path):
        finals = []
        for name, each in (("cpu", Path(sys.executable)), ("cuda", cuda_python)):
            done = self.run(each, *self.STAGE, "--cpu", "--data", fashion, "--runs", tmp_path / name)
            assert done.returncode == 0, done.stderr
            finals.append(next((tmp_path / name).glob("*/*/*/final.caffemodel")).read_bytes())
        assert finals[0] == finals[1]

    def test_without_a_gpu_it_says_so(self, cuda_python):
        if nvidia.why_none():
            one_line(
                self.run(cuda_python, *self.STAGE, "--gpu", "0", "--dry-run"), "--gpu 0", nvidia.why_none(), "--cpu"
            )
            assert "device: CPU" in self.run(cuda_python, *self.STAGE, "--dry-run").stdout
        else:
            pytest.skip("a GPU is here")


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


@pytest.mark.parametrize("stock", [False, True])
def test_the_patches_apply_to_the_archive_without_fuzz(stock, tmp_path):
    archive = Path(os.environ.get("CAFFE_SDIST") or ROOT / "build/caffe/brocolli-caffe-3.0.0.tar.gz")
    if not archive.exists():
        pytest.skip(f"no {archive} (make setup leaves it there, CAFFE_SDIST names another)")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path, "--strip-components=1"], check=True)
    for patch in sorted((ROOT / "docker/caffe").glob("*.patch")):
        if not (stock and patch.name.startswith("cpu-")):
            words = ["patch", "--batch", "--fuzz=0", "-p1", "-d", tmp_path, "-i", patch]
            done = subprocess.run(words, capture_output=True, text=True)
            assert done.returncode == 0, f"{patch.name}: {done.stdout}"
    factory = (tmp_path / "src/caffe/layer_factory.cpp").read_text()
    # Each of cuDNN's layers that Caffe would take by itself is left to the GPU.
    assert factory.count("Caffe::mode() == Caffe::GPU") == 8
