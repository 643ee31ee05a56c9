"""The base class of the whitening layers: statistics of the batch, running statistics, affine part."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.modules.batchnorm import _BatchNorm

from spectral_repro.layers.moments import affine, affine_without_gradient, moments, transform
from spectral_repro.layers.replicas import replicas, update_running, whole_batch
from spectral_repro.linalg.autograd import full_precision
from spectral_repro.linalg.backward import Backward
from spectral_repro.linalg.backward.method import check_method
from spectral_repro.linalg.checks import check_choice, check_count, check_floating, check_positive, dtype_name, is_count
from spectral_repro.linalg.selection import PublishedCut, PublishedSVDCut

PUBLISHED_CUTS: dict[str, Callable[[float], Callable[[Tensor], Tensor]]] = {
    "reference": PublishedCut,
    "reference_svd": PublishedSVDCut,
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
WIDEST_GROUP = 16

GroupSize = int | Literal["auto"] | None
Truncation = Literal["none", "reference", "reference_svd"]
Running = Literal["covariance", "matrix"]
Decomposition = torch.dtype | Literal["float64", "float32"]


class CovarianceNorm(_BatchNorm, ABC):
    """y = weight * (M (x - mean)) + bias, where a subclass computes M from the covariance of each group of channels.

    An instance of torch's batch norm class, so `torch.optim.swa_utils.update_bn` recomputes its statistics. It has no
    ``running_var``, so `torch.nn.SyncBatchNorm.convert_sync_batchnorm` raises an error instead of replacing it.

    In training, the mean and M are those of the batch. In evaluation they come from running statistics, and the layer is an
    affine map made of standard operations. M of a running covariance is computed by ``eval()`` and kept until the covariance
    or an argument such as ``eps`` changes. On other devices than the CPU, a change of the covariance through ``.data`` is not
    seen, and a compiled or exported graph sees no change: call ``eval()`` after it.

    Arguments are those of `ZCAWhitening`, without ``shrinkage``.

    Example:
        >>> isinstance(ZCAWhitening(16), CovarianceNorm), isinstance(PCADenoising(16), CovarianceNorm)
        (True, True)
    """

    replaces = (  # by `convert`
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d),
    )

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor  # this, the running matrices and the number of batches: None without running statistics
    running_covariance: Tensor
    running_matrix: Tensor
    num_batches_tracked: Tensor
    eigenvalues: Tensor
    matrix_of_covariance: Tensor | None  # no buffer: a copy of the buffers of another layer must not overwrite it

    def __init__(
        self,
        num_features: int,
        group_size: GroupSize,
        backward: Backward,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        weight_init: Literal["ones", "uniform"],
        truncation: Truncation,
        running: Running | None,
        decomposition: Decomposition,
        process_group: ProcessGroup | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        bias: bool,
    ):
        nn.Module.__init__(self)  # that of batch norms registers running_var
        check_count("num_features", num_features)
        self.num_features = int(num_features)
        self.group_size = _group_size(self.num_features, group_size)
        check_positive("eps", eps)
        if momentum is not None and not 0 < momentum <= 1:
            raise ValueError(f"momentum={momentum}: must be in (0, 1], or None for the average of all batches")
        check_method("backward", backward)
        check_choice("weight_init", weight_init, "ones", "uniform")
        check_choice("truncation", truncation, "none", *PUBLISHED_CUTS)
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.backward_method, self.weight_init, self.truncation = backward, weight_init, truncation
        self.running = running or ("covariance" if self.cut is None else "matrix")
        check_choice("running", self.running, "covariance", "matrix")
        self.decomposition = decomposition_dtype(decomposition)
        self.process_group, self.synchronised = process_group, process_group is not None
        self._register(device, dtype, bias)
        self.reset_parameters()

    def _register(self, device: torch.device | str | None, dtype: torch.dtype | None, bias: bool) -> None:
        channels, groups, size = self.num_features, self.num_features // self.group_size, self.group_size
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_parameter("weight", nn.Parameter(torch.empty(channels, **made)) if self.affine else None)
        self.register_parameter("bias", nn.Parameter(torch.empty(channels, **made)) if self.affine and bias else None)
        tracked, matrices = self.track_running_stats, torch.empty(groups, size, size, **made)
        self.register_buffer("running_mean", torch.empty(channels, **made) if tracked else None)
        for statistic in ("covariance", "matrix"):
            self.register_buffer(f"running_{statistic}", matrices if tracked and self.running == statistic else None)
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=device) if tracked else None)
        self.register_buffer("eigenvalues", torch.ones(groups, size, **made), persistent=False)
        self.matrix_of_covariance = None
        # the running covariance that this matrix was computed from, its version, and `settings`; None: out of date
        self.computed_from: tuple[Tensor, int | None, tuple[Any, ...]] | None = None

    @abstractmethod
    def matrix(self, covariance: Tensor, correction: float | Tensor) -> tuple[Tensor, Tensor]:
        """M (G, d, d) of the covariance (G, d, d), and the eigenvalues (G, d) it was computed from.

        The variances times ``correction`` are unbiased.
        """

    @classmethod
    def from_module(cls, module: _BatchNorm, keep_weights: bool = True, **options: Any) -> Self:
        """A layer with the channels, eps, momentum, device and dtype of a batch norm, and its process group.

        Args:
            module: `torch.nn.BatchNorm1d`, `2d`, `3d` or `torch.nn.SyncBatchNorm`.
            keep_weights: copy weight, bias and running statistics. The running covariance is then diagonal, so a layer that
                keeps every direction computes the same as the batch norm in evaluation.
            options: arguments of the layer.

        Raises:
            ValueError: as the layer, and for an option that does not fit the weights that are kept.
        """
        tensor = next((each for each in (module.weight, module.running_mean) if each is not None), torch.empty(0))
        parts = {"affine": module.affine, "bias": module.bias is not None, "track_running_stats": module.track_running_stats}
        changed = [name for name, has in parts.items() if options.get(name, has) != has]
        if changed and keep_weights:
            raise ValueError(f"{changed[0]}={options[changed[0]]}: does not fit the batch norm; take keep_weights=False")
        others = {
            "eps": module.eps,
            "momentum": module.momentum,
            "process_group": getattr(module, "process_group", None),
            "device": tensor.device,
            "dtype": tensor.dtype,
        }
        options = parts | others | options
        layer = cls(module.num_features, **options)
        layer.synchronised = layer.synchronised or isinstance(module, nn.SyncBatchNorm)
        if keep_weights:
            layer.load_state_dict(module.state_dict())
        return layer.train(module.training)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Resets weight, bias and running statistics to those of a new layer."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.uniform_(self.weight) if self.weight_init == "uniform" else nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def reset_running_stats(self) -> None:
        """Resets the running mean to 0, and the running covariance or matrix to the identity."""
        if not self.track_running_stats:
            return
        self.running_mean.zero_()
        self.num_batches_tracked.zero_()
        identity = torch.eye(self.group_size, device=self.running_mean.device, dtype=self.running_mean.dtype)
        self._statistic.copy_(identity)
        self._changed()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not mode and self.running_covariance is not None:
            self._compute_matrix()  # now, before a graph may be made
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.matrix_of_covariance is not None:
            self.matrix_of_covariance = fn(self.matrix_of_covariance)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if not 2 <= x.dim() <= 5 or x.shape[1] != self.num_features:
            shapes = ", ".join(f"(N, {self.num_features}{sizes})" for sizes in ("", ", L", ", H, W"))
            raise ValueError(f"expected {shapes} or (N, {self.num_features}, D, H, W), got {tuple(x.shape)}")
        check_floating(x)
        with full_precision(x.device):
            images = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)
            if x.dtype != torch.float64:
                images = images.float()
            by_batch = self.training or not self.track_running_stats
            y = self._with_batch_statistics(images) if by_batch else self._with_running_statistics(images)
            return y.to(x.dtype).view(x.shape)

    def _with_batch_statistics(self, images: Tensor) -> Tensor:
        positions = images.shape[0] * images.shape[2]
        shared = self.synchronised and self.training and dist.is_available() and dist.is_initialized()
        if positions * (replicas(self.process_group) if shared else 1) < 2:
            raise ValueError(f"a covariance needs more than one position per channel in training, got {tuple(images.shape)}")
        images, mean, covariance = moments(images, self.group_size)
        if shared:
            mean, covariance, number = whole_batch(mean, covariance, positions, self.process_group)
            correction: float | Tensor = number / (number - 1)
        else:
            correction = positions / (positions - 1)
        matrix, eigenvalues = self.matrix(covariance.to(self.decomposition), correction)
        if self.training and self.track_running_stats:
            self._track(mean, covariance * correction if self.running == "covariance" else matrix, eigenvalues)
        shift, matrix = mean.detach().to(images.dtype), self._weighted(matrix)
        rest = (mean - shift).to(matrix.dtype).view(-1, 1, self.group_size)
        bias = -(matrix * rest).sum(-1).flatten()  # no product of matrices, whose gradient autocast could round
        bias = bias if self.bias is None else bias + self.bias
        return transform(images, shift, matrix.to(images.dtype), bias.to(images.dtype))

    def _with_running_statistics(self, images: Tensor) -> Tensor:
        mean, matrix = self.running_mean, self._weighted(self.evaluation_matrix)
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
        plain = plain or torch._C._are_functorch_transforms_active()
        apply = affine if plain else affine_without_gradient
        return apply(images, *(each.to(images.dtype) for each in (mean, matrix, bias)))

    def _weighted(self, matrix: Tensor) -> Tensor:
        return matrix if self.weight is None else self.weight.view(-1, self.group_size, 1) * matrix

    @torch.no_grad()
    def _track(self, mean: Tensor, statistic: Tensor, eigenvalues: Tensor) -> None:
        self.eigenvalues.copy_(eigenvalues)
        self.num_batches_tracked.add_(1)
        for running, newest in ((self.running_mean, mean), (self._statistic, statistic)):
            update_running(running, newest, self.momentum, self.num_batches_tracked)
        self._changed()

    @property
    def evaluation_matrix(self) -> Tensor:
        """M (G, d, d) of the running statistics."""
        if self.running == "matrix":
            return self.running_matrix
        kept = self.matrix_of_covariance
        return kept if kept is not None and self._is_up_to_date() else self._compute_matrix()

    @property
    def settings(self) -> tuple[Any, ...]:
        """What `matrix` depends on besides the covariance. Compared with ``==``; a subclass adds its own."""
        return self.eps, self.truncation, self.decomposition, self.backward_method.current

    @property
    def cut(self) -> Callable[[Tensor], Tensor] | None:
        """The selection of eigenvalues that the truncation names."""
        return PUBLISHED_CUTS[self.truncation](self.eps) if self.truncation in PUBLISHED_CUTS else None

    @property
    def _statistic(self) -> Tensor:
        return self.running_covariance if self.running == "covariance" else self.running_matrix

    def _compute_matrix(self) -> Tensor:
        """Computes the matrix of the running covariance and keeps it, except within transforms and graphs."""
        covariance = self.running_covariance
        with torch.inference_mode(False), torch.no_grad():  # a normal tensor, which autograd can use later
            matrix = self.matrix(covariance.to(self.decomposition), 1.0)[0].to(covariance.dtype)
            if not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()):
                source = covariance.clone() if _is_comparable(covariance) else covariance
                self.matrix_of_covariance, self.computed_from = matrix, (source, _version(covariance), self.settings)
        return matrix

    def _is_up_to_date(self) -> bool:
        if self.computed_from is None or torch.compiler.is_compiling():  # a graph cannot compare
            return self.computed_from is not None
        source, version, settings = self.computed_from
        covariance = self.running_covariance
        if settings != self.settings:
            return False
        if _is_comparable(covariance):
            alike = (source.device, source.dtype) == (covariance.device, covariance.dtype)
            return alike and torch.equal(source, covariance)
        return source is covariance and version is not None and version == _version(covariance)

    def _changed(self) -> None:
        self.computed_from = None
        if not self.training and self.running_covariance is not None:
            self._compute_matrix()

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, whose tensors count their versions anew."""
        if self.computed_from is None:
            return vars(self)
        source, _, settings = self.computed_from
        return vars(self) | {"computed_from": (source, None, settings)}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        variance = state_dict.get(f"{prefix}running_var")  # of a batch norm
        if self.track_running_stats and variance is not None and variance.shape == self.running_mean.shape:
            state_dict.pop(f"{prefix}running_var")
            value = torch.diag_embed(variance.view(-1, self.group_size))
            if self.running == "matrix":
                value = self.matrix(value.to(self.decomposition), 1.0)[0].to(variance.dtype)
            state_dict[f"{prefix}running_{self.running}"] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if self.track_running_stats:
            self.eigenvalues = torch.ones_like(self.eigenvalues, device=self.running_mean.device)
            self._changed()

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, group_size={self.group_size}, backward={self.backward_method}, eps={self.eps}, "
            f"momentum={self.momentum}, affine={self.affine}, track_running_stats={self.track_running_stats}, "
            f"truncation={self.truncation}, running={self.running}, decomposition={dtype_name(self.decomposition)}"
        )


def _group_size(channels: int, group_size: GroupSize) -> int:
    if group_size is None:
        return channels
    divisors = [d for d in range(1, channels + 1) if channels % d == 0]
    if group_size == "auto":
        return max(d for d in divisors if d <= WIDEST_GROUP)
    if not is_count(group_size) or group_size not in divisors:
        found = ", ".join(map(str, divisors))
        raise ValueError(f"group_size={group_size!r}: must divide the {channels} channels ({found})")
    return int(group_size)


def decomposition_dtype(decomposition: Decomposition) -> torch.dtype:
    """The dtype that an argument ``decomposition`` names.

    Raises:
        ValueError: for another one than float64 and float32.
    """
    dtype = DTYPES.get(decomposition) if isinstance(decomposition, str) else decomposition
    if dtype is None or dtype not in DTYPES.values():
        raise ValueError(f"decomposition={decomposition!r}: must be float64 or float32, a dtype or its name")
    return dtype


def _is_comparable(tensor: Tensor) -> bool:
    """Whether comparing the numbers of a tensor is cheap, that is, without waiting for a device, and possible."""
    return tensor.device.type == "cpu" and type(tensor) is Tensor and not torch._C._are_functorch_transforms_active()


def _version(tensor: Tensor) -> int | None:
    """The number of changes of a tensor in place; None for one made in inference mode, whose changes are not counted. Changes
    through ``.data`` are not counted either.
    """
    return None if tensor.is_inference() else tensor._version
