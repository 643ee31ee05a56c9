"""A fake GPU: tensors on ``cuda`` with shapes but no values, and a record of operations that mix devices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPYING = {torch.ops.aten._to_copy, torch.ops.aten.copy_, torch.ops.aten.index_put_}


class Crossings(TorchDispatchMode):
    """Records every operation with tensors on several devices.

    A zero-dimensional tensor on the CPU may be combined with tensors on a GPU, like a Python number, but not copied to it.
    """

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        tensors = [leaf for leaf in tree_leaves((arguments, options, result)) if isinstance(leaf, Tensor)]
        if function.overloadpacket not in COPYING:
            tensors = [tensor for tensor in tensors if tensor.dim() > 0 or tensor.device.type != "cpu"]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.found.append(f"{function}: {', '.join(map(_described, tensors))}")
        return result


class FakeGpu:
    """In ``with FakeGpu() as gpu``, tensors on ``cuda`` are fake. Reading a value of one (``.item()``, ``bool``, a mask) is an
    error, and so is an operation on tensors of two devices. In ``with gpu.watched()``, copies between
    devices are errors too.

    torch's own engine of automatic differentiation refuses a device that is not there. `run_backward` takes its place.
    """

    def __init__(self):
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def __enter__(self) -> Self:
        self.engine = mock.patch("torch.autograd._engine_run_backward", run_backward)
        self.engine.start()
        self.mode.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.mode.__exit__(*error)
        self.engine.stop()

    def put(self, module: nn.Module) -> nn.Module:
        """Moves what ``module.to("cuda")`` moves, and nothing else that it holds."""
        return module._apply(lambda tensor: torch.empty_like(tensor, device="cuda", requires_grad=False))

    @contextmanager
    def watched(self) -> Iterator[None]:
        with Crossings() as crossings:
            yield
        if crossings.found:
            raise AssertionError("operations across devices:\n" + "\n".join(crossings.found))


def run_backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor] = (),
    allow_unreachable: bool = True,
    accumulate_grad: bool = False,
) -> tuple[Tensor | None, ...]:
    """Calls the nodes of the graph one by one, and makes sure of the device between them. Arguments and result are those of
    torch's engine.
    """
    incoming: dict[tuple[Node, int], Tensor] = {}
    of_leaves: dict[int, Tensor] = {}
    for output, gradient in zip(outputs, gradients, strict=True):
        _add(incoming, (output.grad_fn, output.output_nr), gradient)
    for node in _ordered([output.grad_fn for output in outputs]):
        metadata = node._input_metadata
        slots = [incoming.get((node, index)) for index in range(len(metadata))]
        if all(slot is None for slot in slots):
            continue
        if hasattr(node, "variable"):
            leaf = node.variable
            of_leaves[id(leaf)] = slots[0]
            if accumulate_grad:
                leaf.grad = slots[0] if leaf.grad is None else leaf.grad + slots[0]
            continue
        with torch.set_grad_enabled(create_graph):
            filled = [
                torch.zeros(data.shape, dtype=data.dtype, device=data.device) if slot is None else slot
                for slot, data in zip(slots, metadata, strict=True)
            ]
            for edge, gradient in _apply(node, filled):
                if gradient is not None:
                    _add(incoming, edge, gradient)
    return tuple(incoming.get((each.grad_fn, each.output_nr)) if each.grad_fn else of_leaves.get(id(each)) for each in inputs)


def _add(incoming: dict[tuple[Node, int], Tensor], edge: tuple[Node, int], gradient: Tensor) -> None:
    node, index = edge[:2]
    data = node._input_metadata[index]
    assert gradient.device == data.device, f"{node.name()} is given a gradient on {gradient.device}"
    gradient = gradient.sum_to_size(data.shape).to(data.dtype)
    incoming[node, index] = incoming[node, index] + gradient if (node, index) in incoming else gradient


def _described(tensor: Tensor) -> str:
    return f"{tensor.device.type} {tuple(tensor.shape)}"


def _apply(node: Node, gradients: list[Tensor]) -> list[tuple[tuple[Node, int], Tensor | None]]:
    """The gradients of what a node was given, each with the node and the output that it came from."""
    edges = node.next_functions
    if isinstance(node, torch.autograd.function.BackwardCFunction):
        results = node.apply(*gradients)
        results = results if isinstance(results, tuple) else (results,)
        results = [gradient for gradient, needed in zip(results, node.needs_input_grad, strict=True) if needed]
        edges = [edge for edge in edges if edge[0] is not None]
    else:
        results = node(*gradients)
        results = results if isinstance(results, tuple) else (results,)
    return [pair for pair in zip(edges, results, strict=True) if pair[0][0] is not None]


def _ordered(roots: list[Node]) -> list[Node]:
    """The nodes of a graph, each before those that follow it on the way back."""
    order, seen, stack = [], set(), [(None, iter([(root, 0) for root in roots]))]
    while stack:
        node, following = stack[-1]
        for child, _ in following:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            order.append(node)
            stack.pop()
    return order[-2::-1]
