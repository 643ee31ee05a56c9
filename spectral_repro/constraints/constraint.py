"""Bounds of the layers of a network, kept by changing its weights between the steps of the optimiser (senderovich2022), and the
penalty that keeps the frames of TT layers orthonormal.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from spectral_repro.bounds import Count, NotNegative, Positive
from spectral_repro.constraints.operators import Operator, operators
from spectral_repro.layers.covariance_norm import CovarianceNorm
from spectral_repro.layers.tt import TTConv2d
from spectral_repro.layers.tucker import Frame, orthogonal_penalty
from spectral_repro.linalg.checks import check_count, check_positive
from spectral_repro.linalg.conv_clip import divisor


class Constraint(ABC):
    """Base class: changes the weights in place after every ``every``-th step.

    A TT layer is bounded through its core, which has the same singular values if the frames are orthonormal. If no penalty
    keeps the frames orthonormal, their triangular factors are moved into the core first, unless one of the three is frozen.
    Frozen weights do not change.

    Args:
        network: on its device, not yet compiled.
        image_shape: (channels, height, width) of its input.
        orthonormal_frames: whether a penalty keeps the frames of TT layers orthonormal.
        clip_to: bound of the singular values of convolutions.
        every: steps between two changes.
        linear_to: bound of the singular values of linear layers, at the same steps; None: no bound.
        batch_norm_to: bound of the largest factor of a batch norm or whitening layer (`batch_norm_factor`), kept by division of
            its weight; None: no bound. The factor of a whitening layer needs decompositions, which wait for the device.
        batch_norm_every: steps between two changes.

    Raises:
        ValueError: for an argument out of range; for ``batch_norm_to`` if it bounds no layer; and for a layer whose weight is
            parametrized, because it cannot be changed in place.

    Example:
        >>> class HalveLarge(Constraint):
        ...     def bring_within(self, bounded):
        ...         for operator, bound in bounded:
        ...             if operator.norm() > bound:
        ...                 operator.weight.div_(2)
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
        >>> constraint = HalveLarge(network, (3, 16, 16), orthonormal_frames=False, clip_to=1.0, every=100)
        >>> constraint.apply(step=100)
    """

    factors_apart = False  # whether each of the three factors of a TT layer is bounded by itself

    def __init__(
        self,
        network: nn.Module,
        image_shape: tuple[int, int, int],
        orthonormal_frames: bool,
        clip_to: Positive,
        every: Count = 1,
        linear_to: Positive | None = None,
        batch_norm_to: Positive | None = None,
        batch_norm_every: Count = 1,
    ):
        for name, value in (("clip_to", clip_to), ("linear_to", linear_to), ("batch_norm_to", batch_norm_to)):
            if value is not None:
                check_positive(name, value)
        check_count("every", every)
        check_count("batch_norm_every", batch_norm_every)
        self.clip_to, self.every, self.linear_to = clip_to, every, linear_to
        self.batch_norm_to, self.batch_norm_every = batch_norm_to, batch_norm_every
        found = [operator for operator in operators(network, image_shape) if operator.layer.weight.requires_grad]
        self.bounded = [operator for operator in found if self._bound(operator.layer) is not None]
        for operator in self.bounded:
            if is_parametrized(operator.layer, "weight"):
                raise ValueError(
                    f"{operator.name}: its weight is parametrized and cannot be changed in place: remove_parametrizations "
                    "first, or bound it by a parametrization"
                )
        if not self.bounded and batch_norm_to is None:
            raise ValueError(
                f"clip_to={clip_to}: the network has no nn.Conv2d, TT layer or bounded linear layer that is trained"
            )
        tensor_trains = [layer for layer in network.modules() if isinstance(layer, TTConv2d)]
        absorbing = not (orthonormal_frames or self.factors_apart)
        self.absorbing = [layer for layer in tensor_trains if absorbing and all(part.weight.requires_grad for part in layer)]
        batch_norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.affine]
        self.batch_norms = [layer for layer in batch_norms if layer.track_running_stats and layer.weight.requires_grad]
        if batch_norm_to is not None and not self.batch_norms:
            raise ValueError(
                f"batch_norm_to={batch_norm_to}: the network has no batch norm or whitening layer with running statistics and "
                "a weight that is trained: leave batch_norm_to at None (null)"
            )
        self.memory: dict[str, Any] = {}  # from one time to the next

    @torch.no_grad()
    def apply(self, step: int) -> None:
        """Makes the changes that are due after ``step`` steps."""
        if self.batch_norm_to is not None and step % self.batch_norm_every == 0:
            for layer in self.batch_norms:
                layer.weight.div_(divisor(batch_norm_factor(layer), self.batch_norm_to))
        if step % self.every == 0:
            for tensor_train in self.absorbing:
                tensor_train.absorb()
            bounds = [(operator, self._bound(operator.layer)) for operator in self.bounded]
            self.bring_within([(operator, bound) for operator, bound in bounds if bound is not None])

    @abstractmethod
    def bring_within(self, bounded: list[tuple[Operator, float]]) -> None:
        """Changes the weights of the operators so that these are within their bounds."""

    def metrics(self) -> dict[str, float]:
        """Numbers about the last change, always under the same names."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads a state, on the devices of the weights.

        Raises:
            ValueError: for the state of another network or constraint.
        """
        if differing := sorted(state.keys() ^ self.memory.keys()):
            raise ValueError(f"the state is of another network or constraint: it differs in {', '.join(differing)}")
        for key, value in state.items():
            held = self.memory[key]
            self.memory[key] = value.to(held) if isinstance(held, Tensor) else value

    def _bound(self, layer: nn.Module) -> float | None:
        if isinstance(layer, nn.Linear):
            return self.linear_to
        whole_or_frame = isinstance(layer, TTConv2d) or (isinstance(layer, Frame) and not self.factors_apart)
        return None if whole_or_frame else self.clip_to


def batch_norm_factor(layer: _BatchNorm) -> Tensor:
    """The largest factor by which a layer multiplies the length of a change of its input in evaluation, a scalar tensor.

    Of a batch norm: max_c |weight_c| / sqrt(running variance_c + 1e-6); 1e-6 is that of the published code. Of a whitening
    layer: the largest singular value of diag(weight) M, with M its `evaluation_matrix`.
    """
    if isinstance(layer, CovarianceNorm):
        matrix = layer.weight.view(-1, layer.group_size, 1) * layer.evaluation_matrix
        norms: Tensor = torch.linalg.matrix_norm(matrix.to(layer.decomposition), 2)
        return norms.amax()
    assert layer.running_var is not None
    return (layer.weight.abs() / (layer.running_var + 1e-6).sqrt()).amax()


@dataclass(frozen=True)
class OrthogonalPenalty:
    """``orthogonal_k`` times `orthogonal_penalty`, which keeps the frames of TT layers near orthonormal (senderovich2022).

    Args:
        orthogonal_k: the factor.

    Example:
        >>> penalty = OrthogonalPenalty(orthogonal_k=0.1)
        >>> bool(penalty(nn.Sequential(TTConv2d(16, 32, 3, rank=4))) < 1e-6)  # frames start orthonormal
        True
    """

    orthogonal_k: NotNegative

    def __call__(self, network: nn.Module) -> Tensor:
        return self.orthogonal_k * orthogonal_penalty(network)
