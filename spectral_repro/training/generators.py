"""The random generators of the process: torch's on the CPU and on the device, NumPy's, Python's."""

import random

import numpy as np
import torch


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def states(device: torch.device) -> dict[str, object]:
    """Where they stand, in tensors and plain values."""
    legacy = np.random.get_state(legacy=False)
    numpy = legacy | {"state": legacy["state"] | {"key": torch.from_numpy(legacy["state"]["key"])}}
    found = {"cpu": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def restore(states: dict[str, object], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    numpy = states["numpy"]
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": numpy["state"]["key"].cpu().numpy()}})
    random.setstate(states["python"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
