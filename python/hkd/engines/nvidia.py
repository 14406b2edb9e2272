"""What NVIDIA's driver says of the GPUs, asked through its C library: in the order and under the numbers that CUDA and
Caffe use (nvidia-smi numbers them otherwise, and knows nothing of CUDA_VISIBLE_DEVICES).
"""

import ctypes
from contextlib import contextmanager
from dataclasses import dataclass

from hkd.base.cli import UserError

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h


class NoGpu(Exception):
    """Why no GPU can be used, in words for the user."""


@dataclass(frozen=True)
class Gpu:
    """name: as NVIDIA calls it; capability: (major, minor); free, total: bytes of its memory."""

    name: str
    capability: tuple[int, int]
    free: int
    total: int


def count():
    """How many GPUs can be used. Raises NoGpu instead of returning 0."""
    driver = _driver()
    found = ctypes.c_int()
    _check(driver, driver.cuDeviceGetCount(ctypes.byref(found)))
    if not found.value:
        raise NoGpu("NVIDIA's driver shows no GPU")
    return found.value


def why_none():
    """The words of NoGpu, '' where there is a GPU."""
    try:
        count()
    except NoGpu as reason:
        return str(reason)
    return ""


def describe(number):
    """The Gpu of that number. Its memory is counted with a context open, as a process that computes there has one."""
    driver, device, name = _driver(), ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(driver, driver.cuDeviceGet(ctypes.byref(device), number))
    _check(driver, driver.cuDeviceGetName(name, len(name), device))
    with _context(driver, device):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        _check(driver, driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    capability = (_attribute(driver, MAJOR, device), _attribute(driver, MINOR, device))
    return Gpu(name.value.decode(), capability, free.value, total.value)


def check_code(number, gpu, architectures):
    """Raises UserError where code for `architectures` (none: not known) does not run on GPU `number`, that is `gpu`."""
    if architectures and not runs_on(architectures, gpu.capability):
        wanted = "".join(map(str, gpu.capability))
        raise UserError(
            f"GPU {number} ({gpu.name}) is of architecture {wanted}, this Caffe was compiled for {', '.join(architectures)}: run "
            f"CAFFE_CUDA=1 CAFFE_CUDA_ARCHITECTURES={wanted} make setup, choose another one with --gpu, or use --cpu"
        )


def runs_on(architectures, capability):
    """Whether code for `architectures` (as CMake writes them: 75-real, 90, 90-virtual) runs on a card: machine code does
    on its own generation from its minor number on, PTX on anything as new."""
    for architecture in architectures:
        number, _, kind = architecture.partition("-")
        built = (int(number[:-1]), int(number[-1]))
        if kind != "virtual" and built[0] == capability[0] and built <= capability:
            return True
        if kind != "real" and built <= capability:
            return True
    return False


def _driver():
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NoGpu("no NVIDIA driver is here (libcuda.so.1; a container needs to be started with its GPUs)") from None
    _check(driver, driver.cuInit(0))
    return driver


@contextmanager
def _context(driver, device):
    context = ctypes.c_void_p()
    _check(driver, driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _check(driver, driver.cuCtxPushCurrent_v2(context))
        yield
        _check(driver, driver.cuCtxPopCurrent_v2(ctypes.byref(context)))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _attribute(driver, which, device):
    value = ctypes.c_int()
    _check(driver, driver.cuDeviceGetAttribute(ctypes.byref(value), which, device))
    return value.value


def _check(driver, error):
    if error:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(error, ctypes.byref(text))
        words = (text.value or b"unknown error").decode()
        raise NoGpu(f"NVIDIA's driver says: {words} (error {error})")
