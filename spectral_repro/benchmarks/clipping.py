"""suite=clipping: time of clipping a network's convolutions, compared with an SVD at every frequency."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from spectral_repro.benchmarks.clipping_figure import draw
from spectral_repro.benchmarks.clock import Job, time_interleaved
from spectral_repro.benchmarks.results import Display, SuiteResult, short
from spectral_repro.linalg import clip_conv, conv_norm, conv_power_iteration

NAIVE = "SVD at every frequency"
NOTE = (
    "Random kernels in float32, with the spread of initial weights. Every shape of layer is measured once and counted as often "
    'as the network has it. "Half of the spectrum, Gram matrices" decomposes all frequencies, also those within the bound.'
)


@dataclass(frozen=True)
class Clipping:
    """What to measure, and how much of it.

    Args:
        networks: the layers of each network: output channels, input channels, kernel, size of the input, stride, and how many
            layers the network has of this shape.
        clip_to: bound of the clipping.
        seconds, rounds: how long, and at least how often, one layer is timed; see `time_interleaved`.
        device: where it is measured.
        seed: of the random kernels.
    """

    networks: Mapping[str, Sequence[Sequence[int]]]
    clip_to: float
    seconds: float
    rounds: int
    device: torch.device
    seed: int

    def measure(self) -> SuiteResult:
        torch.manual_seed(self.seed)
        layers = [(network, layer) for network, layers in self.networks.items() for layer in layers]
        numbers = pd.concat([self.compared(*pair) for pair in tqdm(layers, "layers", disable=None)], ignore_index=True)
        totals = summed(numbers)
        frames = {"layers": numbers, "clipping": totals}
        return SuiteResult("Singular values of convolutions", [NOTE], frames, displays(totals))

    def compared(self, network: str, layer: Sequence[int]) -> pd.DataFrame:
        """A row for each operation and way: milliseconds, and the largest difference of its kernel to the naive one."""
        outputs, inputs, kernel, size, stride, count = layer
        deviation = (2 / (inputs * kernel**2)) ** 0.5
        weight = deviation * torch.randn(outputs, inputs, kernel, kernel, device=self.device)
        largest = conv_norm(weight, size, stride).item()
        start = torch.randn(1, inputs, size, size, device=self.device)
        ways: dict[tuple[str, str], Callable[[], Any]] = {
            ("clip", NAIVE): partial(naive_clip, weight, size, stride, self.clip_to),
            ("clip", "half of the spectrum, Gram matrices"): partial(gram_clip, weight, size, stride, self.clip_to),
            ("clip", "clip_conv"): partial(clip_conv, weight, size, self.clip_to, stride),
            ("clip", "clip_conv, all within 98 % of the bound"): partial(clip_conv, weight, size, largest / 0.98, stride),
            ("clip", "clip_conv, all within 67 % of the bound"): partial(clip_conv, weight, size, largest / 0.67, stride),
            ("largest", NAIVE): partial(naive_norm, weight, size, stride),
            ("largest", "conv_norm"): partial(conv_norm, weight, size, stride),
            ("largest", "two power iterations"): partial(conv_power_iteration, weight, start, stride, kernel // 2),
        }
        results: dict[tuple[str, str], Tensor] = {}
        jobs = {"|".join(way): job(way, run, results) for way, run in ways.items()}
        frame = time_interleaved(jobs, self.device, self.seconds, self.rounds, warm_up=self.rounds > 1)
        frame[["operation", "way"]] = frame.pop("name").str.split("|", expand=True).to_numpy()
        difference = (results["clip", "clip_conv"] - results["clip", NAIVE]).abs().max().item()
        named: dict[str, Any] = {"network": network, "layer": " × ".join(map(str, layer[:5])), "count": count}
        columns = {"ms": frame["forward_ms"], "rounds": frame["rounds"], "difference": difference}
        return frame[["operation", "way"]].assign(**named, **columns)


def job(way: tuple[str, str], run: Callable[[], Tensor], results: dict[tuple[str, str], Tensor]) -> Job:
    def once() -> Callable[[], None]:
        results[way] = run()
        return lambda: None

    return once


def spectrum(weight: Tensor, size: int, stride: int, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Blocks (f_1, f_2, C_out, s^2 C_in) of a kernel, which is padded to the size of the input and split into s^2 phases."""
    padded = pad(weight, (0, size - weight.shape[3], 0, size - weight.shape[2]))
    phases = padded.unflatten(3, (-1, stride)).unflatten(2, (-1, stride)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    return transform(phases).permute(2, 3, 0, 1)


def kernel(blocks: Tensor, weight: Tensor, stride: int, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The inverse of `spectrum`, cropped to the size of the kernel."""
    phases = transform(blocks.permute(2, 3, 0, 1)).unflatten(1, (stride, stride, -1))
    padded = phases.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    return padded[:, :, : weight.shape[2], : weight.shape[3]]


def naive_clip(weight: Tensor, size: int, stride: int, clip_to: float) -> Tensor:
    left, values, right = torch.linalg.svd(spectrum(weight, size, stride, torch.fft.fft2), full_matrices=False)
    clipped = left * values.clamp_max(clip_to).unsqueeze(-2) @ right
    return kernel(clipped, weight, stride, lambda phases: torch.fft.ifft2(phases).real)


def gram_clip(weight: Tensor, size: int, stride: int, clip_to: float) -> Tensor:
    blocks = spectrum(weight, size, stride, torch.fft.rfft2)
    wide = blocks if blocks.shape[-2] <= blocks.shape[-1] else blocks.mT
    values, vectors = torch.linalg.eigh(wide @ wide.mH)
    factors = clip_to / values.clamp_min(clip_to**2).sqrt()
    clipped = (vectors * factors.unsqueeze(-2) @ vectors.mH) @ wide
    grid = (size // stride, size // stride)
    clipped = clipped if wide is blocks else clipped.mT
    return kernel(clipped, weight, stride, partial(torch.fft.irfft2, s=grid))


def naive_norm(weight: Tensor, size: int, stride: int) -> Tensor:
    return torch.linalg.svdvals(spectrum(weight, size, stride, torch.fft.fft2)).amax()


def summed(numbers: pd.DataFrame) -> pd.DataFrame:
    """A row for each network, operation and way: seconds for all its layers, and the speed-up over the naive way."""
    whole = numbers.assign(seconds=numbers["ms"] * numbers["count"] / 1e3)
    totals = whole.groupby(["network", "operation", "way"], sort=False).agg({"seconds": "sum", "difference": "max"})
    naive = totals["seconds"].xs(NAIVE, level="way")
    return totals.assign(speedup=naive / totals["seconds"]).reset_index()


def displays(totals: pd.DataFrame) -> list[Display]:
    caption = "Seconds for all convolutions of a network, and the speed-up over an SVD at every frequency."
    figure = Display("clipping", "Clipping and norms of whole networks", caption, figure=draw(totals))
    return [figure, *(table(network, frame) for network, frame in totals.groupby("network", sort=False))]


def table(network: str, frame: pd.DataFrame) -> Display:
    caption = (
        f"Seconds for all its convolutions. Clipped kernels agree with those of the SVD to {short(frame['difference'].max())}."
    )
    columns = {
        "way": frame["operation"] + ": " + frame["way"],
        "seconds": frame["seconds"].map(short),
        "× faster": frame["speedup"].map(short),
    }
    name = "_".join(["clipping", *network.lower().replace(",", "").replace("-", "_").split()])
    return Display(name, network, caption, table=pd.DataFrame(columns))
