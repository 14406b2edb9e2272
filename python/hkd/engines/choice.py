"""What computes: BVLC Caffe, or PyTorch on the same files. Both give a solver with pycaffe's methods."""

import importlib.util
import os
import re
from dataclasses import replace

from hkd.base import packages
from hkd.base.cli import UserError, caffe_info, did_you_mean
from hkd.engines import devices
from hkd.networks import prototxt

ENGINES = ("caffe", "torch")
PRECISIONS = ("fp32", "tf32", "bf16")
AUTO = "auto"  # bf16 on a CPU that is faster with it, else fp32


def label(engine, precision, gpus=1):
    """How records and tables name it: caffe, torch, torch-bf16, caffe-4gpu."""
    return "-".join([engine, *([precision] if precision != "fp32" else []), *([f"{gpus}gpu"] if gpus > 1 else [])])


LABELS = ("caffe", *(label("torch", precision) for precision in PRECISIONS))


def read_label(label):
    """(engine, precision) of a label of one device. Raises UserError for another word."""
    if label not in LABELS:
        raise did_you_mean(label, LABELS, "engine")
    engine, _, precision = label.partition("-")
    return engine, precision or "fp32"


MANY_GPUS = re.compile(r"caffe-\d+gpu")  # labels too


def asked_for(label):
    """The arguments by which a record's engine is had again; of several engines, the first."""
    first = label.partition("+")[0]
    if MANY_GPUS.fullmatch(first):
        return f"--gpu all on {first.partition('-')[2].removesuffix('gpu')} GPUs"
    engine, _, precision = first.partition("-")
    return f"--engine {engine}" + (f" --precision {precision}" if precision else " on one GPU or the CPU")


def default():
    """(the engine of those that are here, a line for the user or ''): Caffe where it is."""
    if is_here("caffe"):
        return "caffe", ""
    if is_here("torch"):
        return "torch", "no pycaffe here: --engine torch"
    return (
        "torch",
        "neither pycaffe nor PyTorch is here: nothing can be trained before `make setup` or `pip install '.[torch]'`",
    )


def is_here(engine):
    """Whether an engine can be imported."""
    return caffe_info() is not None if engine == "caffe" else importlib.util.find_spec("torch") is not None


def require(engine):
    """Raises UserError where an engine is not installed."""
    if engine == "caffe" and not is_here("caffe"):
        raise UserError(
            "--engine caffe needs pycaffe, which is not here: `make setup` builds it; or use --engine torch"
        )
    if engine == "torch":
        from hkd.engines import torch as torch_engine

        torch_engine.require()


def check(engine, precision, device):
    """Raises UserError for what an engine does not compute, wherever it is."""
    if engine == "caffe":
        if precision != "fp32":
            raise UserError(f"--precision {precision}: Caffe computes in fp32 only, use --engine torch")
        return
    if precision == "tf32" and device.gpu is None:
        raise UserError("--precision tf32 is of NVIDIA's GPUs: use fp32 or bf16 on a CPU")


def settled(precision, engine, device):
    """The precision that `precision`, of PRECISIONS or AUTO, comes to here, and a line for the user or ''."""
    if precision not in (AUTO, "bf16") or engine != "torch" or device.gpus:
        return ("fp32" if precision == AUTO else precision), ""
    if devices.bf16_is_fast():
        return "bf16", ""
    why = "this CPU multiplies bf16 numbers no faster than fp32 ones"
    if precision == AUTO:
        return "fp32", f"{why}: --precision auto is fp32 here"
    return "bf16", f"{why}: --precision bf16 saves no time here"


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
    name, remedy, one_gpu = {
        "caffe": (
            "this Caffe",
            "run CAFFE_CUDA=1 make setup",
            "this Caffe was built without NCCL: run CAFFE_CUDA=1 CAFFE_NCCL=1 make setup",
        ),
        "torch": ("this PyTorch", "install one with CUDA", "--engine torch computes on one GPU: use --engine caffe"),
    }[engine]
    if engine == "caffe" and devices.caffe_build()["nccl"]:
        one_gpu = ""
    if not is_here(engine):  # a plan can be shown all the same
        return replace(devices.choose(0, name, remedy, cpu=True, threads=threads), why=f"no {engine} here")
    return devices.choose(gpus(engine), name, remedy, gpu, cpu, threads, one_gpu)


def check_memo(memo, engine, device):
    """Raises UserError for --memo where no answers of a teacher are kept."""
    if memo and engine != "torch":
        raise UserError("--memo: Caffe asks its teacher in every iteration, use --engine torch")
    if memo and device.gpus:
        raise UserError("--memo is of the CPU: a GPU asks the teacher faster than a disk answers")


def deterministic(engine, device):
    """Whether every operation there is one that gives the same bits each time. On a GPU that is by choice of algorithms
    (docker/caffe/cudnn-8-algorithms.patch); neither NCCL nor PyTorch's default on a GPU promises it."""
    return not device.gpus or (engine == "caffe" and len(device.gpus) == 1)


def get_solver(engine, path, device, precision, rank=0):
    """A solver for the solver file at `path` on `device` (devices.Device), of several GPUs on the one of `rank`."""
    if engine == "caffe":
        import caffe

        devices.use(device, rank)
        return caffe.get_solver(str(path))
    import torch

    from hkd.engines import torch as torch_engine

    torch.set_num_threads(device.threads)
    return torch_engine.get_solver(path, "cpu" if device.gpu is None else f"cuda:{device.gpu}", precision)


def train_net(engine, network):
    """The TRAIN net of a NetParameter without Data layers, in float32 on the CPU or on Caffe's device of now."""
    return _net(engine, network, prototxt.TRAIN)


def parameter_shapes(engine, network, facts):
    """{layer name: [shape of each parameter blob]} of a network, as the engine itself builds it, without opening its LMDBs."""
    net = _net(engine, prototxt.with_inputs(network, facts), prototxt.TEST)
    return {name: [tuple(blob.data.shape) for blob in blobs] for name, blobs in net.params.items()}


def _net(engine, network, phase):
    if engine == "caffe":
        return prototxt.as_net(network, phase)
    from hkd.engines.torch.net import Net

    return Net(network, phase, random_seed=0)


def gpus(engine):
    """How many GPUs an engine can use here; None where it was built without."""
    if engine == "caffe":
        return devices.gpu_count() if devices.caffe_build()["cuda"] else None
    built = packages.version_module("torch")
    if not (built.get("cuda") or built.get("hip")):
        return None
    import torch

    return torch.cuda.device_count()


def version(engine):
    """The version of PyTorch for engine "torch", None for Caffe, whose build_info.json says more."""
    return packages.version_module("torch")["__version__"] if engine == "torch" else None
