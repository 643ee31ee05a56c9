"""How long a run would take, from how fast runs like it were."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from spectral_repro.configuration.identity import within
from spectral_repro.reporting.protocols import Values
from spectral_repro.reporting.runs import Run

NETWORK = ("model", "dataset.image_size", "dataset.channels", "dataset.batch_size", "precision", "trainer.compile")
IMAGES = {  # training images where a configuration takes all of them
    "cifar10": 50_000, "cifar100": 50_000, "svhn": 604_388, "digits": 1_437, "imagenet": 1_281_167,
    "cub": 5_994, "cars": 8_144, "dogs": 12_000, "aircraft": 6_667,
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Seconds of a training on a machine, from images/s of `runs` runs there of the same network on images of the same size.

    Attributes:
        same: were these runs of the very row, or of other treatments of the network?
    """

    machine: str
    seconds: float
    images_per_second: float
    runs: int
    same: bool


class Speeds:
    """The images/s of all runs, by machine and network."""

    def __init__(self, runs: Iterable[Run]):
        self._runs = defaultdict(list)
        for run in runs:
            if run.summary.get("images_per_second"):
                self._runs[_network(run.identity)].append(run)

    def cost(self, values: Values, compared: Values) -> list[Cost]:
        """Of one run with these values, on each machine with a run of its network; none if nobody has measured it.

        Args:
            values: what decides its result.
            compared: those of the values that tell it from the other rows: runs that share them are asked first.
        """
        images = values.get("dataset.train_images") or IMAGES.get(values.get("dataset.name"))
        by_machine = defaultdict(list)
        for run in self._runs[_network(values)]:
            by_machine[run.machine].append(run)
        costs = []
        for machine, runs in by_machine.items() if images else ():
            own = [run for run in runs if compared.items() <= run.identity.items()]
            speed = median(run.summary["images_per_second"] for run in own or runs)
            costs.append(Cost(machine, images * values["trainer.epochs"] / speed, speed, len(own or runs), bool(own)))
        return costs


def _network(values: Values) -> str:
    return repr(sorted((key, value) for key, value in values.items() if within(key, NETWORK) and key != "model.num_classes"))
