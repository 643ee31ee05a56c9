"""The environment of a run: device, versions, state of the code, memory."""

import ctypes
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from spectral_repro import __version__
from spectral_repro.errors import UserError
from spectral_repro.layers.replicas import replicas
from spectral_repro.training.processes import of_all_ranks

FLAGS_OF_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo, the last one on ARM


def choose_device(name: str, job: int = 0) -> torch.device:
    """The device that ``device=`` names; auto is a GPU if there is one. The jobs of a sweep use several GPUs in turn, and so do
    the processes of one run on a machine.

    Raises:
        UserError: if there is not a GPU for each process of a run.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or not count:
        return torch.device("cpu")
    if replicas() == 1:
        return torch.device(f"cuda:{job % count}" if name == "auto" and count > 1 else name.replace("auto", "cuda"))
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if count == 1 and ":" not in name:
        cards = of_all_ranks(str(torch.cuda.get_device_properties(0).uuid))
        if len({*cards}) == replicas():
            return torch.device("cuda:0")  # Slurm shows each of its tasks a GPU of its own
    if ":" in name or here > count:
        raise UserError(f"device={name}: {here} processes need one GPU each, and {count} are here; take device=auto, or cpu")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", torch.cuda.current_device())


def fastest_precision(device: torch.device) -> str:
    """The precision for precision=auto: bfloat16 if the device has instructions for it, otherwise float32.

    With them a processor is two to three times faster in bfloat16 than in float32, without them it is slower.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags = re.findall(r"^(?:flags|Features)\s*:(.*)", _text(Path("/proc/cpuinfo")), re.MULTILINE)
        fast = any(not FLAGS_OF_BFLOAT16.isdisjoint(line.split()) for line in flags)
    return "bfloat16" if fast else "float32"


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processors()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Platform, processors and memory; for a GPU also its memory, driver, CUDA and cuDNN; null for unknown values."""
    kibibytes = re.search(r"MemTotal: *(\d+)", _text(Path("/proc/meminfo")))
    machine = {
        "platform": platform.platform(),
        "processors": _processors(),
        "memory_gib": round(int(kibibytes[1]) / 2**20, 1) if kibibytes else None,
    }
    if device.type != "cuda":
        return machine
    driver = re.search(r"\d+\.[\d.]+", _text(Path("/proc/driver/nvidia/version")))
    return machine | {
        "gpu_memory_gib": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1),
        "driver": driver and driver[0],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, this package, its main dependencies and the packages named."""
    packages = ("torch", "torchvision", "hydra-core", "numpy", *more)
    own = {"python": platform.python_version(), "spectral_repro": __version__}
    return own | {package: version(package) for package in packages}


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout of this code and whether it has changes; None if git does not track it."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", *arguments]  # a run that ends meanwhile must not leave a lock behind
        return subprocess.run(command, cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _processors() -> str:
    models = re.findall(r"^model name\s*: (.*)", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return f"{len(models)} x {models[0]}" if models else f"{os.cpu_count()} x {platform.machine()}"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
LARGE = 32 * 2**20  # bytes; glibc by default keeps blocks up to this size


def keep_freed(large: bool = True) -> None:
    """Lets this process keep the memory of freed tensors, where glibc would return large blocks to the system.

    New pages are mapped one by one and filled with zeros, which takes half the time of batch norm on 128 x 64 x 32 x 32
    numbers. The process keeps its largest size. Does nothing without glibc.

    Args:
        large: also keep blocks above 32 MiB. If False, they are returned, as glibc does by default.
    """
    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0 if large else 2**16)
        libc.mallopt(MMAP_THRESHOLD, LARGE)
        libc.mallopt(TRIM_THRESHOLD, -1 if large else 2 * LARGE)


def return_freed() -> None:
    """Returns the memory of freed tensors to the system. Does nothing without glibc."""
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
