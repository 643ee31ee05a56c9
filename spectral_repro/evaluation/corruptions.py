"""Accuracy on corrupted test images."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval, Predicate
from tqdm import tqdm

from spectral_repro.bounds import Count, each_once
from spectral_repro.data.corrupted import (
    CORRUPTIONS,
    PACKAGE,
    PUBLISHED,
    SEVERITIES,
    CorruptedImages,
    check_generator,
    generated_corruptions,
    published_corruptions,
)
from spectral_repro.data.images import subset
from spectral_repro.errors import UserError
from spectral_repro.evaluation.accuracy import accuracy
from spectral_repro.evaluation.measurement import Measurement
from spectral_repro.evaluation.trained import Trained


@dataclass(frozen=True)
class Corruptions(Measurement):
    """Accuracy in percent under each corruption at each severity, and the mean over all of them.

    Attributes:
        source: "published" (CIFAR-10-C, CIFAR-100-C) or "generated" from the test images. The two are not comparable, so the
            mean is named corruption_accuracy or generated_corruption_accuracy.
        images: a fixed random choice of the test images, of this size; None: all of them.
        root: folder of the published or generated files; None: that of the data set.
        download: download missing published files.
        workers: processes that generate; 0: this one.

    Raises:
        UserError: for an unknown name, and if the package that generates corruptions is needed and missing.

    Example:
        >>> corruptions = Corruptions("generated", ["fog"], [1, 5], images=500, root=None, download=False, workers=0)
        >>> corruptions.settings  # python -m spectral_repro.evaluate metrics=corruptions corruptions.source=generated
        {'source': 'generated', 'names': ['fog'], 'severities': [1, 5], 'images': 500}
    """

    source: Literal["published", "generated"]
    names: Annotated[list[str], Predicate(each_once)]
    severities: Annotated[list[Annotated[int, Interval(ge=1, le=5)]], Predicate(each_once)]
    images: Count | None
    root: str | None = field(compare=False)
    download: bool = field(compare=False)
    workers: Annotated[int, Ge(0)] = field(compare=False)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.names if name not in CORRUPTIONS]:
            raise UserError(f"corruptions.names={', '.join(unknown)}: must be among {', '.join(CORRUPTIONS)}")
        if self.source == "generated":
            check_generator()

    @property
    def packages(self) -> tuple[str, ...]:
        return (PACKAGE,) if self.source == "generated" else ()

    def __call__(self, trained: Trained) -> dict[str, Any]:
        """
        Raises:
            UserError: for images that are missing, damaged, or cannot be made.
        """
        images, dataset = self._corrupted(trained), trained.config.dataset
        found = {}
        for name in tqdm(self.names, unit="corruption", disable=not sys.stderr.isatty(), leave=False):
            splits = [subset(images.split(name, severity), self._count(trained)) for severity in self.severities]
            found[name] = [accuracy(*trained.predict(split, trained.config.precision)) for split in splits]
        prefix, source = ("", PUBLISHED[dataset.name][0]) if self.source == "published" else ("generated_", "generated")
        count = len(splits[0].labels)
        return {
            "conditions": ", ".join([source, *self._parts(), f"{count:,} images"]),
            "images": count,
            f"{prefix}corruption_accuracy": float(np.mean(list(found.values()))),
            "accuracy": found,
        }

    def _corrupted(self, trained: Trained) -> CorruptedImages:
        dataset = trained.config.dataset
        root = Path(self.root or dataset.root).expanduser()
        if self.source == "published":
            return published_corruptions(dataset.name, root, self.download)
        return generated_corruptions(dataset.name, subset(trained.images.test, self.images), root, self.workers)

    def _count(self, trained: Trained) -> int | None:
        """The number of published images to use: at most as many as there are test images. Generated ones need no selection."""
        limits = [count for count in (self.images, trained.config.dataset.test_images) if count is not None]
        return min(limits, default=None) if self.source == "published" else None

    def _parts(self) -> list[str]:
        names = [] if len(self.names) == len(CORRUPTIONS) else [f"{len(self.names)} of {len(CORRUPTIONS)} corruptions"]
        severities = sorted(self.severities)
        return names + ([] if severities == list(SEVERITIES) else [f"severity {', '.join(map(str, severities))}"])
