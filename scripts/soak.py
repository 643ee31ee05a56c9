"""Kills small runs of all five papers at random moments, again and again, and looks at what becomes of them.

    python scripts/soak.py [number of kills, 200] [seed, 0]

In every round the five are trained one after the other in a process of its own, which is killed (SIGKILL) and started again
until all are finished. They must end with the bits, and the rows of metrics.csv, of undisturbed runs. Exit status 1 if not.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig

from spectral_repro.configuration.compose import compose
from spectral_repro.errors import UserError
from spectral_repro.reporting.runs import read_run
from spectral_repro.training.checkpoint import read_checkpoint
from spectral_repro.training.execute import execute
from spectral_repro.training.files import PARTIAL
from spectral_repro.training.run_folder import OVER, RunFolder

EXPERIMENTS = (
    ("wang2019/resnet18_zca_d4", "model.width=4"),
    ("song2021/cifar10_taylor", "model.width=4", "pooling.channels=4"),
    ("cho2017/cifar10_vgg13_adamg", "model.width=4"),
    ("senderovich2022/narrow_wrn16_tt_divide", "model.width=4", "constraint.every=1"),
    ("daneshmand2021/figure7_svd_15", "model.width=4"),
)
SMALL = (
    *("dataset=random", "dataset.image_size=8", "scale=smoke", "logger=none"),
    *("trainer.epochs=3", "trainer.threads=1", "trainer.checkpoint_every=1", "trainer.log_every=1"),
)
TIMINGS = ["images_per_second", "step_time", "seconds"]


def configurations(results: Path) -> dict[str, DictConfig]:
    return {name: compose([f"experiment={name}", *SMALL, *more, f"results_dir={results}"]) for name, *more in EXPERIMENTS}


def train(configs: dict[str, DictConfig]) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        for name, config in configs.items():
            execute(config, name.replace("/", "_"), [])


def start(configs: dict[str, DictConfig]) -> int:
    """The number of a process that trains what is not finished."""
    process = os.fork()
    if process == 0:
        try:
            train(configs)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return process


def killed(process: int, seconds: float) -> bool:
    """Kills a process after some time; False if it has ended by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        number, status = os.waitpid(process, os.WNOHANG)
        if number and status:
            sys.exit("a run failed that nobody killed")
        if number:
            return False
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def at_work_on(runs: dict[str, RunFolder]) -> str:
    """The first that is not finished."""
    return next((name for name, run in runs.items() if state(run.folder) not in OVER), "none")


def state(folder: Path) -> str:
    path = folder / "summary.json"
    return json.loads(path.read_text())["state"] if path.exists() else "new"


def differences(folder: Path, reference: Path) -> Counter:
    """What must be 0: weights that are not the same bits, rows lost, twice or changed, files left over, unfinished."""
    found, expected = (read_checkpoint(each / "checkpoints" / "last.pt")["model"] for each in (folder, reference))
    run, undisturbed = read_run(folder), read_run(reference)
    rows, right = (each.metrics.drop(columns=TIMINGS) for each in (run, undisturbed))
    return Counter(
        {
            "bits": sum(not torch.equal(found[key], expected[key]) for key in expected),
            "lost": len(set(right["epoch"]) - set(rows["epoch"])),
            "twice": int(rows["epoch"].duplicated().sum()),
            "changed": int(len(rows) == len(right) and not rows.equals(right)),
            "files": len(list(folder.rglob(f"*{PARTIAL}"))),
            "unfinished": int(run.state != "finished"),
        }
    )


def main(kills: int = 200, seed: int = 0) -> int:
    generator, counts = random.Random(seed), {name: Counter() for name, *_ in EXPERIMENTS}
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        reference = configurations(Path(place, "reference"))
        began = time.monotonic()
        train(reference)
        longest = (time.monotonic() - began) / 3
        folders = {name: RunFolder(config, name.replace("/", "_")).folder for name, config in reference.items()}
        done, rounds = 0, 0
        while done < kills:
            rounds += 1
            configs = configurations(Path(place, f"round{rounds}"))
            runs = {name: RunFolder(config, name.replace("/", "_")) for name, config in configs.items()}
            while at_work_on(runs) != "none":
                name = at_work_on(runs)
                counts[name]["resumes"] += bool(runs[name].checkpoints)
                if killed(start(configs), generator.uniform(0, longest) if done < kills else float("inf")):
                    if (name := at_work_on(runs)) in counts:  # else it was killed when all of them had finished
                        counts[name]["kills"] += 1
                    done += 1
            for name, run in runs.items():
                counts[name] += differences(run.folder, folders[name])
    bad = ("bits", "lost", "twice", "changed", "files", "unfinished")
    print(f"{'run':<40}" + "".join(f"{column:>11}" for column in ("kills", "resumes", *bad)))
    for name, count in counts.items():
        print(f"{name:<40}" + "".join(f"{count[column]:>11}" for column in ("kills", "resumes", *bad)))
    print(f"{done} kills in {rounds} rounds")
    return int(any(count[column] for count in counts.values() for column in bad))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
