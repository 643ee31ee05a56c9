"""Settings of the trainer."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_type_hints

from annotated_types import Ge, Interval

from spectral_repro.bounds import Count, Positive, Seed, Share
from spectral_repro.configuration.arguments import rule_of


@dataclass(frozen=True)
class TrainerSettings:
    """Settings of a `Trainer`.

    Attributes:
        epochs: passes over the training data.
        batch_size: for data given as tensors.
        seed: of the order of such data, and of the random numbers of a ``batch_transform``.
        precision: of the forward pass (autocast).
        label_smoothing: share of the target that is spread evenly over all classes.
        reduction: whether the loss of a batch is the mean or the sum over its images.
        max_norm: largest norm of the gradient; larger gradients are scaled down. None: no limit.
        accumulate: number of parts of a batch that go through the network one after the other; their gradients are added. The
            statistics of normalisations are those of a part.
        ema_decay: d in ema <- d ema + (1 - d) weights, after every step; None: no average.
        evaluate_every: epochs between two evaluations; the last epoch is always evaluated.
        recalibrate_batches: number of training batches from which running statistics are recomputed before an evaluation.
        output_gap_batches: number of training batches for the output gap at an evaluation; None: it is not measured.
        log_every: steps between two readings of the loss from the device.
        checkpoint_every: steps between checkpoints within an epoch; None: only at the end of each epoch.

    Raises:
        ValueError: for a value that is not allowed; the message says which are.

    Example:
        >>> TrainerSettings(epochs=10, batch_size=0)
        Traceback (most recent call last):
        ValueError: batch_size=0: must be a whole number >= 1
    """

    epochs: Count
    batch_size: Count = 128
    seed: Seed = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    label_smoothing: Share = 0.0
    reduction: Literal["mean", "sum"] = "mean"
    max_norm: Positive | None = None
    accumulate: Count = 1
    ema_decay: Annotated[float, Interval(gt=0, lt=1)] | None = None
    evaluate_every: Count = 1
    recalibrate_batches: Annotated[int, Ge(0)] = 0
    output_gap_batches: Count | Literal["all"] | None = None
    log_every: Count = 50
    checkpoint_every: Count | None = None

    def __post_init__(self) -> None:
        for name, rule in SETTINGS.items():
            if not rule.holds(value := getattr(self, name)):
                raise ValueError(f"{name}={value}: must be {rule.allowed}")


# rules for these values, also for the command line
SETTINGS = {
    name: rule
    for name, annotation in get_type_hints(TrainerSettings, include_extras=True).items()
    if (rule := rule_of(annotation)) is not None
}
