"""Evaluates trained networks: python -m spectral_repro.evaluate run=results/runs/<run> metrics=[calibration,...]"""

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from spectral_repro.configuration.arguments import check_arguments
from spectral_repro.configuration.compose import command
from spectral_repro.configuration.groups import options
from spectral_repro.configuration.identity import flatten, within
from spectral_repro.configuration.values import DEVICE, SWITCH, TEXT, one_of, whole
from spectral_repro.errors import UserError, in_one_line

CHECKPOINTS = ("last", "best")


RULES = {
    "run": TEXT.or_null(),
    "runs": TEXT.or_null(),
    "checkpoint": TEXT,
    "weights": one_of("model", "ema"),
    "device": DEVICE,
    "batch_size": whole(1).or_null(),
    "force": SWITCH,
    "dataset.root": TEXT.or_null(),
    "dataset.download": SWITCH.or_null(),
    "dataset.check_integrity": SWITCH.or_null(),
}


@command("evaluate")
def main(config: DictConfig) -> None:
    if missing := RULES.keys() - flatten(config).keys():
        raise UserError(f"{min(missing)}: is missing; keep it, or set it to null")
    chosen = [str(key) for key, node in config.items() if isinstance(node, DictConfig) and "_target_" in node]
    check(config, chosen)
    from spectral_repro.evaluation.measure import measure
    from spectral_repro.evaluation.subjects import find, paths_in, without_weights
    from spectral_repro.training.build import build_measurement
    from spectral_repro.training.environment import choose_device

    measurements = {name: build_measurement(config, name) for name in chosen}
    device = choose_device(config.device)
    dataset = {str(key): value for key, value in config.dataset.items() if value is not None}
    paths = paths_in(Path(config.runs)) if config.runs else [Path(config.run or config.checkpoint)]
    failures: list[str] = []
    for path in paths:
        try:
            if config.runs and (kind := without_weights(path)):
                print(f"{path}: {kind}, nothing to evaluate")
                continue
            subject = find(path, config.checkpoint, config.weights)
            found = list(map(str, measure(subject, measurements, device, config.batch_size, dataset, config.force)))
        except Exception as error:  # the other runs of a folder do not depend on this one
            if not (config.runs or isinstance(error, UserError)):
                raise
            fault = str(error) if isinstance(error, UserError) else in_one_line(error)
            found = [fault if fault.startswith(str(path)) or not config.runs else f"{path}: {fault}"]
        if config.runs:
            print(*found, sep="\n", end="\n" * bool(found), file=sys.stderr, flush=True)
        failures += found
    if failures:
        raise UserError(f"{len(failures)} failed, see above" if config.runs else "\n".join(failures))


def check(config: DictConfig, chosen: list[str]) -> None:
    """Checks every value by its rule, or by the signature of the measurement that it is an argument of.

    Raises:
        UserError: for the first unknown key or invalid value, or if it is not clear what to evaluate.
    """
    for key, value in flatten(config).items():
        if within(key, tuple(chosen)):
            continue
        if key not in RULES:
            raise UserError(f"{key}: no such key; there are {', '.join(RULES)}")
        RULES[key].check(key, value)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    check_arguments(plain)
    if not chosen:
        raise UserError(f"metrics: choose from {', '.join(options('metrics'))}")
    own = config.checkpoint not in CHECKPOINTS
    if [config.run is not None, config.runs is not None, own].count(True) != 1:
        raise UserError(
            "name one of run=FOLDER (of a run), runs=FOLDER (of many) and checkpoint=FILE (weights with their config); "
            f"checkpoint={' or '.join(CHECKPOINTS)} is a run's"
        )


if __name__ == "__main__":
    main()
