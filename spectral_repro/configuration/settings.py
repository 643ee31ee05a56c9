"""What a training may be told."""

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
        batch_size: of data that are given as tensors.
        seed: of the order of such data, and of what a ``batch_transform`` draws.
        precision: of the forward pass (autocast).
        label_smoothing: share of the target that is spread evenly over all classes.
        reduction: whether the loss of a batch is the mean or the sum over its images.
        max_norm: a longer gradient is shortened to this norm; None: never.
        accumulate: parts of a batch that go through the network one after the other, their gradients added. The statistics of
            normalisations are those of a part.
        ema_decay: d in ema <- d ema + (1 - d) weights, after every step; None: no such average.
        evaluate_every: epochs between two evaluations; the last epoch always has one.
        recalibrate_batches: training batches from which running statistics are computed anew before an evaluation.
        output_gap_batches: training batches of which the output gap is measured at an evaluation; None: it is not.
        log_every: steps between two readings of the loss from the device.
        checkpoint_every: steps between checkpoints within an epoch; None: one at the end of each.

    Raises:
        ValueError: for a value that is not allowed, with what is.

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


# what each of them may be, on the command line as well
SETTINGS = {
    name: rule
    for name, annotation in get_type_hints(TrainerSettings, include_extras=True).items()
    if (rule := rule_of(annotation)) is not None
}
