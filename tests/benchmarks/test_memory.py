import torch

from spectral_repro.benchmarks.memory import peak

CPU = torch.device("cpu")


def test_freed_tensors_do_not_count():
    x = torch.ones(1000)  # 4000 bytes, made before

    def forward():
        doubled = x + x
        y = doubled * 3
        del doubled
        return lambda: [y + 1, y + 2]

    assert peak(forward, CPU) == 3 * 4000


def test_views_and_in_place_results_are_counted_once():
    x = torch.ones(10, 100)
    assert peak(lambda: lambda: x.T[3:].mT, CPU) == 0
    assert peak(lambda: lambda: (x + 1).T.add_(2).view(100, 10), CPU) == 4000


def test_tensors_saved_by_autograd_count():
    x = torch.ones(1000, requires_grad=True)

    def forward():
        y = x.exp().sin()  # keeps exp(x) for the gradient of both
        return lambda: torch.autograd.grad(y.sum(), x)

    assert peak(forward, CPU) >= 3 * 4000
