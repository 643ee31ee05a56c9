"""Statistics over the batches of some of the processes, by ``process_group``."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from spectral_repro.layers import PCADenoising, ZCAWhitening, convert

GROUPS = ([0, 1], [2])
IMAGES = 2  # in each process


def of_sync_batch_norm(process_group: dist.ProcessGroup | None) -> nn.Module:
    network = nn.Sequential(nn.SyncBatchNorm(8, process_group=process_group))
    return convert(network, ZCAWhitening, group_size=4)[0]


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "zca": lambda process_group: ZCAWhitening(8, group_size=4, process_group=process_group),
    "pca": lambda process_group: PCADenoising(8, components=3, process_group=process_group),
    "of a batch norm": of_sync_batch_norm,
}


def step(make: Callable[..., nn.Module], images: slice, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """What a training step of these images gives."""
    torch.manual_seed(0)
    x, grad_output = torch.randn(2, IMAGES * 3, 8, 3, 3, dtype=torch.float64)
    layer, leaf = make(group).double(), x[images].clone().requires_grad_()
    y = layer(leaf)
    (y * grad_output[images]).sum().backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "gradient of x": leaf.grad} | gradients | dict(layer.named_buffers())


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    (own,) = (group for group in map(dist.new_group, GROUPS) if group != dist.GroupMember.NON_GROUP_MEMBER)
    images = slice(rank * IMAGES, (rank + 1) * IMAGES)
    torch.save({name: step(make, images, own) for name, make in LAYERS.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    """The results of three processes."""
    folder = tmp_path_factory.mktemp("three")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is imported once
    processes = [context.Process(target=process, args=(rank, folder)) for rank in range(3)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.mark.parametrize("name", LAYERS)
def test_a_group_is_one_batch_and_other_processes_are_not_in_it(name: str, found):
    for ranks in GROUPS:
        expected = step(LAYERS[name], slice(ranks[0] * IMAGES, (ranks[-1] + 1) * IMAGES), None)
        results = [found[rank][name] for rank in ranks]
        for key, value in expected.items():
            parts = [result[key] for result in results]
            if key in ("y", "gradient of x"):
                torch.testing.assert_close(torch.cat(parts), value)
            elif key.startswith("gradient"):
                torch.testing.assert_close(sum(parts), value)
            else:
                for part in parts:
                    torch.testing.assert_close(part, value)
