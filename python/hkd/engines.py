"""What computes: BVLC Caffe, or PyTorch on the same files. Both give a solver with pycaffe's methods."""

import importlib.metadata
import importlib.util
import os

from hkd import devices
from hkd.cli import UserError

ENGINES = ("caffe", "torch")
PRECISIONS = ("fp32", "tf32", "bf16")


def label(engine, precision):
    """How records and tables name it: caffe, torch, torch-bf16."""
    return engine if precision == "fp32" else f"{engine}-{precision}"


LABELS = ("caffe", *(label("torch", precision) for precision in PRECISIONS))


def check(engine, precision, device):
    """Raises UserError for what cannot be computed here."""
    if engine == "caffe":
        if precision != "fp32":
            raise UserError(f"--precision {precision}: Caffe computes in fp32 only, use --engine torch")
        return
    from hkd import torch_engine

    torch_engine.require()
    if precision == "tf32" and device.gpu is None:
        raise UserError("--precision tf32 is of NVIDIA's GPUs: use fp32 or bf16 on a CPU")


# glibc gives a freed map back to the kernel, which has to clear its pages when the next one is asked for: a fifth of an
# iteration. Here freed memory is kept, up to a map of 1 GiB, and lies in huge pages. Other C libraries ignore it.
KEEP_MEMORY = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=8589934592"


def environment(engine, threads):
    """The environment variables for a process that trains: read by libraries when it starts."""
    variables = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    if engine == "torch":
        variables.setdefault("GLIBC_TUNABLES", KEEP_MEMORY)
    return variables


def choose_device(engine, gpu=None, cpu=False, threads=None):
    """The devices.Device for --gpu N, --cpu or neither."""
    name, remedy = {
        "caffe": ("this Caffe", "run CAFFE_CUDA=1 make setup"),
        "torch": ("this PyTorch", "install one with CUDA"),
    }[engine]
    return devices.choose(gpus(engine), name, remedy, gpu, cpu, threads)


def get_solver(engine, path, device, precision):
    """A solver for the solver file at `path` on `device` (devices.Device)."""
    if engine == "caffe":
        import caffe

        devices.use(device)
        return caffe.get_solver(str(path))
    import torch

    from hkd import torch_engine

    torch.set_num_threads(device.threads)
    return torch_engine.get_solver(path, "cpu" if device.gpu is None else f"cuda:{device.gpu}", precision)


def gpus(engine):
    """How many GPUs an engine can use here; None where it was built without."""
    if engine == "caffe":
        return devices.gpu_count() if devices.caffe_build()["cuda"] else None
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch.cuda.device_count() if torch.backends.cuda.is_built() else None


def version(engine):
    return importlib.metadata.version("torch") if engine == "torch" else None
