"""Which layer diverged first: hooks that watch one training step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from spectral_repro.training.spectra import covariance_layers, smallest_gap


class Diverged(Exception):
    """Raised if a training diverged: the step (from 0), the first layer with a value that is not finite, what in it was not
    finite, and the smallest relative gap between eigenvalues in that step, if any layer has them.
    """

    def __init__(self, step: int, layer: str | None = None, during: str | None = None, gap: float | None = None):
        cause = f"first the {during} of {layer}" if layer else "the loss, but no layer when the steps were repeated"
        super().__init__(f"diverged at step {step}, not finite: {cause}")
        self.step, self.layer, self.during, self.gap = step, layer, during, gap


@dataclass
class Failure:
    """A layer, what in it was not finite, and the smallest relative gap between eigenvalues in the step, if it has any."""

    layer: str
    during: str
    gap: float | None = None


class Watch:
    """Hooks that find the first value of a network that is not finite. They synchronise with the device.

    Used as a context manager around one training step. They check the outputs of all modules in the forward pass, the gradients
    of trained parameters and of the inputs of modules without children in the backward pass, and whether a decomposition fails.
    Inputs and outputs may be tensors or any nesting of tuples, lists and dictionaries of them. The network itself is named by
    its class.
    """

    def __init__(self, model: nn.Module):
        self.model, self.entered = model, ""
        self.failure: Failure | None = None
        self.handles: list[RemovableHandle] = []

    def __enter__(self) -> "Watch":
        for name, module in self.model.named_modules():
            layer = name or type(module).__name__
            self.handles.append(module.register_forward_hook(self._leaving(layer)))
            if not any(module.children()):
                self.handles.append(module.register_forward_pre_hook(self._entering(layer), with_kwargs=True))
            for parameter_name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:
                    note = self._gradient_of(layer, f"gradient of {parameter_name}")
                    self.handles.append(parameter.register_hook(note))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        for handle in self.handles:
            handle.remove()
        if isinstance(error, torch.linalg.LinAlgError):
            self._note(self.entered, "decomposition")
            return True
        if self.failure and (layers := covariance_layers(self.model)):
            self.failure.gap = smallest_gap(layers).item()
        return False

    def _note(self, layer: str, during: str) -> None:
        self.failure = self.failure or Failure(layer, during)

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[object, ...], named_inputs: dict[str, object]) -> None:
            self.entered = name
            for each in _tensors((inputs, named_inputs)):
                if each.requires_grad:
                    each.register_hook(self._gradient_of(name, "gradient of the input"))

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[object, ...], outputs: object) -> None:
            if not all(each.isfinite().all() for each in _tensors(outputs)):
                self._note(name, "output")

        return hook

    def _gradient_of(self, name: str, what: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if not gradient.isfinite().all():
                self._note(name, what)

        return hook


def _tensors(values: object) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]
