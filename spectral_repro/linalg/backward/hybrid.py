"""One method for the first part of a training, another one for the rest."""

from dataclasses import dataclass

from spectral_repro.linalg.backward.method import Backward, check_method
from spectral_repro.linalg.functions import SpectralFunction


@dataclass
class Hybrid(Backward):
    """``first`` until the fraction ``switch`` of the training is done, then ``second`` (song2021, hybrid training).

    The paper warms up with Newton-Schulz, whose gradient is smooth, and continues with a method of the SVD.

    Args:
        first, second: the methods.
        switch: in [0, 1]; the training loop reports its progress by `advance`.

    Raises:
        ValueError: if ``switch`` is outside [0, 1], or one of the two is not a method.

    Example:
        >>> method = Hybrid(NewtonSchulz(5), Exact(), switch=0.5)
        >>> method.advance(0.6)  # 60 % of the training are done
        >>> method.current
        Exact()
    """

    first: Backward
    second: Backward
    switch: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.switch <= 1:
            raise ValueError(f"switch={self.switch}: must be in [0, 1]")
        check_method("first", self.first)
        check_method("second", self.second)
        self.advance(0.0)

    def advance(self, done: float) -> None:
        """Chooses the method for the fraction ``done`` of the training."""
        self.now = self.first if done < self.switch else self.second
        for method in (self.first, self.second):
            if isinstance(method, Hybrid):
                method.advance(done)

    @property
    def current(self) -> Backward:
        return self.now.current

    @property
    def decomposes(self) -> bool:
        return self.first.decomposes and self.second.decomposes

    def check(self, function: SpectralFunction, shift: float) -> None:
        self.first.check(function, shift)
        self.second.check(function, shift)
