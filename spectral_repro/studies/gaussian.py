"""Networks of square Gaussian matrices, many at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Predicate
from torch import Tensor

from spectral_repro.bounds import Count, NotNegative
from spectral_repro.linalg.checks import check_choice

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "sigmoid": lambda x: torch.tanh(x) + 1,  # as in daneshmand2021's code: twice the sigmoid of 2 x
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sin": torch.sin,
}


def apply_gaussian(columns: Tensor, generator: torch.Generator) -> Tensor:
    """W H for columns H (..., d, n) and new matrices W (..., d, d) of standard normal entries, without drawing W.

    With H = Q R, the matrix W Q (..., d, n) has standard normal entries again and does not depend on R: drawing it instead of W
    gives the same distribution, layer after layer, from n / d of the random numbers. They are drawn in float32, which takes
    a quarter of the time, and used in H's dtype.
    """
    _, triangle = torch.linalg.qr(columns, mode="r")
    shape = (*columns.shape[:-1], triangle.shape[-2])
    return torch.randn(shape, generator=generator, device=columns.device).to(columns.dtype) @ triangle


def is_start(value: Sequence[float]) -> bool:
    """a list of 2 numbers, the first >= 0 and the second > 0"""
    return len(value) == 2 and value[1] > 0


@dataclass(frozen=True, kw_only=True)
class GaussianStudy:
    """Base class for studies of the networks H_(l+1) = BN(W_l F(H_l)), or W_l F(H_l) / sqrt(d) without batch norm.

    W_l (d, d) has standard normal entries. BN divides each row by its Euclidean norm; there is no mean to subtract and nothing
    to learn (daneshmand2021, section 2).

    Attributes:
        samples: n, the columns of H.
        batch_norm: whether BN is there.
        activation: F, one of `ACTIVATIONS`; its sigmoid is tanh(x) + 1.
        start: two numbers (a, b) for H_1: column 1 is the axis e_1, column k is a e_1 + b e_k; None: standard normal entries.
        layers: number of layers to measure.
        repeats: independent networks of each width.

    Example:
        >>> study = Depth(samples=4, batch_norm=False, activation="relu", start=None, layers=3, repeats=5, width=32)
        >>> next(study.representations(32, torch.Generator().manual_seed(0))).shape
        torch.Size([5, 32, 4])
    """

    samples: Annotated[int, Ge(2)]
    batch_norm: bool
    activation: Literal["identity", "sigmoid", "relu", "tanh", "sin"]
    start: Annotated[Sequence[NotNegative], Predicate(is_start)] | None
    layers: Count
    repeats: Count

    def check(self, width: int) -> None:
        """Checks that networks of this width can be made.

        Raises:
            ValueError: for an unknown activation, or a width too small to give every sample its axis.
        """
        check_choice("activation", self.activation, *ACTIVATIONS)
        if self.start is not None and self.samples > width:
            raise ValueError(f"samples={self.samples}: must be at most the width {width}, or start=null")

    def representations(self, width: int, generator: torch.Generator) -> Iterator[Tensor]:
        """An endless iterator of H_1, H_2, ..., each (repeats, d, n) in float64 on the generator's device."""
        activation = ACTIVATIONS[self.activation]
        columns = self._first(width, generator)
        while True:
            yield columns
            columns = apply_gaussian(activation(columns), generator)
            scale = torch.linalg.vector_norm(columns, dim=-1, keepdim=True) if self.batch_norm else width**0.5
            columns = columns / scale

    def _first(self, width: int, generator: torch.Generator) -> Tensor:
        shape = (self.repeats, width, self.samples)
        options: dict[str, Any] = {"dtype": torch.float64, "device": generator.device}
        if self.start is None:
            return torch.randn(shape, generator=generator, **options)
        along, across = self.start
        columns = across * torch.eye(width, self.samples, **options)
        columns[0] = along
        columns[0, 0] = 1
        return columns.expand(shape)
