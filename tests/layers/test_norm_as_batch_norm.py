"""Whitening and denoising used as a batch norm is used: its arguments, buffers, input shapes and checkpoints."""

import copy
import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from spectral_repro.data.handwritten import digits
from spectral_repro.layers import PCADenoising, ZCAWhitening, convert, covariance_norm, recalibrate
from spectral_repro.linalg.backward import NewtonSchulz
from tests.tolerance import assert_near

NORMS = {
    "zca": partial(ZCAWhitening, 8, 4),
    "pca": partial(PCADenoising, 8, 3),
    "pca-information": partial(PCADenoising, 8, None, 0.9, "auto"),
}
each_norm = pytest.mark.parametrize("build", NORMS.values(), ids=NORMS.keys())
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def randomised(module: nn.Module) -> nn.Module:
    """The network with random running statistics, weights and biases in its batch norms."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for tensor in (layer.weight, layer.running_var):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (layer.bias, layer.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor)
    return module


# Arguments and buffers


@pytest.mark.parametrize(("channels", "expected"), [(64, 16), (72, 12), (8, 8), (17, 1), (34, 2), (1, 1), (40, 10)])
def test_the_group_size_is_the_largest_divisor_up_to_16_unless_it_is_given(channels: int, expected: int):
    assert ZCAWhitening(channels).group_size == expected
    assert ZCAWhitening(channels, None).group_size == channels == PCADenoising(channels, 1).group_size


def test_numpy_integers_and_dtypes_or_their_names_are_taken():
    layer = PCADenoising(np.int64(8), np.int32(3), group_size=np.int64(4), decomposition=torch.float32)
    assert (layer.num_features, layer.components, layer.group_size) == (8, 3, 4)
    assert layer.decomposition is PCADenoising(8, 3, decomposition="float32").decomposition is torch.float32
    layer(torch.randn(4, 8, 3, 3)).sum().backward()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decomposition": torch.float16}, "decomposition=torch.float16: must be float64 or float32"),
        ({"decomposition": "half"}, "decomposition='half'"),
        ({"running": "mean"}, "running='mean': must be covariance or matrix"),
        ({"shrinkage": 1.5}, "shrinkage=1.5"),
        ({"shrinkage": 0.1, "truncation": "reference"}, "shrinkage=0.1: must be 0 with truncation=reference"),
        ({"momentum": 0}, "momentum=0: .*None for the average of all batches"),
    ],
)
def test_a_wrong_argument_is_named(options: dict, named: str):
    with pytest.raises(ValueError, match=named):
        ZCAWhitening(8, **options)
    with pytest.raises(TypeError, match="groupsize"):
        ZCAWhitening(8, groupsize=4)


def test_the_published_truncation_comes_with_the_published_statistics():
    assert (ZCAWhitening(8).running, PCADenoising(8, 3).running) == ("covariance", "covariance")
    published = ZCAWhitening(8, truncation="reference")
    assert (published.running, published.shrinkage) == ("matrix", 0)
    assert PCADenoising(8, 3, truncation="reference_svd").running == "matrix"


@each_norm
@pytest.mark.parametrize("running", ["covariance", "matrix"])
def test_buffers_are_those_of_a_batch_norm_but_for_the_covariance(build, running: str):
    layer, plain = build(running=running), nn.BatchNorm2d(8)
    assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
    assert set(layer.state_dict()) == set(plain.state_dict()) - {"running_var"} | {f"running_{running}"}
    for _ in range(3):
        layer(torch.randn(4, 8, 3, 3))
    assert layer.num_batches_tracked == 3
    changed = copy.deepcopy(layer)
    changed.reset_running_stats()
    for name, value in build(running=running).named_buffers():
        if name.startswith("running") or name == "num_batches_tracked":
            assert torch.equal(changed.get_buffer(name), value)
    nn.init.zeros_(layer.weight)
    layer.reset_parameters()
    assert torch.equal(layer.weight, torch.ones(8)) and layer.num_batches_tracked == 0
    pickle.loads(pickle.dumps(layer))


@each_norm
def test_device_and_dtype_are_those_asked_for(build):
    layer = build(device="meta", dtype=torch.float64)
    assert {(tensor.device.type, tensor.dtype) for tensor in layer.parameters()} == {("meta", torch.float64)}
    for training in (True, False):
        x = torch.randn(4, 8, 5, 5, device="meta", dtype=torch.float64, requires_grad=True)
        y = layer.train(training)(x)
        y.sum().backward()
        assert y.shape == x.grad.shape == x.shape and x.grad.is_meta
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    x = torch.randn(4, 8, 5, 5, dtype=torch.float64)
    assert torch.equal(layer.train()(x), build(dtype=torch.float64)(x))


# Statistics


@each_norm
@pytest.mark.parametrize("momentum", [0.3, 1.0, None])
def test_the_running_covariance_is_averaged_as_the_variance_of_a_batch_norm(images, build, momentum: float | None):
    layer, plain = build(momentum=momentum).double(), nn.BatchNorm2d(8, momentum=momentum).double()
    for seed in range(3):
        x = images(8, seed=seed)
        layer(x), plain(x)
    assert_near(layer.running_mean, plain.running_mean, terms=200)
    assert_near(layer.running_covariance.diagonal(dim1=-2, dim2=-1).flatten(), plain.running_var, terms=200)
    if momentum == 1:
        whole = x.movedim(1, 0).flatten(1).cov()
        for block, group in zip(layer.running_covariance, whole.split(layer.group_size), strict=True):
            start = (whole == group[0]).all(1).nonzero().item()
            assert_near(block, group[:, start : start + layer.group_size], terms=200)


@each_norm
def test_evaluation_without_running_statistics_uses_the_batch(images, build):
    layer, x = build(track_running_stats=False).double(), images(8)
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert torch.equal(layer.eval()(x), build().double()(x))
    assert torch.equal(layer(x), layer.train()(x))


@each_norm
def test_evaluation_is_affine_in_the_running_statistics(images, build):
    layer = build().double()
    layer(images(8))
    layer.eval()
    matrix, _ = layer.matrix(layer.running_covariance, 1.0)
    x = images(8, seed=1)
    centred = (x - layer.running_mean[:, None, None]).unflatten(1, (-1, layer.group_size))
    expected = torch.einsum("gij,ngjhw->ngihw", matrix, centred).flatten(1, 2)
    assert_near(layer(x), expected, terms=64, condition=100)
    with torch.no_grad():
        assert_near(layer(x), expected, terms=64, condition=100)


def test_a_changed_running_covariance_counts_at_once(images):
    """Loaded in evaluation, reset in evaluation, or with the mode set by hand."""
    trained, x = ZCAWhitening(8, 4).double(), images(8)
    trained(x)
    loaded = ZCAWhitening(8, 4).double().eval()
    loaded.load_state_dict(trained.state_dict())
    by_hand = copy.deepcopy(trained)
    by_hand.training = False
    expected = trained.eval()(x)
    assert torch.equal(loaded(x), expected) and torch.equal(by_hand(x), expected)
    loaded.reset_running_stats()
    assert torch.equal(loaded(x), ZCAWhitening(8, 4).double().eval()(x))


@each_norm
@pytest.mark.parametrize("elsewhere", [False, True], ids=["cpu", "elsewhere"])
@pytest.mark.parametrize("change", ["state_dict", "assign", "call", "average", "copy", "inference", "data", "numpy"])
def test_evaluation_follows_running_statistics_that_are_changed_from_outside(
    images, build, change: str, elsewhere: bool, monkeypatch
):
    """Also where numbers are not compared, as on a GPU; ``eval()`` must then follow a change that torch does not count."""
    if elsewhere:
        monkeypatch.setattr(covariance_norm, "_is_comparable", lambda tensor: False)
    layer, other, x = build().double(), build().double(), images(8).requires_grad_()
    layer(images(8, seed=1)), other(10 * images(8, seed=2))
    layer.eval(), other.eval()
    layer(x), other(x)
    if change == "state_dict":  # as averages of weights do
        for value, newest in zip(layer.state_dict().values(), other.state_dict().values(), strict=True):
            value.copy_(newest)
    elif change == "assign":
        for name, buffer in other.named_buffers():
            setattr(layer, name, buffer.clone())
    elif change == "average":
        layer = AveragedModel(layer, avg_fn=lambda average, newest, number: newest, use_buffers=True)
        layer.update_parameters(layer.module), layer.update_parameters(other)
    elif change == "copy":
        layer.load_state_dict(other.state_dict())
        layer.running_covariance.copy_(2 * other.running_covariance)
        layer = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
        layer.running_covariance.div_(2)
    elif change == "inference":
        with torch.inference_mode():
            layer.load_state_dict(other.state_dict())
            layer.running_covariance.mul_(2)
            layer(x)
            layer.running_covariance.div_(2)
            layer(x)
    elif change == "data":
        for mine, newest in zip(layer.buffers(), other.buffers(), strict=True):
            mine.data.copy_(newest.data)
    elif change == "numpy":
        for mine, newest in zip(layer.buffers(), other.buffers(), strict=True):
            mine.numpy()[...] = newest.numpy()
    if elsewhere and change in ("data", "numpy"):
        layer.eval()
    y = functional_call(layer, other.state_dict(), (x,)) if change == "call" else layer(x)
    assert_near(y, other(x), terms=64, condition=100)
    y.sum().backward()


def test_a_mean_teacher_normalises_as_its_student(images):
    """Its buffers are copied from those of a student in training, and its mode never changes."""
    student = ZCAWhitening(8, 4).double()
    teacher = copy.deepcopy(student).eval()
    for seed in range(3):
        student(images(8, seed=seed))
        for mine, newest in zip(teacher.buffers(), student.buffers(), strict=True):
            mine.data.copy_(newest.data)
        y = teacher(images(8))
    assert torch.equal(y, student.eval()(images(8)))


CHANGES = {
    "zca": {"eps": 1.0, "shrinkage": 0.9, "backward_method": NewtonSchulz(2, "newton_schulz"), "decomposition": torch.float32},
    "pca": {"components": 2, "decomposition": torch.float32, "eps": 1.0, "truncation": "reference"},
    "pca-information": {"information": 0.5},
}


@pytest.mark.parametrize("name", NORMS)
def test_evaluation_follows_settings_that_are_changed(images, name: str):
    x, layer = images(8), NORMS[name]().double()
    layer(x)
    layer.eval()
    for setting, value in CHANGES[name].items():
        before = layer(x)
        setattr(layer, setting, value)
        y = layer(x)
        assert not torch.equal(y, before) and torch.equal(y, layer.eval()(x)), setting


def test_a_graph_of_a_layer_moved_in_evaluation_has_no_decomposition(images):
    """The matrix moves with the layer, though it is no buffer."""
    layer, x = ZCAWhitening(8, 4), images(8)
    layer(x.float())
    layer.eval().double()
    program = torch.export.export(layer, (x,))
    assert not any("linalg" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), layer(x))


@each_norm
@pytest.mark.parametrize("assign", [True, False])
def test_a_network_made_on_the_meta_device_takes_a_checkpoint(images, build, assign: bool):
    trained, x = build(dtype=torch.float64), images(8)
    trained(x)
    layer = build(device="meta", dtype=torch.float64).eval()
    layer = layer if assign else layer.to_empty(device="cpu")
    layer.load_state_dict(trained.state_dict(), assign=assign)
    assert torch.equal(layer(x), trained.eval()(x)) and torch.equal(layer.eigenvalues, torch.ones_like(layer.eigenvalues))
    layer.train()(x)
    assert not torch.equal(layer.eigenvalues, torch.ones_like(layer.eigenvalues))


def test_running_statistics_in_float16_overflow_no_earlier_than_those_of_a_batch_norm():
    x = 300 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).half()
    layer, plain = ZCAWhitening(8).half(), nn.BatchNorm1d(8).half()
    layer(x), plain(x)
    assert plain.running_var.isfinite().all() and layer.running_covariance.isfinite().all()
    assert_near(layer.running_covariance[0].diagonal(), plain.running_var)


def test_shrinkage_goes_from_whitening_to_batch_norm(images):
    x = images(8)
    plain = nn.BatchNorm2d(8, eps=1e-4).double()
    assert_near(ZCAWhitening(8, shrinkage=1).double()(x), plain(x), terms=200)
    y = ZCAWhitening(8, shrinkage=0.5, affine=False).double()(x).movedim(1, 0).flatten(1)
    covariance = x.movedim(1, 0).flatten(1).cov(correction=0)
    shrunk = 0.5 * covariance + torch.diag(0.5 * covariance.diagonal()) + 1e-4 * torch.eye(8)
    values, vectors = torch.linalg.eigh(shrunk)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.mT
    assert_near(y.cov(correction=0), root @ covariance @ root, terms=200, condition=1e4)


# Input


@each_norm
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(40, 8), (4, 8, 10), (4, 8, 2, 5), (4, 8, 1, 2, 5)], ids=len)
def test_every_shape_of_a_batch_norm_is_the_same_to_it(images, build, shape: tuple, training: bool):
    layer = build().double()
    layer(images(8))
    layer.train(training)
    values = torch.randn(4, 8, 10, dtype=torch.float64)
    x = (values.mT.reshape(40, 8) if len(shape) == 2 else values.view(shape)).detach().requires_grad_()
    y, expected = layer(x), copy.deepcopy(layer)(values)
    assert y.shape == shape
    rows = y if len(shape) == 2 else y.flatten(2).mT.reshape(40, 8)
    assert_near(rows, expected.mT.reshape(40, 8), terms=64, condition=100)
    y.square().sum().backward()
    assert x.grad.shape == shape


@each_norm
@pytest.mark.parametrize("training", [True, False])
def test_volumes_keep_their_memory_format(build, training: bool):
    x = torch.randn(2, 8, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)
    y = build().train(training)(x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


# Conversion and recalibration


@pytest.mark.parametrize("dims", BATCH_NORMS)
@pytest.mark.parametrize(
    "options",
    [{}, {"affine": False}, {"bias": False}, {"momentum": None}, {"track_running_stats": False}, {"eps": 0.1}],
    ids=str,
)
@pytest.mark.parametrize("running", ["covariance", "matrix"])
def test_a_converted_layer_evaluates_as_its_batch_norm(dims: int, options: dict, running: str):
    plain = randomised(BATCH_NORMS[dims](8, **options)).double().eval()
    if options.get("affine", True):
        plain.weight.requires_grad_(False)
    x = torch.randn(6, 8, 2, 3, 1, dtype=torch.float64)[(..., *[0] * (5 - dims))]
    layer = convert(copy.deepcopy(plain), ZCAWhitening, running=running)
    assert isinstance(layer, ZCAWhitening) and not layer.training
    assert (layer.eps, layer.momentum) == (plain.eps, plain.momentum)
    trained = [{name for name, each in module.named_parameters() if each.requires_grad} for module in (layer, plain)]
    assert trained[0] == trained[1]
    if plain.track_running_stats:
        assert_near(layer(x), plain(x), terms=64)
        assert layer.num_batches_tracked == plain.num_batches_tracked
    restored = ZCAWhitening(8, **{"eps": 1e-5} | options, running=running).double()
    restored.load_state_dict(plain.state_dict())
    assert torch.equal(restored.eval()(x), layer.eval()(x))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_a_converted_network_computes_in_evaluation_what_it_computed(name: str):
    network = randomised(models.get_model(name)).eval()
    network.features[0].requires_grad_(False) if name.startswith("mobile") else network.bn1.requires_grad_(False)
    x = torch.randn(2, 3, 64, 64)
    batch_norms = [key for key, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    with torch.no_grad():
        expected = network(x)
        convert(network, ZCAWhitening)
        found = network(x)
    assert_near(found, expected, terms=10_000, condition=100)
    assert [key for key, module in network.named_modules() if isinstance(module, ZCAWhitening)] == batch_norms
    assert [key for key, parameter in network.named_parameters() if not parameter.requires_grad] == frozen
    network.train()(x).sum().backward()


def test_a_layer_under_two_names_and_a_subclass_are_replaced_and_nothing_if_one_cannot_be():
    class Checked(nn.BatchNorm2d):
        def extra_repr(self) -> str:
            return "checked"

    shared = Checked(6)
    network = nn.ModuleDict({"first": nn.Sequential(shared), "second": shared, "third": nn.BatchNorm2d(9)})
    with pytest.raises(ValueError, match=r"third \(BatchNorm2d\): group_size=6: must divide the 9 channels"):
        convert(network, ZCAWhitening, group_size=6)
    assert network["second"] is shared and network["first"][0] is shared
    for option in ("affine", "bias", "track_running_stats"):
        with pytest.raises(ValueError, match=rf"first.0 \(Checked\): {option}=False: does not fit the batch norm; take keep_w"):
            convert(network, ZCAWhitening, **{option: False})
    convert(network, ZCAWhitening)
    with pytest.raises(RuntimeError, match="size mismatch for running_mean"):
        network["second"].load_state_dict(nn.BatchNorm2d(10).state_dict())
    assert network["first"][0] is network["second"] and isinstance(network["second"], ZCAWhitening)
    with pytest.raises(ValueError, match=r"0 .LazyBatchNorm2d. has no size yet"):
        convert(nn.Sequential(nn.LazyBatchNorm2d()), ZCAWhitening)


@pytest.mark.parametrize("recompute", ["recalibrate", "update_bn"])
def test_statistics_of_fixed_weights_are_even_averages(recompute: str):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), ZCAWhitening(8), nn.Dropout(0.0), nn.BatchNorm2d(8)).eval()
    first, last = network[1], network[3]
    batches = [torch.randn(6, 3, 6, 6) + index for index in range(4)]
    last.weight.requires_grad_(False)
    weights = copy.deepcopy(dict(network.named_parameters()))
    recalibrate(network, batches) if recompute == "recalibrate" else update_bn(batches, network)
    features = [network[0](batch).detach().double() for batch in batches]
    covariances = [each.movedim(1, 0).flatten(1).cov() for each in features]
    assert_near(first.running_covariance[0], torch.stack(covariances).mean(0).float(), terms=10_000)
    assert_near(first.running_mean, torch.stack([each.mean((0, 2, 3)) for each in features]).mean(0).float(), terms=10_000)
    assert first.num_batches_tracked == last.num_batches_tracked == 4
    assert (first.momentum, last.momentum, network.training, first.training) == (0.1, 0.1, False, False)
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())


def test_recalibration_keeps_modes_and_needs_a_batch():
    network = nn.Sequential(nn.Linear(4, 8), ZCAWhitening(8, momentum=0.2), nn.Dropout(0.5)).train()
    network[0].eval()
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="no batch"):
        recalibrate(network, [])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    recalibrate(network, [torch.randn(20, 4)])
    assert [layer.training for layer in network] == [False, True, True] and network[1].momentum == 0.2


def test_recalibration_takes_images_with_labels_and_keeps_the_statistics_after_an_error():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), ZCAWhitening(8))
    network(torch.randn(20, 4))
    images = torch.randn(40, 4)
    loader = DataLoader(TensorDataset(images, torch.arange(40)), batch_size=20)
    alone = recalibrate(copy.deepcopy(network), images.split(20))
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError):
        recalibrate(network, [images, torch.randn(20, 5)])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert (network[1].momentum, network[2].momentum, network[2].training) == (0.1, 0.1, True)
    recalibrate(network, loader)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in network.state_dict().items())
    assert torch.equal(network.eval()(images), alone.eval()(images))


def test_sync_batch_norms_are_not_made_of_them_silently():
    with pytest.raises(AttributeError, match="running_var"):
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(ZCAWhitening(8)))


@pytest.mark.parametrize("build", [partial(ZCAWhitening, 128, None), partial(PCADenoising, 128, 16)], ids=["zca", "pca"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_training_step_needs_little_memory_beyond_input_output_and_gradients(build, memory_format):
    """By the profiler. Tiles may take a quarter of the input each, and the d x d computations are small beside it."""
    layer = build(decomposition="float32")
    x, gradient = (torch.randn(512, 128, 5, 5).contiguous(memory_format=memory_format) for _ in range(2))
    x.requires_grad_()
    with torch.profiler.profile(profile_memory=True) as profile:
        layer(x).backward(gradient)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    assert live.max() < (2 + 1.2) * x.numel() * x.element_size()


# Evaluation of trained networks


def accuracies(norm: Callable[[int], nn.Module], seed: int) -> tuple[float, float, float]:
    """Of a small network after ten epochs of the digits, in percent: with the statistics of the batch in evaluation too, with
    the running statistics, and with those after `recalibrate`. Its nine inputs feed 16 channels, so that small directions,
    which move fast, are whitened.
    """
    torch.manual_seed(seed)
    data = digits()
    pixels = data.train.images.float()
    mean, deviation = pixels.mean(), pixels.std()
    (x, labels), (test_x, test_labels) = (((s.images - mean) / deviation, s.labels) for s in (data.train, data.test))
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), norm(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), norm(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(32, 10)),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(10):
        for batch in torch.randperm(len(x)).split(64)[:-1]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), labels[batch]).backward()
            optimizer.step()

    @torch.no_grad()
    def accuracy(network: nn.Module) -> float:
        return 100 * (network.eval()(test_x).argmax(1) == test_labels).float().mean().item()

    of_batches = copy.deepcopy(network)
    for layer in of_batches:
        if isinstance(layer, ZCAWhitening):
            layer.track_running_stats = False
    found = accuracy(of_batches), accuracy(network)
    recalibrate(network, (x[batch] for batch in torch.randperm(len(x)).split(64)[:20]))
    return *found, accuracy(network)


@pytest.mark.slow
def test_running_statistics_serve_a_trained_network_as_those_of_the_batch_do():
    of_batches, running, recalibrated = np.mean([accuracies(ZCAWhitening, seed) for seed in range(3)], axis=0)
    assert of_batches > 90 and of_batches - running < 5 and abs(of_batches - recalibrated) < 1
    published = partial(ZCAWhitening, shrinkage=0.0, running="matrix")
    of_batches, running, recalibrated = accuracies(published, 0)
    assert of_batches > 90 and of_batches - running > 20 and abs(of_batches - recalibrated) < 3
