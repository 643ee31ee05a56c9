"""Measures what every layer can do besides a plain training step: `python -m tests.capabilities` writes docs/capabilities.md.

A column of the table is a function of an example of a layer. Its return value is the cell, "yes" for None. If the layer raises
an error, the cell is "no". A wrong result raises an AssertionError, which is not caught, so that no table is written.
"""

import copy
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from spectral_repro.layers import export
from spectral_repro.layers.replicas import synchronise
from tests.every_class import LAYERS, Example

TABLE = Path(__file__).parents[1] / "docs" / "capabilities.md"
PROCESSES = 2
FUNCTIONS = {"convert", "export", "orthogonal_penalty"}  # of networks

OF_TORCH: dict[str, list[Example]] = {
    "torch.nn.BatchNorm2d": [(lambda: nn.BatchNorm2d(8), (4, 8, 5, 5))],
    "torch.nn.Conv2d": [(lambda: nn.Conv2d(8, 6, 3, padding=1), (4, 8, 6, 6))],
}


def rows() -> dict[str, Example]:
    """The first example of every layer, and of two of torch for comparison."""
    ours = {name: LAYERS[name] for name in sorted(LAYERS) if name not in FUNCTIONS}
    return {name: examples[0] for name, examples in (ours | OF_TORCH).items()}


def double_backward(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> str:
    """correct second derivatives in training for the input and all parameters (`gradgradcheck`). Layers with a norm by power
    iteration have them in evaluation only, and raise an error in training, where the vectors of the iteration are constants
    """
    module, x = _made(make, shape, torch.float64)
    names, parameters = zip(*module.named_parameters(), strict=True) if list(module.parameters()) else ((), ())

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(copy.deepcopy(module), dict(zip(names, parameters, strict=True)) | _buffers(module), (x,))

    def twice() -> None:
        first = torch.autograd.grad(_loss(run(*inputs)), inputs, create_graph=True)
        sum(gradient.square().sum() for gradient in first).backward()

    inputs, iterated = (x.requires_grad_(), *parameters), False
    try:
        twice()
    except NotImplementedError as refused:
        iterated = "use evaluation mode" in str(refused)
        module.eval()
        twice()
    right = torch.autograd.gradgradcheck(run, inputs, fast_mode=True, raise_exception=False)
    assert right, "the second derivatives are wrong"
    return "in evaluation" if iterated else "yes"


def functional(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> str:
    """`torch.func`: `grad` and `jvp` in training, `vmap` of `grad` in evaluation"""
    module, x = _made(make, shape, torch.float64)
    parameters = dict(module.named_parameters())

    def run(parameters: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(copy.deepcopy(module), parameters | buffers, (x,))

    def loss(parameters: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        return _loss(run(parameters, x, buffers))

    gradients = torch.func.grad(loss, argnums=(0, 1))(parameters, x, _buffers(module))
    leaf = x.clone().requires_grad_()
    loss(parameters, leaf, _buffers(module)).backward()
    expected = {name: parameter.grad for name, parameter in parameters.items()}, leaf.grad
    torch.testing.assert_close(gradients, expected)
    module.eval()
    each = torch.stack([x, 2 * x.flip(0), x + 1])
    of_each = vmap(torch.func.grad(lambda x: loss(parameters, x, _buffers(module))))(each)
    leaf = each.requires_grad_()
    sum(loss(parameters, one, _buffers(module)) for one in leaf).backward()
    torch.testing.assert_close(of_each, leaf.grad)
    module.train()
    direction, leaf = torch.randn_like(x), x.clone().requires_grad_()
    try:
        y, tangent = jvp(lambda x: run(parameters, x, _buffers(module)), (x,), (direction,))
    except NotImplementedError:
        return "without jvp"
    grad_output = torch.randn_like(y)
    run(parameters, leaf, _buffers(module)).backward(grad_output)
    torch.testing.assert_close((grad_output * tangent).sum(), (leaf.grad * direction).sum())
    return "yes"


def compiled(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """`torch.compile(fullgraph=True)` of two training steps: one graph, the same outputs and gradients"""
    module, x = _made(make, shape)
    twin = copy.deepcopy(module)
    torch._dynamo.reset()
    graph = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(_gradients(graph, twin, x), _gradients(module, module, x))


def exported(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """`torch.export` in evaluation, with a batch of any size"""
    module, x = _made(make, shape)
    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    larger = torch.randn(len(x) + 3, *x.shape[1:])
    torch.testing.assert_close(program.module()(larger), module(larger))


def onnx(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> str | None:
    """`torch.onnx.export` in evaluation, with a batch of any size, the same outputs in ONNX Runtime; "as export" where
    `spectral_repro.layers.export` must make plain layers first, since ONNX has no decompositions and no matrix exponential.
    Layers that decompose their input, such as covariance pooling, cannot be exported to ONNX; make them with
    `backward=NewtonSchulz(30, forward="newton_schulz")`, which needs matrix products alone
    """
    module, x = _made(make, shape)
    module.eval()
    try:
        _check_onnx(module, module, x)
    except torch.onnx.errors.OnnxExporterError:
        plain = export(module)
        if all(type(part) is type(other) for part, other in zip(plain.modules(), module.modules(), strict=False)):
            raise
        _check_onnx(plain, module, x)
        return "as export"
    return None


def _check_onnx(exported: nn.Module, module: nn.Module, x: Tensor) -> None:
    import onnxruntime

    batch = {0: torch.export.Dim("batch", min=2)}
    with torch.no_grad():
        program = torch.onnx.export(exported, (x,), dynamo=True, dynamic_shapes=(batch,), verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    larger = torch.randn(len(x) + 3, *x.shape[1:])
    (found,) = session.run(None, {session.get_inputs()[0].name: larger.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), module(larger).detach(), rtol=1e-4, atol=1e-5)


def meta(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """forward and backward on the meta device"""
    with torch.device("meta"):
        module, x = make().train(), torch.empty(shape, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.is_meta


def half_precision(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """layer and input in bfloat16 and float16, and under autocast: outputs and gradients are correct up to rounding"""
    for dtype in (torch.bfloat16, torch.float16):
        module, x = _made(make, shape, dtype)
        expected = _gradients(*[copy.deepcopy(module).double()] * 2, x.double())
        _assert_rounded(_gradients(module, module, x), expected, dtype)
        module = copy.deepcopy(module).float()
        with torch.autocast("cpu", dtype):
            found = _gradients(module, module, x.float())
        _assert_rounded(found, expected, dtype)


def channels_last(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """the same results for images in channels_last; outputs and gradients keep the format"""
    module, x = _made(make, shape)
    twin, images = copy.deepcopy(module), x.contiguous(memory_format=torch.channels_last)
    twin = twin.to(memory_format=torch.channels_last)
    found = _gradients(twin, twin, images)
    torch.testing.assert_close(found, _gradients(module, module, x), rtol=1e-4, atol=1e-5)
    if not all(part.is_contiguous(memory_format=torch.channels_last) for part in found[:2] if part.dim() == 4):
        raise ValueError("the output or the gradient is in another memory format")


def several_processes(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """`DistributedDataParallel` of two processes, after `synchronise`: the outputs, gradients and buffers of one with the
    whole batch

    This is called in every process.
    """
    module, x = _made(make, shape, torch.float64)
    first = nn.Conv2d(shape[1], shape[1], 1, dtype=torch.float64)
    alone, shared = (nn.Sequential(first, module), nn.Sequential(copy.deepcopy(first), copy.deepcopy(module)))
    expected = _gradients(alone, alone, x)
    replica = nn.parallel.DistributedDataParallel(synchronise(shared))
    share = slice(dist.get_rank() * len(x) // PROCESSES, (dist.get_rank() + 1) * len(x) // PROCESSES)
    y, _, *gradients = _gradients(replica, shared, x[share])
    found = [y, *(gradient * PROCESSES for gradient in gradients), *shared.buffers()]
    torch.testing.assert_close(found, [expected[0][share], *expected[2:], *alone.buffers()])


QUICK = {"torch.func": functional, "double backward": double_backward, "meta": meta, "half precision": half_precision}
QUICK |= {"channels_last": channels_last}
SLOW = {"compile": compiled, "export": exported, "ONNX": onnx, "several processes": several_processes}
COLUMNS = QUICK | SLOW


def measure(column: str) -> dict[str, str]:
    """The cells of a column, by layer."""
    if COLUMNS[column] is several_processes:
        return _in_processes()
    return {name: _cell(COLUMNS[column], example) for name, example in rows().items()}


def committed(column: str) -> dict[str, str]:
    """The cells of a column of the table in the documentation."""
    lines = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line] for line in lines]
    return {line[0].strip("`"): line[head.index(column)] for line in body}


def write() -> None:
    """Measures all cells and writes the table."""
    cells = {column: measure(column) for column in COLUMNS}
    about = [f"- **{name}**: {' '.join(column.__doc__.split('This is')[0].split())}" for name, column in COLUMNS.items()]
    table = [f"| layer | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in rows():
        table.append(f"| `{name}` | {' | '.join(cells[column][name] for column in COLUMNS)} |")
    head = "What the layers can do besides a plain training step. Each cell is measured: `python -m tests.capabilities` writes"
    text = [
        "# Capabilities",
        "",
        head,
        "this page, and a test compares it with what the layers do.",
        "",
        *table,
        "",
        *about,
        "",
    ]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(text))


def _cell(column: Callable[..., str | None], example: Example) -> str:
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return column(*example) or "yes"
    except AssertionError:
        raise
    except Exception as error:
        if os.environ.get("CAPABILITIES_VERBOSE"):
            print(column.__name__, example, type(error).__name__, str(error)[:500])
        return "no"


def _made(
    make: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return make().to(dtype).train(), torch.randn(shape).to(dtype)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def _gradients(run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradient of the input and gradients of the parameters of a training step."""
    module.zero_grad()
    leaf = x.detach().requires_grad_()
    y = run(leaf)
    _loss(y).backward()
    return [y.detach(), leaf.grad, *(parameter.grad for parameter in module.parameters())]


def _loss(y: Tensor) -> Tensor:
    """A function that is not constant for outputs of fixed mean, variance or length."""
    return y.sin().sum()


def _assert_rounded(found: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for value, reference in zip(found, expected, strict=True):
        error = (value.double() - reference).norm() / reference.norm()
        assert error < 16 * torch.finfo(dtype).eps, f"off by {error:.1e} in {dtype}"


def _in_processes() -> dict[str, str]:
    """The column of several processes: both measure all layers, so that one start is enough."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        arguments = [(index, f"{folder}/store", results) for index in range(PROCESSES)]
        processes = [context.Process(target=_process, args=each) for each in arguments]
        for process in processes:
            process.start()
        answers = [results.get(timeout=300) for _ in processes]
        for process in processes:
            process.join()
    for answer in answers:
        assert isinstance(answer, dict), answer
    return {name: min(answer[name] for answer in answers) for name in rows()}  # "no" before "yes"


def _process(index: int, store: str, results: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=PROCESSES)
    try:
        results.put({name: _cell(several_processes, example) for name, example in rows().items()})
    except AssertionError as error:
        results.put(str(error))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    write()
