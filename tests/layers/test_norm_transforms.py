"""Whitening and denoising through what transforms or exports a network: evaluation is a plain affine map."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd import gradgradcheck
from torch.func import functional_call, grad, jacrev, jvp, vmap

from spectral_repro.layers import PCADenoising, ZCAWhitening
from spectral_repro.linalg.backward import Taylor
from tests.tolerance import assert_near

NORMS = {"zca": partial(ZCAWhitening, 8, 4), "pca": partial(PCADenoising, 8, 3)}
each_norm = pytest.mark.parametrize("build", NORMS.values(), ids=NORMS.keys())
each_memory_format = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)


def evaluating(
    build, memory_format: torch.memory_format = torch.contiguous_format
) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small network in evaluation, an input, and an input of another batch size."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), build(weight_init="uniform"), nn.ReLU())
    x = torch.randn(11, 3, 7, 6).contiguous(memory_format=memory_format)
    network(x)
    return network.eval(), x[:4], x


@each_norm
@each_memory_format
@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("frozen", [False, True])
def test_evaluation_is_exported_with_any_batch_size_as_standard_operations(build, memory_format, frozen: bool):
    network, x, other = evaluating(build, memory_format)
    network.requires_grad_(not frozen)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert_near(program.module()(other), network(other), terms=100)
    operations = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert all(operation.namespace == "aten" for operation in operations)
    assert not any("eigh" in str(operation) for operation in operations)


@each_norm
@pytest.mark.filterwarnings("ignore")
def test_onnx_computes_the_same(build):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, x, other = evaluating(build)
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    assert_near(torch.from_numpy(found), network(other).detach(), terms=100)


@each_norm
@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("gradients", [True, False])
def test_a_trace_computes_the_same(build, gradients: bool):
    network, x, other = evaluating(build)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(network, (x,))
        assert_near(traced(other), network(other), terms=100)


@each_norm
def test_evaluation_compiles_to_one_graph(build):
    network, x, _ = evaluating(build)
    torch.compiler.reset()
    assert_near(torch.compile(network, fullgraph=True, backend="eager")(x), network(x), terms=100)


@each_norm
@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's forward mode uses it
@pytest.mark.parametrize("training", [False, True])
def test_function_transforms_agree_with_autograd(build, training: bool):
    layer = build(weight_init="uniform", track_running_stats=not training).double()  # vmap refuses to change them
    layer(torch.randn(4, 8, 3, 3, dtype=torch.float64))
    layer.train(training)
    x = torch.randn(3, 5, 8, 3, 3, dtype=torch.float64)
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())

    def call(parameters: dict, x: torch.Tensor) -> torch.Tensor:
        return functional_call(layer, (parameters, {key: value.clone() for key, value in buffers.items()}), (x,))

    def loss(parameters: dict, x: torch.Tensor) -> torch.Tensor:
        return call(parameters, x).pow(3).sum()

    near = partial(assert_near, terms=64, condition=1e4)
    near(vmap(partial(call, parameters))(x), torch.stack([call(parameters, each) for each in x]))
    leaf = x[0].clone().requires_grad_()
    expected = torch.autograd.grad(loss(parameters, leaf), (leaf, *parameters.values()))
    near(grad(loss, 1)(parameters, x[0]), expected[0])
    for value, reference in zip(grad(loss)(parameters, x[0]).values(), expected[1:], strict=True):
        near(value, reference)
    near(vmap(grad(partial(loss, parameters)))(x)[0], expected[0])
    near(jacrev(partial(loss, parameters))(x[0]), expected[0])
    near(jvp(partial(loss, parameters), (x[0],), (x[1],))[1], (expected[0] * x[1]).sum())


@each_norm
@each_memory_format
@pytest.mark.parametrize("training", [False, True])
def test_second_derivatives_agree_with_finite_differences(build, memory_format, training: bool):
    layer = build(weight_init="uniform", eps=0.1).double()
    layer(torch.randn(4, 8, 3, 3, dtype=torch.float64))
    layer.train(training)
    x = torch.randn(3, 8, 1, 2, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    assert gradgradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_a_second_derivative_of_an_approximate_gradient_is_refused():
    x = torch.randn(5, 8, 3, 3, requires_grad=True)
    (first,) = torch.autograd.grad(ZCAWhitening(8, 4, Taylor(9))(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="Exact"):
        first.sum().backward()


@each_norm
@pytest.mark.parametrize("decomposition", ["float32", "float64"])
@pytest.mark.parametrize("training", [False, True])
def test_autocast_changes_nothing_of_a_float32_layer(build, decomposition: str, training: bool):
    layer = build(decomposition=decomposition, weight_init="uniform")
    layer(torch.randn(4, 8, 3, 3))
    layer.train(training)
    x, grad_output = 3 + torch.randn(2, 5, 8, 3, 3)
    results = []
    for enabled in (False, True):
        each, leaf = copy.deepcopy(layer), x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = each(leaf)
            if training:  # against torch's advice, but then too
                y.backward(grad_output)
        if not training:
            y.backward(grad_output)
        results.append((y, leaf.grad, each.weight.grad, each.bias.grad, each.running_mean, each.evaluation_matrix))
    for plain, inside in zip(*results, strict=True):
        assert torch.equal(plain, inside)


@each_norm
def test_no_gradient_is_computed_if_it_is_not_needed(build):
    x = torch.randn(5, 8, 3, 3)
    frozen = build().requires_grad_(False)
    assert not frozen(x).requires_grad
    layer, leaf = build(), x.clone().requires_grad_()
    layer(x).pow(3).sum().backward()
    alone = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    layer(leaf).pow(3).sum().backward()
    for value, reference in zip(alone, [parameter.grad for parameter in layer.parameters()], strict=True):
        assert_near(value, reference, terms=64)
    other = leaf.detach().requires_grad_()
    frozen(other).pow(3).sum().backward()
    assert_near(other.grad, leaf.grad, terms=64, condition=100)
