"""Where Caffe computes: the GPU when Caffe was built for it and one is there, else the CPU. Never a guess: asked first,
because Caffe aborts the process on the first use of a GPU that it does not have.
"""

import ctypes
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hkd.cli import UserError


@dataclass(frozen=True)
class Device:
    """gpu: its number, or None for the CPU. threads: of the convolutions on a CPU. why: the reason, for the user."""

    gpu: int | None
    threads: int
    why: str

    def __str__(self):
        return f"GPU {self.gpu} ({self.why})" if self.gpu is not None else f"CPU, {self.threads} threads ({self.why})"


def choose(gpus, engine, remedy, gpu=None, cpu=False, threads=None):
    """The device for --gpu N, --cpu or neither. Raises UserError where --gpu cannot be had.

    gpus: how many `engine` (its name for the user) can use, None where it was built without CUDA; remedy: what to do then.
    """
    if threads is None:
        threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    if threads < 1:
        raise UserError(f"--threads {threads}: expected 1 or more")
    if cpu:
        return Device(None, threads, "--cpu")
    if gpu is None:
        if gpus is None:
            return Device(None, threads, f"{engine} was built without CUDA")
        return Device(0, threads, "the first one") if gpus else Device(None, threads, "no NVIDIA GPU here")
    if gpus is None:
        raise UserError(f"--gpu {gpu}: {engine} was built without CUDA: {remedy}, or use --cpu")
    if not 0 <= gpu < gpus:
        raise UserError(
            f"--gpu {gpu}: the NVIDIA driver shows {gpus} GPUs, numbered from 0: choose another, or use --cpu"
        )
    return Device(gpu, threads, "--gpu")


def gpu_count():
    """How many GPUs NVIDIA's driver shows; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def hardware(device):
    """The processor that `device` is, as its maker calls it."""
    if device.gpu is not None:
        asked = ["nvidia-smi", f"--id={device.gpu}", "--query-gpu=name", "--format=csv,noheader"]
        try:
            return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "NVIDIA GPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def caffe_build():
    """What docker/build_caffe.sh says of the Caffe that is imported: source, patches, flags. {} but for cuda: false for
    a Caffe that it did not build."""
    import importlib.util

    info = Path(importlib.util.find_spec("caffe").origin).with_name("build_info.json")
    return {"cuda": False} | (json.loads(info.read_text()) if info.exists() else {})


def use(device):
    """Switches this process's Caffe to `device`."""
    import caffe

    if device.gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(device.gpu)
        caffe.set_mode_gpu()
