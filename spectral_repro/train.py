"""Trains a network: python -m spectral_repro.train, with -m for many runs."""

import re
import signal
import sys
import traceback

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command, replace_unprintable
from spectral_repro.configuration.folders import CONF, read_yaml
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError

NAMING = (
    *("pooling", "backward", "loss", "optimizer", "param_groups", "schedule", "init", "finetune", "gradient_clipping"),
    *("constraint", "penalty"),
)


@command("train")
def main(config: DictConfig) -> dict[str, object]:
    replace_unprintable()  # a launcher may run this function in a process of its own
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    chosen = {group: choices[group] for group in choices if choices[group]}  # after ~norm there is no choice of norm
    try:
        check(config)
        name = chosen.get("experiment") or chosen.get("study") or run_name(chosen, config.dataset.name)
        from spectral_repro.training.execute import execute

        job = hydra.job.num if hydra.mode == RunMode.MULTIRUN else 0
        return execute(config, name.replace("/", "_"), list(hydra.overrides.task), job)
    except KeyboardInterrupt as stop:
        if signal.SIGUSR2 in stop.args:  # from submitit, whose handler queues the job again
            signal.raise_signal(signal.SIGUSR2)
        raise
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN:  # a sweep reports its errors only after all jobs
            print(f"job {hydra.job.num} failed: {error}", file=sys.stderr, flush=True)
        raise
    except Exception:
        if hydra.mode == RunMode.MULTIRUN:
            traceback.print_exc()
        raise


def run_name(chosen: dict[str, str], dataset: str) -> str:
    """Model, normalisation, convolutions and data set, and other choices that differ from the defaults of train.yaml.

    A gradient that the normalisation names, such as pi in zca_pi, is not repeated.
    """
    defaults: dict[str, str | None] = {}
    for each in read_yaml(CONF / "train.yaml")["defaults"]:
        defaults |= each if isinstance(each, dict) else {}
    parts = [chosen[group] for group in ("model", "norm", "conv") if group in chosen] + [re.sub(r"[^\w.]+", "-", dataset)]
    for group in NAMING:
        option = chosen.get(group)
        named = group == "backward" and any(part.endswith(f"_{option}") for part in parts)
        if option and option != defaults[group] and not named:
            parts.append(option)
    return "_".join(parts)


if __name__ == "__main__":
    main()
