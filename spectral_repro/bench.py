"""Runs a benchmark: python -m spectral_repro.bench suite=gradients [out=...]"""

from pathlib import Path
from tempfile import TemporaryFile

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.targets import instantiate
from spectral_repro.configuration.values import DEVICE, TEXT, THREADS, whole
from spectral_repro.errors import UserError

RULES = {"out": TEXT, "device": DEVICE, "threads": THREADS.or_null(), "seed": whole(0, below=2**32)}
KEYS = ("suite", "scale", *RULES)


@command("bench")
def main(config: DictConfig) -> None:
    keys = (*KEYS, *((config.get("suite") or {}).get("keys") or ()))
    for override in HydraConfig.get().overrides.task:
        if (key := override.partition("=")[0]) not in keys:
            raise UserError(f"{key}: unknown key; this suite takes {', '.join(keys)}")
    if config.get("suite") is None:
        raise UserError(f"suite=null: name one of {', '.join(options('suite'))}")
    for key, rule in RULES.items():
        rule.check(key, config[key])
    out = Path(config.out)
    _make(out)
    import torch

    from spectral_repro.benchmarks.machine import measured_on
    from spectral_repro.benchmarks.write import write
    from spectral_repro.training.environment import choose_device

    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    scale = config.suite.scales[config.scale.name]
    suite = instantiate(config.suite.measure, **scale, device=device, seed=config.seed, _convert_="all")
    where = measured_on(device)
    for text in write(suite.measure(), where, out):
        print(text)


def _make(out: Path) -> None:
    """Makes the folder and checks that it can be written to, before anything is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"out={out}: nothing can be written there ({error.strerror}); name another folder") from error


if __name__ == "__main__":
    main()
