"""Where a run happens: device, versions, state of the code."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from spectral_repro import __version__


def choose_device(name: str) -> torch.device:
    """The device that ``device=`` names; auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processors()


def describe_machine(device: torch.device) -> dict[str, object]:
    """Platform, processors and memory, of a GPU also its memory, driver, CUDA and cuDNN; null for what is not known."""
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
    """Of Python, this package, what its numbers rest on, and the packages named."""
    packages = ("torch", "torchvision", "hydra-core", "numpy", *more)
    own = {"python": platform.python_version(), "spectral_repro": __version__}
    return own | {package: version(package) for package in packages}


def git_state() -> dict[str, object] | None:
    """Commit of the checkout that the code runs from and whether it was changed; None for a copy that git does not track."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

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
        return path.read_text()
    except OSError:
        return ""
