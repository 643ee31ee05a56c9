"""python -m spectral_repro.train: one run, or with -m many."""

import signal
import sys
import traceback

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.rules import check
from spectral_repro.errors import UserError


@command("train")
def main(config: DictConfig) -> dict[str, object]:
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    chosen = {group: choices[group] for group in choices if choices[group]}  # ~norm leaves no choice of norm
    parts = [chosen[group] for group in ("model", "norm", "conv", "dataset") if group in chosen]
    name = chosen.get("experiment") or chosen.get("study") or "_".join(parts)
    try:
        check(config)
        from spectral_repro.training.execute import execute

        job = hydra.job.num if hydra.mode == RunMode.MULTIRUN else 0
        return execute(config, name.replace("/", "_"), list(hydra.overrides.task), job)
    except KeyboardInterrupt as stop:
        if signal.SIGUSR2 in stop.args:  # of submitit, whose handler puts the job back into the queue
            signal.raise_signal(signal.SIGUSR2)
        raise
    except UserError as error:
        if hydra.mode == RunMode.MULTIRUN:  # which has the last word only when all jobs are done
            print(f"job {hydra.job.num} failed: {error}", file=sys.stderr, flush=True)
        raise
    except Exception:
        if hydra.mode == RunMode.MULTIRUN:
            traceback.print_exc()
        raise


if __name__ == "__main__":
    main()
