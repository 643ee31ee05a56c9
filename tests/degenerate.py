"""Features and spectra at the edge of what a decomposition can take, for property tests with hypothesis.

The examples are the same in every run (the profile in conftest.py): a failure shows again.
"""

import torch
from hypothesis import strategies as st
from torch import Tensor

SEEDS = st.integers(0, 2**16)
ALIVE, DEAD, CONSTANT, COPY, COMBINATION, TINY = CHANNELS = range(6)


@st.composite
def features(draw: st.DrawFn, channels: int, positions: int, scales: tuple[int, int] = (-12, 12)) -> Tensor:
    """X (channels, positions), float64: channels that are alive, zero, constant, a copy, a combination of others or tiny beside
    them, over positions some of which repeat each other, times a power of ten.
    """
    generator = torch.Generator().manual_seed(draw(SEEDS))
    x, mixing = (torch.randn(channels, n, dtype=torch.float64, generator=generator) for n in (positions, channels))
    x += 3 * mixing[:, :1]
    for channel, kind in enumerate(draw(st.lists(st.sampled_from(CHANNELS), min_size=channels, max_size=channels))):
        if kind == DEAD:
            x[channel] = 0
        elif kind == CONSTANT:
            x[channel] = 0.1 + 0.7 * channel  # which no binary fraction holds
        elif kind == COPY:
            x[channel] = x[draw(st.integers(0, channel))]
        elif kind == COMBINATION and channel:
            x[channel] = mixing[channel, :channel] @ x[:channel]
        elif kind == TINY:
            x[channel] *= 10.0 ** draw(st.integers(-12, -1))
    distinct = draw(st.sampled_from([positions, positions, 1, 2, positions // 2 + 1]))
    return x[:, torch.arange(positions) % distinct] * 10.0 ** draw(st.integers(*scales))


@st.composite
def spectra(draw: st.DrawFn, size: int, smallest: int = -14) -> Tensor:
    """Eigenvalues (size,), float64, largest first, at most 1 and at least 10^smallest or 0: apart, close together and equal."""
    exponents = draw(st.lists(st.floats(smallest, 0), min_size=1, max_size=size))
    values = [10.0**exponent for exponent in exponents]
    while len(values) < size:
        value = draw(st.sampled_from(values))
        values.append(draw(st.sampled_from([value, value * (1 - 1e-15), value * (1 - 1e-9), 0.0])))
    return torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
