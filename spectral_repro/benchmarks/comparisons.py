"""The comparisons of `suite=performance`: jobs that are timed in turn, and targets for the ratios of their times."""

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from spectral_repro.benchmarks.clipping import gram_clip
from spectral_repro.benchmarks.clock import Job
from spectral_repro.benchmarks.layers import passes
from spectral_repro.benchmarks.memory import peak
from spectral_repro.benchmarks.references import looped_whitening, step, svd_pooling, whitening_roofline, whole
from spectral_repro.configuration.compose import compose
from spectral_repro.data.batches import Batches
from spectral_repro.data.cuts import random_resized
from spectral_repro.data.image_files import ImageFiles
from spectral_repro.data.images import Split
from spectral_repro.layers import CovariancePooling, PCADenoising, ZCAWhitening
from spectral_repro.linalg import clip_conv, conv_norm, conv_singular_values, sqrtm
from spectral_repro.linalg.backward import Exact, NewtonSchulz, PowerIteration, Taylor
from spectral_repro.linalg.feature_covariance import covariance
from spectral_repro.models import resnet18, resnet50
from spectral_repro.models.wide_resnet import wrn28_10
from spectral_repro.optim import SGDG, AdamG, sphere_groups
from spectral_repro.training.autotune import ready
from spectral_repro.training.build import build_optimizer

METHODS = {"exact": Exact(), "taylor": Taylor(9), "pi": PowerIteration(9), "newton_schulz": NewtonSchulz(10)}


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of two times or other numbers: ``of`` is at most ``bound`` times ``beside``.

    With ``faster``, ``beside`` is at least ``bound`` times ``of``.
    """

    what: str
    of: str
    beside: str
    bound: float
    faster: bool = False

    def reached(self, numbers: Mapping[str, float]) -> float:
        return numbers[self.beside] / numbers[self.of] if self.faster else numbers[self.of] / numbers[self.beside]

    def met(self, numbers: Mapping[str, float]) -> bool:
        return self.reached(numbers) >= self.bound if self.faster else self.reached(numbers) <= self.bound


@dataclass(frozen=True)
class Comparison:
    """Jobs that are timed in turn, and targets for the ratios of their medians.

    Args:
        jobs: by name.
        targets: bounds on ratios of medians.
        rounds: number of rounds; None: that of the suite.
        sums: weighted sums of medians, by a name that targets may use like that of a job.
        constants: other numbers, such as bytes, by a name that targets may use.
        keep_memory: see `time_interleaved`.
        clean: removes the files that the jobs leave behind.
    """

    jobs: Mapping[str, Job]
    targets: Sequence[Target]
    rounds: int | None = None
    sums: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    keep_memory: bool = True
    clean: Callable[[], None] = lambda: None


def whitening(device: torch.device, shape: Sequence[int], group_sizes: Sequence[int]) -> Comparison:
    """Whitening compared with batch norm, rooflines and loops in both memory layouts. "frozen": no gradient of the input."""
    channels, middle = shape[1], group_sizes[len(group_sizes) // 2]
    first = f"ZCA, d = {group_sizes[0]}, SVD-PI"
    jobs: dict[str, Job] = {f"roofline, d = {d}": whitening_roofline(tuple(shape), d, device) for d in {*group_sizes, channels}}
    targets, whitenings = [], []
    for name, features in in_both_layouts(torch.randn(*shape, device=device)).items():
        layers: dict[str, nn.Module] = {"BatchNorm2d": nn.BatchNorm2d(channels)}
        layers |= {f"ZCA, d = {d}": ZCAWhitening(channels, d) for d in group_sizes}
        layers |= {f"ZCA, d = {middle}, {key}": ZCAWhitening(channels, middle, method) for key, method in METHODS.items()}
        layers[first] = ZCAWhitening(channels, group_sizes[0], PowerIteration(19))
        layers["PCA"] = PCADenoising(channels, min(16, channels))
        whitenings = [key for key in layers if key.startswith("ZCA")]
        jobs |= {f"{key}, {name}": passes(layer.to(device), features) for key, layer in layers.items()}
        jobs[f"frozen, {name}"] = passes(ZCAWhitening(channels, middle).to(device), features, frozen=True)
        loops = Function(partial(looped_whitening, group_size=group_sizes[0]))
        jobs[f"loops of SVD-PI, {name}"] = passes(loops, features)
        for key in whitenings:
            bound = 2 if key.startswith("ZCA, d = 64") else 1.5
            targets.append(Target(f"{key} / BatchNorm2d, {name}", f"{key}, {name}", f"BatchNorm2d, {name}", bound))
        for key, d in ((f"ZCA, d = {d}", d) for d in group_sizes):
            targets.append(Target(f"{key} / roofline, {name}", f"{key}, {name}", f"roofline, d = {d}", 1.3))
        trained = f"ZCA, d = {middle}, {name}"
        targets += [
            Target(f"PCA / roofline, {name}", f"PCA, {name}", f"roofline, d = {channels}", 1.3),
            Target(f"frozen input / trained one, ZCA, d = {middle}, {name}", f"frozen, {name}", trained, 0.6),
            Target(f"loops of SVD-PI / {first}, {name}", f"{first}, {name}", f"loops of SVD-PI, {name}", 3.5, faster=True),
        ]
    targets += [Target(f"{key}, NHWC / NCHW", f"{key}, NHWC", f"{key}, NCHW", 1.05) for key in whitenings]
    return Comparison(jobs, targets)


def memory(device: torch.device, shape: Sequence[int]) -> Comparison:
    """The memory that whitening takes in addition to its output and the gradient of its input, compared with the input."""
    jobs, targets, sizes = {}, [], {}
    for name, features in in_both_layouts(torch.randn(*shape, device=device)).items():
        sizes["input"] = features.nbytes
        for key, layer in {"ZCA": ZCAWhitening(shape[1]), "PCA": PCADenoising(shape[1])}.items():
            job = f"{key}, {name}"
            jobs[job] = passes(layer.to(device), features)
            sizes[f"memory of {job}"] = peak(jobs[job], device) - 2 * features.nbytes
            targets.append(
                Target(f"memory of {key} / its input, {shape[1]} channels, {name}", f"memory of {job}", "input", 1.2)
            )
    return Comparison(jobs, targets, constants=sizes)


def new_memory(device: torch.device, shape: Sequence[int], group_size: int) -> Comparison:
    """Whitening and batch norm in a process that returns freed memory to the system, which is the default of glibc."""
    jobs, targets = {}, []
    for name, features in in_both_layouts(torch.randn(*shape, device=device)).items():
        jobs[f"BatchNorm2d, {name}"] = passes(nn.BatchNorm2d(shape[1]).to(device), features)
        jobs[f"ZCA, {name}"] = passes(ZCAWhitening(shape[1], group_size).to(device), features)
        what = f"ZCA, d = {group_size} / BatchNorm2d, {name}, memory given back"
        targets.append(Target(what, f"ZCA, {name}", f"BatchNorm2d, {name}", 2))
    targets.append(Target(f"ZCA, d = {group_size}, NHWC / NCHW, memory given back", "ZCA, NHWC", "ZCA, NCHW", 1.05))
    return Comparison(jobs, targets, keep_memory=False)


def in_both_layouts(features: Tensor) -> dict[str, Tensor]:
    return {"NHWC": features.contiguous(memory_format=torch.channels_last), "NCHW": features}


def pooling(device: torch.device, few: Sequence[int], middling: Sequence[int], many: Sequence[int]) -> Comparison:
    x_few, x_middling, x_many = (torch.randn(*shape, device=device).relu() for shape in (few, middling, many))
    layer = CovariancePooling(few[1])
    upper = torch.triu_indices(few[1], few[1], device=device)
    by_svd = Function(lambda x: svd_pooling(x.flatten(2))[:, upper[0], upper[1]].float())
    whole_size = Function(lambda x: sqrtm(covariance(x.double().flatten(2)))[:, upper[0], upper[1]].float())
    matrices = covariance(x_many.double().flatten(2))
    jobs = {
        "few positions": passes(layer, x_few),
        "few positions, SVD of the whole": passes(by_svd, x_few),
        "middling": passes(layer, x_middling),
        "middling, eigh of the whole": passes(whole_size, x_middling),
        "many": passes(layer, x_many),
        "eigh alone": whole(lambda: torch.linalg.eigh(matrices)),
    }
    shapes = [" × ".join(map(str, shape)) for shape in (few, middling, many)]
    targets = [
        Target(
            f"SVD-based pooling / pooling, {shapes[0]}", "few positions", "few positions, SVD of the whole", 20, faster=True
        ),
        Target(f"pooling / eigh of the whole, {shapes[1]}", "middling", "middling, eigh of the whole", 0.7),
        Target(f"pooling / eigh alone, {shapes[2]}", "many", "eigh alone", 1.3),
    ]
    return Comparison(jobs, targets)


def clipping(device: torch.device, networks: Mapping[str, Sequence[Sequence[int]]]) -> Comparison:
    """Clipping of every shape of a network's convolutions: with values above the bound, and all below 98 % or 67 % of it."""
    jobs: dict[str, Job] = {}
    targets: list[Target] = []
    for network, shapes in networks.items():
        kernels = []
        for outputs, inputs, kernel, size, stride in shapes:
            weight = (2 / (inputs * kernel**2)) ** 0.5 * torch.randn(outputs, inputs, kernel, kernel, device=device)
            kernels.append((weight, size, stride, conv_norm(weight, size, stride).item()))
        jobs |= {
            f"{network}, Gram": whole(partial(_each, kernels, lambda w, n, s, _: gram_clip(w, n, s, 1.0))),
            f"{network}, above": whole(partial(_each, kernels, lambda w, n, s, _: clip_conv(w, n, 1.0, s))),
            f"{network}, at 98 %": whole(partial(_each, kernels, lambda w, n, s, norm: clip_conv(w, n, norm / 0.98, s))),
            f"{network}, at 67 %": whole(partial(_each, kernels, lambda w, n, s, norm: clip_conv(w, n, norm / 0.67, s))),
        }
        targets += [
            Target(f"clip_conv / Gram eigh, {network}", f"{network}, above", f"{network}, Gram", 1.1),
            Target(f"clip_conv, all within 98 % / Gram eigh, {network}", f"{network}, at 98 %", f"{network}, Gram", 0.25),
            Target(f"clip_conv, all within 67 % / Gram eigh, {network}", f"{network}, at 67 %", f"{network}, Gram", 0.25),
        ]
    return Comparison(jobs, targets, rounds=1)


def norms(device: torch.device, channels: int, size: int) -> Comparison:
    """The largest singular value compared with all of them, for kernels whose blocks all have the same norm too."""
    empty = torch.empty(channels, channels, 3, 3, device=device)
    one_tap = torch.zeros_like(empty)
    one_tap[:, :, 1, 1] = nn.init.orthogonal_(torch.empty(channels, channels, device=device))
    kernels = {"random": torch.randn_like(empty), "dirac": nn.init.dirac_(empty.clone()), "zero": torch.zeros_like(empty)}
    kernels["orthogonal"] = one_tap
    jobs, targets = {}, []
    for name, weight in kernels.items():
        jobs[name] = whole(partial(conv_norm, weight, size))
        jobs[f"{name}, all"] = whole(partial(conv_singular_values, weight, size))
        targets.append(Target(f"conv_norm / all singular values, {name}", name, f"{name}, all", 1))
    return Comparison(jobs, targets)


def _each(kernels: Sequence[tuple[Tensor, int, int, float]], clip: Callable[..., object]) -> None:
    for kernel in kernels:
        clip(*kernel)


def optimizers(device: torch.device, width: int) -> Comparison:
    def stepping(make: Callable[[nn.Module], torch.optim.Optimizer]) -> Job:
        model = wrn28_10(num_classes=10, width=width).to(device)
        optimizer = make(model)
        for parameter in model.parameters():
            parameter.grad = 1e-3 * torch.randn_like(parameter)
        return whole(optimizer.step)

    def sphere(kind: type, omega: float) -> Job:
        groups = partial(sphere_groups, lr=0.01, lrg=0.2, weight_decay=5e-4, bn_decay=0.0)
        return stepping(lambda model: kind(groups(model.parameters(), model), omega=omega))

    model = wrn28_10(num_classes=10, width=width).to(device)
    convolutions = [module.weight.detach() for module in model.modules() if isinstance(module, nn.Conv2d)]
    rows = [weight.flatten(1) for weight in convolutions if len(weight) < weight[0].numel()]

    def products() -> None:
        for y in rows:
            (y @ y.mT) @ y

    sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True, foreach=True)
    plain = stepping(lambda model: sgd(model.parameters()))
    jobs = {"SGD foreach": plain, "products": whole(products)}
    targets = []
    for kind in (SGDG, AdamG):
        name = kind.__name__
        jobs |= {f"{name}, omega = 0": sphere(kind, 0.0), f"{name}, omega = 0.1": sphere(kind, 0.1)}
        targets.append(Target(f"{name}, omega = 0 / SGD foreach", f"{name}, omega = 0", "SGD foreach", 1.5))
        targets.append(Target(f"{name}, omega = 0.1 / (1.2 products + 1.5 SGD)", f"{name}, omega = 0.1", "allowed", 1))
    return Comparison(jobs, targets, sums={"allowed": {"products": 1.2, "SGD foreach": 1.5}})


def pipeline(device: torch.device, images: int, width: int) -> Comparison:
    """An epoch of images of CIFAR's size with crop, flip and normalisation, compared with a DataLoader and training steps."""
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (images,))
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    batches = Batches(Split(pixels, labels), 128, mean, std, crop_padding=4, flip=True, device=device)
    crop, mirror = transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip()
    augment = transforms.Compose([crop, mirror, transforms.ToTensor(), transforms.Normalize(mean, std)])
    loader = DataLoader(PillowImages(pixels, labels, augment), 128, shuffle=True, num_workers=2)
    model = resnet18(num_classes=10, width=width, stem_channels=width).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    batch = next(iter(batches.epoch(0)))
    jobs = {
        "batches": whole(lambda: list(map(len, batches.epoch(0)))),
        "DataLoader": whole(lambda: list(map(len, loader))),
        "ResNet-18": whole(lambda: step(model, optimizer, *batch)),
    }
    targets = [
        Target("images/s, batches / DataLoader with PIL transforms, 2 workers", "batches", "DataLoader", 8, faster=True),
        Target("batches / ResNet-18 steps", "batches", "epoch of steps", 0.02),
    ]
    return Comparison(jobs, targets, sums={"epoch of steps": {"ResNet-18": len(batches)}})


def photographs(device: torch.device, images: int, size: int, width: int) -> Comparison:
    """Decoding, cropping, flipping and normalising photographs of 500 x 375 pixels in one process, compared with Pillow and
    torchvision, and with a training step of a ResNet-50 on as many random images: the ratio is the number of worker processes
    that the step needs.
    """
    folder = tempfile.TemporaryDirectory()
    noise, paths = np.random.default_rng(0), []
    for number in range(images):
        pixels = noise.integers(256, size=(24, 32, 3), dtype=np.uint8)
        paths.append(f"{folder.name}/{number}.jpg")
        Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    split = Split(ImageFiles(paths, 3, size, 0, random_resized), torch.zeros(images, dtype=torch.long))
    batches = Batches(split, images, mean, std, flip=True, device=device)
    cut = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    plain = transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def by_pillow() -> Tensor:
        return torch.stack([plain(Image.open(path).convert("RGB")) for path in paths]).to(device)

    network = resnet50(num_classes=1000, width=width, large=True).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9)
    noise_images = torch.randn(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (images,), device=device)
    jobs = {
        "batches": whole(lambda: list(batches.epoch(0))),
        "Pillow": whole(by_pillow),
        "ResNet-50": whole(lambda: step(network, optimizer, noise_images, labels)),
    }
    what = "a photograph decoded, cut, mirrored"
    targets = [
        Target(f"{what} / by torchvision's transforms of Pillow", "batches", "Pillow", 0.62),
        Target(f"{what} / its share of a step of ResNet-50", "batches", "ResNet-50", 0.1),
    ]
    return Comparison(jobs, targets, rounds=3, clean=folder.cleanup)


class PillowImages(Dataset):
    """PIL images, transformed one by one."""

    def __init__(self, pixels: Tensor, labels: Tensor, transform: Callable[[Image.Image], Tensor]):
        self.arrays, self.labels, self.transform = pixels.permute(0, 2, 3, 1).contiguous().numpy(), labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def networks(device: torch.device, width: int, batch: int, compiled: bool) -> Comparison:
    """A training step of ResNet-18 on images of CIFAR's size, plain and with the trainer's memory formats and precisions."""
    images, labels = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)

    def stepping(layout: torch.memory_format, dtype: torch.dtype, compile_it: bool = False) -> Job:
        model = resnet18(num_classes=10, width=width, stem_channels=width).to(device, memory_format=layout)  # type: ignore[call-overload]
        if compile_it:
            model.compile()
        optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
        laid_out = images.contiguous(memory_format=layout)
        return whole(lambda: step(model, optimizer, laid_out, labels, dtype))

    jobs = {
        "reference": stepping(torch.contiguous_format, torch.float32),
        "channels_last": stepping(torch.channels_last, torch.float32),
        "bfloat16": stepping(torch.contiguous_format, torch.bfloat16),
        "channels_last, bfloat16": stepping(torch.channels_last, torch.bfloat16),
    }
    if compiled:
        jobs["channels_last, bfloat16, compiled"] = stepping(torch.channels_last, torch.bfloat16, True)
    best = "channels_last, bfloat16"
    targets = [
        Target(f"ResNet-18, images/s, {key} / reference", key, "reference", 3, faster=True) for key in jobs if best in key
    ]
    return Comparison(jobs, targets, rounds=3)


def trainer(device: torch.device, overrides: Sequence[str]) -> Comparison:
    """A step of the trainer compared with a bare loop of forward pass, backward pass and optimiser step on the same images."""
    config = compose(overrides)
    made, batch = ready(config, device)
    bare = copy.deepcopy(made.model)
    bare_optimizer = build_optimizer(config, bare)

    def trained() -> None:
        made.state.step = 0
        made.step(*batch)

    dtype, network = getattr(torch, config.precision), type(bare).__name__
    jobs = {
        "trainer": whole(trained),
        "bare loop": whole(lambda: step(bare, bare_optimizer, *batch, dtype)),
        "snapshot": whole(made.state.snapshot),
    }
    every = made.settings.log_every
    targets = [
        Target(f"a step of the trainer / a bare loop, {network}", "trainer", "bare loop", 1.03),
        Target(f"a copy of the state / the {every} steps that it covers, {network}", "snapshot", "covered", 0.01),
    ]
    return Comparison(jobs, targets, sums={"covered": {"trainer": every}})


def processes(device: torch.device, overrides: Sequence[str], report: str) -> Comparison:
    """Whole commands: two runs side by side and in sequence, a run of one step compared with an import and a bare step, and the
    seconds of a wrong key and of the report of a paper without its cache, if the current folder has the paper's runs.
    """
    folder, numbers = tempfile.TemporaryDirectory(), count()

    def command(*more: str) -> list[str]:
        results = f"results_dir={folder.name}/{next(numbers)}"
        return [sys.executable, "-m", "spectral_repro.train", *overrides, f"device={device}", "logger=none", results, *more]

    def together(commands: Sequence[Sequence[str]]) -> None:
        running = [subprocess.Popen(each, stdout=subprocess.DEVNULL) for each in commands]
        if any([process.wait() for process in running]):
            raise RuntimeError("a run that was timed has failed")

    def in_sequence() -> None:
        for seed in (0, 1):
            together([command(f"seed={seed}", "trainer.threads=2")])

    def wrong_key() -> None:
        if subprocess.run(command("model.widht=8"), capture_output=True).returncode == 0:
            raise RuntimeError("a run with a wrong key did not fail")

    def reported() -> None:
        out = f"{folder.name}/{next(numbers)}"
        made = [sys.executable, "-m", "spectral_repro.report", f"paper={report}", f"out={out}"]
        subprocess.run(made, env=os.environ | {"XDG_CACHE_HOME": out}, stdout=subprocess.DEVNULL, check=True)

    one_step = ("trainer.epochs=1", "dataset.train_images=16", "dataset.test_images=16", "dataset.batch_size=16")
    jobs = {
        "in sequence": whole(in_sequence),
        "side by side": whole(lambda: together([command(f"seed={seed}", "trainer.threads=1") for seed in (0, 1)])),
        "one step": whole(lambda: together([command(*one_step)])),
        "import and bare step": whole(lambda: together([[sys.executable, "-c", BARE_STEP]])),
        "wrong key": whole(wrong_key),
    }
    targets = [
        Target("two runs side by side / in sequence", "side by side", "in sequence", 1),
        Target("a run of one step / torch, Hydra and a bare step", "one step", "import and bare step", 1.5),
        Target("an error of a wrong key, seconds", "wrong key", "second", 1),
    ]
    if Path("results", report, "runs.csv").exists():
        jobs["report"] = whole(reported)
        targets.append(Target(f"the report of {report} without its cache, seconds", "report", "second", 5))
    return Comparison(jobs, targets, rounds=2, constants={"second": 1000}, clean=folder.cleanup)


BARE_STEP = """
import hydra, torch
layer = torch.nn.Conv2d(3, 8, 3)
optimizer = torch.optim.SGD(layer.parameters(), 0.1)
layer(torch.randn(16, 3, 32, 32)).square().mean().backward()
optimizer.step()
"""


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
