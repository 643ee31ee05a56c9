"""Predicts classes of images: python -m spectral_repro.predict run=results/runs/<run> images=FOLDER [out=predictions.csv]"""

import csv
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from spectral_repro.configuration.compose import command
from spectral_repro.configuration.values import DEVICE, TEXT, WORKERS, one_of, whole
from spectral_repro.errors import UserError

RULES = {
    "run": TEXT,
    "images": TEXT,
    "out": TEXT.or_null(),
    "checkpoint": one_of("last", "best"),
    "weights": one_of("model", "ema"),
    "device": DEVICE,
    "batch_size": whole(1),
    "workers": WORKERS,
}


@command("predict")
def main(config: DictConfig) -> None:
    for override in HydraConfig.get().overrides.task:
        if (key := override.partition("=")[0]) not in RULES:
            raise UserError(f"{key}: unknown key; predict takes {', '.join(RULES)}")
    for key in ("run", "images"):
        if config[key] is None:
            raise UserError(f"{key}=null: name {'the folder of a run or a checkpoint file' if key == 'run' else 'a folder'}")
    for key, rule in RULES.items():
        rule.check(key, config[key])
    from spectral_repro.evaluation.prediction import files_in, predict
    from spectral_repro.evaluation.trained import load_trained
    from spectral_repro.training.environment import choose_device
    from spectral_repro.training.faults import WORKER_KILLED, is_of_workers, is_out_of_memory

    device, paths = choose_device(config.device), files_in(Path(config.images))
    trained, failed = load_trained(config.run, config.checkpoint, device, config.weights), 0
    try:
        with _output(config.out) as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("file", "class", "probability"))
            for path, found in predict(trained, paths, config.batch_size, config.workers):
                if isinstance(found, UserError):
                    print(found, file=sys.stderr, flush=True)
                    failed += 1
                else:
                    probability, number = found.max(0)
                    rows.writerow((path, trained.class_names[number], f"{probability:.4f}"))
            file.flush()
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(f"batch_size={config.batch_size}: out of memory, lower it") from error
        if is_of_workers(error, config.workers):
            raise UserError(f"workers={config.workers}: {WORKER_KILLED}; lower it, or start again") from error
        if isinstance(error, OSError):
            place = f"out={config.out}" if config.out else "standard output"
            raise UserError(f"{place}: cannot be written ({error.strerror})") from error
        raise
    if failed:
        raise UserError(f"{failed} of {len(paths)} files cannot be read as images, see above")


def _output(out: str | None) -> AbstractContextManager[TextIO]:
    """The file to write to, or standard output."""
    return Path(out).open("w", encoding="utf-8", errors="surrogateescape", newline="") if out else nullcontext(sys.stdout)


if __name__ == "__main__":
    main()
