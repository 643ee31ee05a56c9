"""The machine, the versions and the date of a measurement."""

import platform
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import torch

from spectral_repro.training.environment import describe_device, git_state, versions


def measured_on(device: torch.device) -> str:
    threads, known = torch.get_num_threads(), versions()
    parts = [describe_device(device), f"{threads} thread{'s' * (threads != 1)}"]
    parts += [f"{name} {known[name]}" for name in ("torch", "python", "spectral_repro")]
    parts.append(date.today().isoformat())
    if state := git_state():
        parts.append(f"commit {state['commit'][:7]}{' with changes' if state['dirty'] else ''}")
    return f"Measured on {', '.join(parts)}."


VECTORS = ("amx_bf16", "avx512_bf16", "avx512_f", "avx2")  # instructions for matrix products, fastest first


def processor() -> dict[str, str]:
    """What ratios of times depend on: name, vector instructions, caches of a core in KiB, and the release of torch."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older releases of torch
    caches = [known[key] // 1024 for key in ("l1d_cache_size", "l2_cache_size") if known.get(key)]
    return {
        "processor": str(known.get("cpu_name") or platform.machine()),
        "features": " ".join(name for name in VECTORS if known.get(name)),
        "caches": " + ".join(map(str, caches)),
        "torch": torch.__version__.split("+")[0],
    }


def short_name() -> str:
    """The processor and its best vector instructions for use in file names, such as amd_epyc_avx512_bf16."""
    found = processor()
    return re.sub(r"\W+", "_", " ".join([found["processor"], *found["features"].split()[:1]]).lower()).strip("_")
