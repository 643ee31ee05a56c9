"""Pooling layers in export and tracing, second derivatives and torch.func; the dtypes and devices that they take."""

import numpy as np
import pytest
import torch
from torch.autograd import gradgradcheck

from spectral_repro.layers import (
    AveragePooling,
    BilinearPooling,
    CompactBilinearPooling,
    CovariancePooling,
    ScalingEigenBranch,
)
from spectral_repro.linalg.backward import Exact, NewtonSchulz, Taylor
from spectral_repro.linalg.feature_covariance import covariance_functions
from spectral_repro.linalg.functions import Exp, Power, Product, Sqrt
from tests.tolerance import assert_near

HEADS = {
    "average": AveragePooling,
    "covariance": CovariancePooling,
    "isqrt": lambda *sizes, **options: CovariancePooling(
        *sizes, backward=NewtonSchulz(5, forward="newton_schulz"), decomposition=torch.float32, **options
    ),
    "scaling eigen branch": ScalingEigenBranch,
    "bilinear": BilinearPooling,
    "compact bilinear": lambda *sizes, **options: CompactBilinearPooling(*sizes, out_features=50, **options),
}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)


@each_head
def test_export_with_any_number_of_images_computes_the_same(head):
    layer, x, more = head(6, 4).eval(), images(3, 6, 4, 4), images(5, 6, 4, 4)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},))
    torch.testing.assert_close(program.module()(more), layer(more))


@each_head
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_without_gradient_computes_the_same_for_any_number_of_images(head):
    layer, more = head(6, 4).eval(), images(5, 6, 4, 4)
    with torch.no_grad():
        traced = torch.jit.trace(layer, (images(3, 6, 4, 4),))
        torch.testing.assert_close(traced(more), layer(more))


# Second derivatives


@pytest.mark.parametrize("function", [Sqrt(), Power(0.3), Product(Sqrt(), Exp(-1.0))], ids=["sqrt", "power", "damped"])
@pytest.mark.parametrize(("channels", "positions"), [(2, 4), (3, 3), (4, 3)], ids=["covariance", "square", "gram"])
def test_functions_of_the_covariance_have_second_derivatives(function, channels, positions):
    x = images(2, channels, positions, dtype=torch.float64).requires_grad_()
    assert gradgradcheck(lambda x: covariance_functions(x, [(function, Exact())]), (x,))


@pytest.mark.parametrize("name", ["covariance", "scaling eigen branch", "bilinear"])
@pytest.mark.parametrize("size", [2, 1], ids=["covariance", "gram"])
def test_layers_have_second_derivatives(name, size):
    x = images(2, 3, size, 2, dtype=torch.float64).requires_grad_()
    assert gradgradcheck(HEADS[name](3), (x,))


@each_head
@pytest.mark.parametrize("size", [4, 2], ids=["covariance", "gram"])
def test_transforms_of_torch_give_the_gradient(head, size):
    layer, x = head(6), images(3, 6, size, 2, dtype=torch.float64)
    grad_output = images(3, layer.out_features, dtype=torch.float64)

    def loss(image, weights):
        return (layer(image.unsqueeze(0)) * weights).sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((layer(leaf) * grad_output).sum(), leaf)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x, grad_output), expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch.func.jvp itself
@pytest.mark.parametrize("name", ["covariance", "scaling eigen branch"])
@pytest.mark.parametrize("size", [4, 2], ids=["covariance", "gram"])
def test_forward_mode_is_the_transpose_of_backward_mode(name, size):
    """With a dead channel too."""
    layer, x, direction = HEADS[name](6), *images(2, 3, 6, size, 2, dtype=torch.float64)
    x[:, 1] = direction[:, 1] = 0
    leaf = x.clone().requires_grad_()
    y, tangent = torch.func.jvp(layer, (x,), (direction,))
    grad_output = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((layer(leaf) * grad_output).sum(), leaf)
    torch.testing.assert_close(y, layer(x))
    torch.testing.assert_close((grad_output * tangent).sum(), (gradient * direction).sum())


def test_approximate_gradients_have_no_forward_mode():
    x = images(2, 3, 4, 4, dtype=torch.float64)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"jvp|forward mode"):
        torch.func.jvp(CovariancePooling(3, backward=Taylor()), (x,), (x,))


@pytest.mark.parametrize("size", [(4, 4), (2, 2)], ids=["covariance", "gram"])
def test_pooling_without_a_decomposition_gives_the_outputs_of_the_exact_one(size):
    """For ONNX, which has no decompositions: what 30 iterations lack is below the rounding of float32."""
    x = images(3, 8, *size).relu()
    x[:, 3] = 0
    expected = CovariancePooling(8)(x)
    found = CovariancePooling(8, backward=NewtonSchulz(30, forward="newton_schulz"))(x)
    assert_near(found, expected, terms=8, condition=(2 / 3) ** 30 / torch.finfo(torch.float32).eps)


def test_approximate_gradients_refuse_to_be_differentiated():
    x = images(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(CovariancePooling(3, backward=Taylor())(x).square().sum(), x, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(NotImplementedError, match=r"^Taylor.* has no second derivative and no forward mode"):
        gradient.sum().backward()


def test_a_dead_channel_has_no_second_derivative_and_does_not_pass_for_zero():
    x = images(2, 3, 4, 4, dtype=torch.float64)
    x[:, 1] = 0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(CovariancePooling(3)(x).square().sum(), x, create_graph=True)
    assert gradient.isfinite().all()
    assert not torch.autograd.grad(gradient.square().sum(), x)[0].isfinite().all()


# Dtypes and arguments


@pytest.mark.parametrize("name", ["bilinear", "compact bilinear"])
def test_products_of_half_precision_features_stay_in_range(name, step):
    """300 squared is more than float16 holds, and the sum over the positions all the more."""
    layer, x = HEADS[name](4), 300 + images(2, 4, 8, 8).half()
    y, gradient = step(layer, x)
    expected, expected_gradient = step(layer, x.double())
    assert y.dtype == torch.float32 and gradient.dtype == torch.float16 and expected.dtype == torch.float64
    torch.testing.assert_close(y, expected.float())
    rounding = torch.finfo(torch.float16).eps * expected_gradient.abs().max().item() + torch.finfo(torch.float16).tiny
    torch.testing.assert_close(gradient.double(), expected_gradient.double(), rtol=0, atol=rounding)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x), y)


@pytest.mark.parametrize("head", [CovariancePooling, ScalingEigenBranch])
def test_a_dtype_and_its_name_are_the_same(head):
    layers = [head(4, decomposition=decomposition) for decomposition in (torch.float32, "float32")]
    assert layers[0].decomposition == layers[1].decomposition == torch.float32
    assert str(layers[0]) == str(layers[1]) and "decomposition=float32" in str(layers[0])


@each_head
def test_integers_of_numpy_are_taken(head):
    layer = head(np.int64(6), np.int64(4)).eval()
    assert layer(images(2, 6, 3, 3)).shape == (2, layer.out_features)


@pytest.mark.parametrize("out_features", [0, -1])
def test_a_sketch_of_no_dimensions_is_refused(out_features):
    with pytest.raises(ValueError, match=rf"^out_features={out_features}: must be a whole number >= 1$"):
        CompactBilinearPooling(4, out_features=out_features)


@each_head
def test_device_and_dtype_are_those_of_the_weights(head):
    meta = head(6, 4, device="meta")
    assert {tensor.device.type for tensor in meta.state_dict().values()} <= {"meta"}
    assert meta(torch.empty(2, 6, 3, 3, device="meta")).shape == (2, meta.out_features)
    double = head(6, 4, dtype=torch.float64)
    assert {tensor.dtype for tensor in double.state_dict().values() if tensor.is_floating_point()} == {torch.float64}


@each_head
def test_a_layer_made_on_the_meta_device_starts_as_any_other(head):
    torch.manual_seed(0)
    expected = head(6, 4).state_dict()
    layer = head(6, 4, device="meta").to_empty(device="cpu")
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all(torch.equal(value, expected[name]) for name, value in layer.state_dict().items())
