"""Peak memory of a job."""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spectral_repro.benchmarks.clock import Job


def peak(job: Job, device: torch.device) -> int:
    """Peak number of bytes of new tensors in the forward and backward pass.

    On a GPU its allocator counts them. On a CPU only the tensors that operations return are counted, not their workspaces.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()()
        return torch.cuda.max_memory_allocated(device) - before
    with _Allocations() as allocations:
        job()()
    return allocations.peak


class _Allocations(TorchDispatchMode):
    """Counts the bytes of storages from the operation that returns them until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        for storage in _storages((args, kwargs)):
            self._follow(storage, size=0)
        result = operation(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._follow(storage, storage.nbytes())
        return result

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        if id(storage) not in self._known:
            self._known.add(id(storage))
            weakref.finalize(storage, self._forget, id(storage), size)
            self.alive += size
            self.peak = max(self.peak, self.alive)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _storages(tree: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
