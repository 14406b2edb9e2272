"""Where Caffe computes: the GPU when Caffe was built for it and one is there, else the CPU. Never a guess: asked first,
because Caffe aborts the process on the first use of a GPU that it does not have.
"""

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from hkd.base.cli import UserError, caffe_info, omp_num_threads
from hkd.base.python import cores
from hkd.engines import nvidia

ALL = "all"  # --gpu all
THREADS_A_CORE = 4  # OpenBLAS crashes in its thousands of them


@dataclass(frozen=True)
class Device:
    """gpus: their numbers, none for the CPU. threads: of the convolutions on a CPU. why: the reason, for the user."""

    gpus: tuple[int, ...]
    threads: int
    why: str

    @property
    def gpu(self):
        """The only GPU or the first one, None for the CPU."""
        return self.gpus[0] if self.gpus else None

    def __str__(self):
        if not self.gpus:
            return f"CPU, {self.threads} threads ({self.why})"
        numbers = ", ".join(map(str, self.gpus))
        return f"GPU{'s' * (len(self.gpus) > 1)} {numbers} ({self.why})"


def choose(count, engine, remedy, gpu=None, cpu=False, threads=None, one_gpu=""):
    """The Device for --gpu N, --gpu all, --cpu or neither. Raises UserError where --gpu cannot be had.

    count: how many GPUs `engine` (its name for the user) can use, None where it was built without CUDA; remedy: what to do
    then; one_gpu: why it cannot use several at a time, '' where it can.
    """
    threads = _threads(threads)
    if cpu:
        return Device((), threads, "--cpu")
    if gpu is None:
        if count is None:
            return Device((), threads, f"{engine} was built without CUDA")
        return Device((0,), threads, "the first one") if count else Device((), threads, "no NVIDIA GPU here")
    if count is None:
        raise UserError(f"--gpu {gpu}: {engine} was built without CUDA: {remedy}, or use --cpu")
    if gpu == ALL and one_gpu:
        raise UserError(f"--gpu all: {one_gpu}, or use --gpu N")
    if count == 0:
        raise UserError(f"--gpu {gpu}: {nvidia.why_none()}: use --cpu")
    if gpu == ALL:
        if count < 2:
            raise UserError("--gpu all: NVIDIA's driver shows 1 GPU, 2 or more are needed: use --gpu 0")
        return Device(tuple(range(count)), threads, "--gpu all")
    if not 0 <= gpu < count:
        raise UserError(
            f"--gpu {gpu}: NVIDIA's driver shows {count} of them, numbered from 0: choose another, or use --cpu"
        )
    return Device((gpu,), threads, "--gpu")


def _threads(asked):
    """The number of threads for --threads (None: not said), OMP_NUM_THREADS or neither."""
    said = f"--threads {asked}"
    if asked is None:
        asked = omp_num_threads()
        if asked is None:
            return cores()
        said = f"OMP_NUM_THREADS={asked}"
    most = THREADS_A_CORE * (os.cpu_count() or 1)
    if not 1 <= asked <= most:
        raise UserError(
            f"{said}: expected 1 to {most}, {THREADS_A_CORE} times the cores of this machine: more make it no faster"
        )
    return asked


def bf16_is_fast(cpuinfo="/proc/cpuinfo"):
    """Whether this CPU multiplies bfloat16 numbers faster than float32 ones: by AMX or AVX-512 BF16 of x86, or BF16 of Arm, as
    Linux names them in `cpuinfo`. Intel's processors since Sapphire Rapids, which AVX-512 FP16 shows, do so by AMX alone, and a virtual
    machine may hide that: by AVX-512 BF16 a matrix product takes twice as long there as in float32, measured with and without it.
    """
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:  # not Linux
        return False
    words = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return bool(words & {"amx_bf16", "bf16"}) or ("avx512_bf16" in words and "avx512_fp16" not in words)


def gpu_count():
    """How many GPUs NVIDIA's driver shows; 0 without a driver."""
    return 0 if nvidia.why_none() else nvidia.count()


def hardware(device):
    """The processor that `device` is, as its maker calls it."""
    if device.gpus:
        try:
            names = [nvidia.describe(number).name for number in device.gpus]
        except nvidia.NoGpu:  # lost since: no reason to lose the record
            return "NVIDIA GPU"
        return " + ".join(f"{names.count(name)} x {name}" if len(names) > 1 else name for name in dict.fromkeys(names))
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def caffe_build():
    """What docker/build_caffe.sh says of the Caffe that is imported: source, patches, flags; cuda, cudnn and nccl are
    versions or False. Nothing but these three where it did not build one."""
    info = caffe_info()
    found = json.loads(info.read_text()) if info else {}
    found.pop("settings", None)  # folders of the machine that built it
    return {"cuda": False, "cudnn": False, "nccl": False} | found


def use(device, rank=0):
    """Switches this process's Caffe to `device`: of several GPUs, to the one of its rank."""
    import caffe

    if not device.gpus:
        caffe.set_mode_cpu()
        return
    caffe.set_device(device.gpus[rank])
    caffe.set_mode_gpu()
    if len(device.gpus) > 1:
        take_part(rank, len(device.gpus))


def take_part(rank, gpus):
    """Makes this process's Caffe rank `rank` of `gpus`; to be called before a solver is built."""
    import caffe

    caffe.set_solver_count(gpus)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
