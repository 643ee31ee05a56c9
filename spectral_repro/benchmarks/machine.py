"""Where and when something was measured, in a sentence."""

from datetime import date

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
