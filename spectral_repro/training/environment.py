"""Where a run happens: device, versions, state of the code."""

import platform
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
    models = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else f"CPU {platform.machine()}"


def versions() -> dict[str, str]:
    packages = ("torch", "torchvision", "hydra-core", "numpy")
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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
