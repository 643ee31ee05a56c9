"""The base class of measurements."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

from spectral_repro.evaluation.trained import Trained


@dataclass(frozen=True)
class Measurement(ABC):
    """A measurement of a trained network; a field with ``compare=False`` cannot change the result.

    Example:
        >>> class Confidence(Measurement):
        ...     def __call__(self, trained):
        ...         logits, labels = trained.predictions
        ...         confidence = logits.softmax(1).amax(1).mean().item()
        ...         return {"conditions": f"{len(labels)} images", "images": len(labels), "confidence": confidence}
        >>> Confidence().settings
        {}
    """

    @abstractmethod
    def __call__(self, trained: Trained) -> dict[str, Any]:
        """The result for JSON: ``conditions`` in a few words, ``images``, and numbers.

        Raises:
            UserError: if it cannot be measured for this network.
        """

    @property
    def packages(self) -> tuple[str, ...]:
        """Other packages whose versions belong to the result."""
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.compare}
