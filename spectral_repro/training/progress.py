"""What a user sees of a run: a bar in a terminal, a line per epoch anywhere."""

import sys
import time

from tqdm import tqdm

from spectral_repro.training.processes import is_main_process


class Progress:
    """Progress over the steps of a run.

    Throughput and time left are those of this process: steps done before an interruption do not count.
    """

    def __init__(self, name: str, steps: int, done: int, epochs: int):
        self.epochs, self.steps, self.done = epochs, steps, done
        self.started = time.monotonic()
        self.bar = tqdm(
            total=steps,
            initial=done,
            desc=name,
            unit="step",
            disable=not (is_main_process() and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def look(self, step: int, loss: float, accuracy: float, images_per_second: float) -> None:
        self.bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.1f} %, {images_per_second:.0f} images/s", refresh=False)
        self.bar.update(step - self.bar.n)

    def epoch(self, step: int, row: dict[str, float]) -> None:
        left = (time.monotonic() - self.started) / max(step - self.done, 1) * (self.steps - step)
        self.bar.write(
            f"epoch {row['epoch']}/{self.epochs}  train loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.1f} %  "
            f"test loss {row['test_loss']:.4f}  accuracy {row['test_accuracy']:.2f} %  "
            f"{row['images_per_second']:.0f} images/s  {clock(left)} left"
        )
        sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
