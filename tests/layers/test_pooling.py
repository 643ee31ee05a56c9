"""Pooling by first and second moments: what song2021's published code computes, and each head against its definition."""

import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, normalize

from spectral_repro.layers.pooling import (
    AveragePooling,
    BilinearPooling,
    CompactBilinearPooling,
    CovariancePooling,
    MaxPooling,
    ScalingEigenBranch,
)
from spectral_repro.linalg import matrix_function
from spectral_repro.linalg.backward import (
    Exact,
    Lyapunov,
    NewtonSchulz,
    Pade,
    PlainSVD,
    PowerIteration,
    Taylor,
    TopN,
    Truncated,
    UnrolledPowerIteration,
)
from spectral_repro.linalg.feature_covariance import covariance
from spectral_repro.linalg.functions import Sqrt
from spectral_repro.linalg.roots import newton_schulz
from tests.golden_numbers import golden_numbers
from tests.tolerance import relative_error, tolerance

ISQRT = NewtonSchulz(5, forward="newton_schulz")
HEADS = {
    "average": AveragePooling,
    "maximum": MaxPooling,
    "covariance": CovariancePooling,
    "isqrt": lambda *channels: CovariancePooling(*channels, backward=ISQRT, decomposition="float32"),
    "scaling eigen branch": ScalingEigenBranch,
    "bilinear": BilinearPooling,
    "compact bilinear": lambda *channels: CompactBilinearPooling(*channels, out_features=50),
}
EVERY_HEAD = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
ROOTS = pytest.mark.parametrize("head", [CovariancePooling, ScalingEigenBranch])
BOTH_PATHS = pytest.mark.parametrize("size", [6, 2], ids=["covariance", "gram"])


def upper_triangle(matrix):
    """Row by row, from the diagonal on."""
    return torch.cat([matrix[:, row, row:] for row in range(matrix.shape[1])], 1)


def covariances(x):
    return torch.stack([torch.cov(image.flatten(1), correction=0) for image in x])


def roots(matrices):
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors.mT


# The published code


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", ["c12_p25", "c16_p9"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("SVD_Original", lambda c: CovariancePooling(c, backward=PlainSVD())),
        ("SVD_Trunc", lambda c: CovariancePooling(c, backward=Truncated())),
        ("SVD_Taylor", lambda c: CovariancePooling(c, backward=Taylor())),
        ("SVD_Pade", lambda c: CovariancePooling(c, backward=Pade())),
        ("SVD_Newton", lambda c: CovariancePooling(c, backward=NewtonSchulz(10))),
        ("MPNCOV", lambda c: CovariancePooling(c, backward=ISQRT, decomposition="float32")),
        ("SEB", ScalingEigenBranch),
    ],
    ids=["svd", "truncated", "taylor", "pade", "newton_schulz", "isqrt", "seb"],
)
def test_output_and_gradient_of_the_published_code(name, make, case, memory_format):
    golden = golden_numbers(f"song2021_pooling_{case}")
    x, g, y, dx = (golden[key] for key in ("x", "g", f"y_{name}", f"dx_{name}"))
    x = x.clone(memory_format=memory_format).requires_grad_()
    output = make(x.shape[1])(x)
    output.backward(g)
    assert relative_error(output.detach(), y) < 1e-5
    assert relative_error(x.grad, dx) < 1e-5


@pytest.mark.parametrize("decomposition", ["float32", "float64"])
@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 2), (3, 3)])
def test_isqrt_of_fewer_positions_than_channels_is_the_iteration_on_the_covariance(decomposition, height, width):
    """With its gradient and the gradient of the gradient."""
    layer = CovariancePooling(12, backward=ISQRT, decomposition=decomposition)
    x = torch.randn(3, 12, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def derivatives(pool):
        leaf = x.clone().requires_grad_()
        output = pool(leaf).double()
        (gradient,) = torch.autograd.grad(output.square().sum(), leaf, create_graph=True)
        return output.detach(), gradient.detach(), *torch.autograd.grad(gradient.square().sum(), leaf)

    row, column = torch.triu_indices(12, 12)
    expected = derivatives(lambda x: newton_schulz(covariance(x.flatten(2)), 5)[:, row, column])
    for found, known in zip(derivatives(layer), expected, strict=True):
        assert relative_error(found, known) < 1000 * torch.finfo(getattr(torch, decomposition)).eps


# All heads


@EVERY_HEAD
@pytest.mark.parametrize("channels", [None, 5])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 2, 4), (2, 7, 7)])
def test_one_vector_for_each_image(head, channels, batch, height, width, step):
    layer = (head(8) if channels is None else head(8, channels)).train(batch * height * width > 1)
    y, gradient = step(layer, torch.randn(batch, 8, height, width, generator=torch.Generator().manual_seed(0)))
    assert y.shape == (batch, layer.out_features)
    assert y.dtype == torch.float32
    assert y.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("channels", [4, 9])
def test_number_of_features(channels):
    numbers = {name: (head(12, channels).out_features, head(channels).out_features) for name, head in HEADS.items()}
    triangle = channels * (channels + 1) // 2
    expected = {"average": channels, "maximum": channels, "bilinear": channels**2, "compact bilinear": 50}
    assert numbers == {name: (expected.get(name, triangle),) * 2 for name in HEADS}
    assert CompactBilinearPooling(channels).out_features == 8192


@EVERY_HEAD
def test_channels_last_changes_nothing(head, images, step):
    x, layer = images(7).float(), head(7)
    y, gradient = step(layer, x)
    same_y, same_gradient = step(layer, x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(same_y, y)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-4, atol=1e-5)


@EVERY_HEAD
def test_reduction_is_convolution_batch_norm_and_relu(head, images):
    x, layer = images(9).float(), head(9, 4)
    unreduced = head(4)
    unreduced.load_state_dict({key: value for key, value in layer.state_dict().items() if "reduction" not in key})
    weights = [parameter for parameter in layer.parameters() if parameter.dim() == 4]
    assert [tuple(weight.shape) for weight in weights] == [(4, 9, 1, 1)]
    reduced = batch_norm(conv2d(x, weights[0]), None, None, torch.ones(4), torch.zeros(4), training=True).relu()
    torch.testing.assert_close(layer(x), unreduced(reduced))
    running = [buffer for name, buffer in layer.named_buffers() if name.endswith("running_mean")]
    torch.testing.assert_close(running[0], 0.1 * conv2d(x, weights[0]).mean((0, 2, 3)))


@EVERY_HEAD
def test_gradients_reach_the_reduction(head, images, step):
    layer = head(9, 4)
    _, gradient = step(layer, images(9).float())
    for part in (gradient, *(parameter.grad for parameter in layer.parameters())):
        assert part.isfinite().all()
        assert part.abs().max() > 1e-6


@EVERY_HEAD
def test_no_reduction_no_parameters(head):
    assert not list(head(6).parameters())


@EVERY_HEAD
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 9), (2, 5, 3, 3), (6, 3, 3), (2, 3, 3, 6)])
def test_refuses_another_shape(head, shape):
    with pytest.raises(ValueError, match=r"^expected \(N, 6, H, W\), got .*$") as caught:
        head(6, 4)(torch.zeros(shape))
    assert str(caught.value).endswith(str(shape))


@EVERY_HEAD
@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint8])
def test_refuses_other_numbers(head, dtype: torch.dtype):
    with pytest.raises(ValueError, match=rf"^expected an input of floating-point numbers, got {dtype}$"):
        head(6)(torch.ones(2, 6, 3, 3, dtype=dtype))


@EVERY_HEAD
def test_dead_images_give_zeros_and_no_gradient(head, step):
    """And not the square root's infinite slope at 0."""
    y, gradient = step(head(6), torch.zeros(2, 6, 5, 5))
    assert y.abs().max() == 0
    assert gradient.isfinite().all()
    assert head in (HEADS["average"], HEADS["maximum"]) or gradient.abs().max() == 0


@EVERY_HEAD
@BOTH_PATHS
def test_no_images_no_vectors(head, size, step):
    y, gradient = step(head(6), torch.zeros(0, 6, size, size))
    assert y.shape == (0, head(6).out_features) and gradient.shape == (0, 6, size, size)


# Average


def test_maximum(images):
    x = images(6).float()
    torch.testing.assert_close(MaxPooling(6)(x), x.flatten(2).max(2).values)


def test_average(images):
    x = images(6).float()
    torch.testing.assert_close(AveragePooling(6)(x), x.mean((2, 3)))


# Covariance


@BOTH_PATHS
def test_covariance_pooling_is_the_upper_triangle_of_the_root(size, images):
    x = images(6, size=size)
    root = roots(covariances(x))
    torch.testing.assert_close(root @ root, covariances(x))
    assert relative_error(CovariancePooling(6)(x).double(), upper_triangle(root)) < 1e-6


@pytest.mark.parametrize("backward", [NewtonSchulz(20, "newton_schulz"), Lyapunov(8, "mpa", 30), Lyapunov(8, "mtp", 300)])
def test_methods_that_decompose_nothing_take_the_covariance(backward, images, step):
    x = images(6, size=12)
    y, gradient = step(CovariancePooling(6, backward=backward), x)
    exact_y, exact_gradient = step(CovariancePooling(6), x)
    assert relative_error(y, exact_y) < 1e-3
    assert relative_error(gradient, exact_gradient) < 0.05


def ill_conditioned():
    """Images (1, 8, 16, 16) in float32 with standard deviations of the principal directions from 1 down to 1e-4."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator)).Q
    noise = torch.randn(8, 256, dtype=torch.float64, generator=generator)
    return (basis @ (torch.logspace(0, -4, 8, dtype=torch.float64)[:, None] * noise)).view(1, 8, 16, 16).float()


def test_decomposition_is_in_float64_unless_float32_is_asked_for(step):
    """In float32 eigenvalues below u P lambda_max are lost, and their roots, (u P)^(1/2), are not small."""
    x = ill_conditioned()
    (_, gradient), (_, exact_gradient) = step(CovariancePooling(8), x), step(CovariancePooling(8), x.double())
    assert relative_error(gradient, exact_gradient) < tolerance(torch.float32, terms=8)
    _, single_gradient = step(CovariancePooling(8, decomposition="float32"), x)
    assert relative_error(single_gradient, exact_gradient) > 1e-2
    exact = upper_triangle(roots(covariances(x.double())))
    assert relative_error(CovariancePooling(8)(x).double(), exact) < tolerance(torch.float32)
    single_error = relative_error(CovariancePooling(8, decomposition="float32")(x).double(), exact)
    assert 1e-5 < single_error < (256 * torch.finfo(torch.float32).eps) ** 0.5


@BOTH_PATHS
def test_float32_decomposition_of_ordinary_features(size, images, step):
    x = images(12, size=size).float()
    y, gradient = step(CovariancePooling(12), x)
    single_y, single_gradient = step(CovariancePooling(12, decomposition="float32"), x)
    assert relative_error(single_y, y) < 5e-6
    assert relative_error(single_gradient, gradient) < 1e-4


@ROOTS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pooling_is_not_affected_by_autocast(head, dtype, images, step):
    x, layer = images(8, size=6).to(dtype), head(8)
    y, gradient = step(layer, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        half_y, half_gradient = step(layer, x)
    assert half_y.dtype == torch.float32
    assert half_gradient.dtype == dtype
    assert relative_error(half_y, y.float()) < tolerance(torch.float32)
    torch.testing.assert_close(half_gradient, gradient.to(dtype))


@EVERY_HEAD
def test_autocast_with_reduction(head, images, step):
    layer = head(9, 4)
    x = images(9).float()
    with torch.autocast("cpu", torch.bfloat16):
        y, gradient = step(layer, x)
    full_y, _ = step(layer, x)
    assert gradient.dtype == torch.float32
    assert relative_error(y.float(), full_y) < 0.1


# Scaling eigen branch


@BOTH_PATHS
def test_scaling_eigen_branch(size, images):
    """Entry by entry as the paper writes it: Q + Q * A / |A|, A = Q exp(-cov); its code has Q + Q * |A|, to be compared."""
    x = images(6, size=size) / 3
    covariance = covariances(x)
    root = roots(covariance)
    branch = root @ torch.linalg.matrix_exp(-covariance)
    expected = upper_triangle((1 + branch.flatten(1).norm(dim=1))[:, None, None] * root)
    assert relative_error(ScalingEigenBranch(6)(x).double(), expected) < 1e-6


@pytest.mark.parametrize("backward", [Exact(), Taylor(3), TopN(6), NewtonSchulz(3)], ids=lambda method: type(method).__name__)
def test_gradient_of_scaling_eigen_branch_is_that_of_the_method_for_the_root_and_exact_for_the_branch(backward, images):
    x, g = images(6), torch.randn(8, 21, generator=torch.Generator().manual_seed(0))
    given = x.clone().requires_grad_()
    ScalingEigenBranch(6, backward=backward)(given).backward(g)
    x.requires_grad_()
    covariance = covariances(x)
    values, vectors = torch.linalg.eigh(covariance)
    branch = (vectors * values.sqrt()[:, None]) @ vectors.mT @ torch.linalg.matrix_exp(-covariance)
    root, _ = matrix_function(covariance, Sqrt(), backward)
    upper_triangle((1 + branch.flatten(1).norm(dim=1))[:, None, None] * root).backward(g.double())
    assert relative_error(given.grad, x.grad) < 1e-6


# Bilinear


def test_bilinear_pooling(images):
    x = images(5)
    moment = torch.einsum("nchw,ndhw->ncd", x, x).flatten(1) / 25
    signed_root = moment.sign() * (moment.abs() + 1e-10).sqrt()
    y = BilinearPooling(5)(x)
    assert relative_error(y.double(), signed_root / signed_root.norm(dim=1, keepdim=True)) < 1e-6
    torch.testing.assert_close(y.norm(dim=1), torch.ones(8).double())


def test_gradient_of_bilinear_pooling(images, step):
    x = images(5)
    _, gradient = step(BilinearPooling(5), x)

    class Definition(nn.Module):
        def forward(self, x):
            moment = torch.einsum("nchw,ndhw->ncd", x, x).flatten(1) / 25
            return normalize(moment.sign() * moment.abs().sqrt())

    assert relative_error(gradient, step(Definition(), x)[1]) < 1e-5


def hashes(layer):
    """Places h, k and signs s, t of the two count sketches; only h + k and s t matter, so h and s of channel 0 are free."""
    places, signs = layer.places, layer.signs.double()
    return (places[:, 0] - places[0, 0]) % layer.out_features, places[0], signs[:, 0] * signs[0, 0], signs[0]


def tensor_sketch(layer, x):
    """The circular convolution of two count sketches by FFT at every position, averaged over the positions."""
    dimension = layer.out_features
    h, k, s, t = hashes(layer)
    sketches = []
    for places, signs in ((h, s), (k, t)):
        matrix = torch.zeros(layer.channels, dimension, dtype=torch.float64)
        matrix[torch.arange(layer.channels), places] = signs
        sketches.append(torch.fft.rfft(x.double().permute(0, 2, 3, 1) @ matrix))
    return torch.fft.irfft(sketches[0] * sketches[1], n=dimension).mean((1, 2))


class ByFourierTransform(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        sketch = tensor_sketch(self.layer, x)
        return normalize(sketch.sign() * (sketch.abs() + 1e-10).sqrt())


@pytest.mark.parametrize("dimension", [8, 17])
def test_compact_bilinear_pooling_convolves_count_sketches(dimension, images, step):
    torch.manual_seed(0)
    x, layer = images(10), CompactBilinearPooling(10, out_features=dimension)
    y, gradient = step(layer, x)
    expected_y, expected_gradient = step(ByFourierTransform(layer), x)
    assert relative_error(y.double(), expected_y) < 1e-5
    assert relative_error(gradient, expected_gradient) < 1e-4


def test_compact_bilinear_pooling_in_more_dimensions_than_products(images):
    torch.manual_seed(0)
    x, layer = images(4), CompactBilinearPooling(4, out_features=8192)
    y = layer(x)
    assert relative_error(y.double(), ByFourierTransform(layer)(x)) < 2e-5
    assert (y != 0).sum(1).max() <= 16


def test_inner_products_of_compact_bilinear_pooling_are_those_of_bilinear_pooling_in_expectation(images):
    torch.manual_seed(0)
    x, y = images(6, batch=2, size=3)[:, None]
    moments = [torch.einsum("nchw,ndhw->cd", image, image) / 9 for image in (x, y)]
    expected = (moments[0] * moments[1]).sum()
    draws = []
    for _ in range(400):
        layer = CompactBilinearPooling(6, out_features=64)
        draws.append((tensor_sketch(layer, x) * tensor_sketch(layer, y)).sum())
    draws = torch.stack(draws)
    deviation = draws.std() / len(draws) ** 0.5
    assert deviation < 0.05 * expected
    assert abs(draws.mean() - expected) < 3 * deviation


def test_places_and_signs_of_compact_bilinear_pooling_come_with_its_state(images):
    x = images(6)
    torch.manual_seed(0)
    first, second = CompactBilinearPooling(6, out_features=50), CompactBilinearPooling(6, out_features=50)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    torch.manual_seed(0)
    assert torch.equal(CompactBilinearPooling(6, out_features=50)(x), first(x))


def test_places_and_signs_of_compact_bilinear_pooling_are_uniform():
    torch.manual_seed(0)
    h, k, s, t = hashes(CompactBilinearPooling(1000, out_features=10))
    for places in (h, k):
        assert places.bincount(minlength=10).sub(100).abs().max() < 4 * 100**0.5
    for signs in (s, t):
        assert torch.equal(signs.abs(), torch.ones(1000, dtype=torch.float64))
        assert signs.sum().abs() < 4 * 1000**0.5
    assert not torch.equal(h, k)


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CovariancePooling(6, backward=UnrolledPowerIteration()), r"shift=0\.0: must be > 0, because power iteration"),
        (lambda: ScalingEigenBranch(6, backward=UnrolledPowerIteration()), r"shift=0\.0: must be > 0, because power iteration"),
        (lambda: ScalingEigenBranch(6, backward=ISQRT), "NewtonSchulz.*: has no eigenvalues to scale, take a method that"),
        (lambda: ScalingEigenBranch(6, backward=Lyapunov(forward="mpa")), "Lyapunov.*: has no eigenvalues to scale"),
        (lambda: CovariancePooling(6, decomposition="float16"), "decomposition='float16': must be float64 or float32"),
    ],
)
def test_refuses_in_one_line(make, message):
    with pytest.raises(ValueError, match=f"^.*{message}") as caught:
        make()
    assert "\n" not in str(caught.value)


@ROOTS
@pytest.mark.parametrize("backward", [Exact(), PowerIteration(), TopN(3), NewtonSchulz(), Lyapunov()])
def test_takes_every_method_that_decomposes(head, backward, images, step):
    y, gradient = step(head(6, backward=backward), images(6))
    assert y.isfinite().all()
    assert gradient.isfinite().all()
