"""Autocast kept out, and gradients that may be differentiated once only."""

import pytest
import torch

from spectral_repro.linalg.autograd import differentiable_once, full_precision


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_no_product_is_in_half_precision_under_autocast(device):
    a = torch.ones(2, 2, device=device)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(a.device):
            inside = a @ a
        outside = a @ a
    assert inside.dtype == torch.float32
    assert outside.dtype == (torch.bfloat16 if device == "cpu" else torch.float32)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch.func.jvp itself
def test_a_gradient_differentiable_once_keeps_its_value_and_refuses_to_be_differentiated():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    gradient = differentiable_once(x.detach() * 3, "of the first order alone", x)
    assert gradient.tolist() == [3.0, 6.0] and gradient.requires_grad
    with pytest.raises(NotImplementedError, match=r"^of the first order alone$"):
        gradient.sum().backward()
    with torch.no_grad():
        assert not differentiable_once(x * 3, "of the first order alone", x).requires_grad
    with pytest.raises(NotImplementedError, match=r"^of the first order alone$"):
        torch.func.jvp(lambda t: differentiable_once(t.detach() * 3, "of the first order alone", t), (x,), (x,))
