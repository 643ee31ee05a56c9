"""Blocks of a convolution against its dense matrix, and the way back to a kernel."""

import pytest
import torch

from spectral_repro.linalg import conv_symbol
from spectral_repro.linalg.conv_symbol import Symbol, pair


def all_blocks(symbol):
    return torch.cat([symbol.blocks(part) for part in symbol.parts])


def test_the_blocks_weigh_as_much_as_the_operator(convolution):
    weight = convolution.weight()
    symbol = Symbol(weight, **convolution.arguments)
    squares = all_blocks(symbol).abs().square().sum((1, 2, 3))
    torch.testing.assert_close((symbol.multiplicity * squares).sum(), convolution.circular(weight).square().sum())


def test_one_of_each_conjugate_pair_is_computed(make_convolution):
    for size, count in (((8, 8), 34), ((5, 5), 13), ((4, 2), 6)):
        symbol = Symbol(torch.zeros(1, 1, 3, 3), size)
        assert len(symbol.multiplicity) == count and symbol.multiplicity.sum() == size[0] * size[1]


def test_taps_of_one_place_have_one_frequency():
    symbol = Symbol(torch.zeros(1, 1, 1, 1), (224, 112), stride=2)
    assert symbol.multiplicity.tolist() == [112 * 56]


def test_a_kernel_comes_back_from_its_blocks(convolution):
    """Where taps share a place, the kernel of the same operator with the least norm."""
    weight = convolution.weight()
    symbol = Symbol(weight, **convolution.arguments)
    back = sum(symbol.kernel(symbol.blocks(part), part) for part in symbol.parts)
    torch.testing.assert_close(convolution.circular(back), convolution.circular(weight))
    if all((k - 1) * d < n for k, d, n in zip(weight.shape[2:], convolution.dilation, convolution.size, strict=True)):
        torch.testing.assert_close(back, weight)
    assert back.norm() <= weight.norm() * (1 + 1e-12)


def test_the_way_back_is_the_nearest_kernel(convolution):
    """The difference of a random change of the blocks and that of the kernel is orthogonal to every kernel of the size."""
    weight = convolution.weight()
    symbol = Symbol(weight, **convolution.arguments)
    blocks = all_blocks(symbol)
    everything = slice(0, len(blocks))
    change = torch.randn(blocks.shape, dtype=blocks.dtype, generator=torch.Generator().manual_seed(1))
    rest = change - all_blocks(Symbol(symbol.kernel(change, everything), **convolution.arguments))
    inner = (rest.conj() * blocks).real.sum((1, 2, 3))
    assert abs((symbol.multiplicity * inner).sum()) < 1e-9


def test_parts_make_no_difference(convolution, monkeypatch):
    weight = convolution.weight()
    whole = all_blocks(Symbol(weight, **convolution.arguments))
    monkeypatch.setattr(conv_symbol, "BATCH", 1)
    symbol = Symbol(weight, **convolution.arguments)
    assert len(symbol.parts) == len(whole)
    torch.testing.assert_close(all_blocks(symbol), whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size=0: must be a whole number >= 1, or two of them"),
        ({"input_size": (8, 8, 8)}, r"input_size=\(8, 8, 8\): must be a whole number"),
        ({"input_size": 7, "stride": 2}, r"input_size=\(7, 7\): must be a multiple of .*; the next larger one is \(8, 8\)"),
        ({"input_size": 8, "stride": 1.5}, "stride=1.5: must be a whole number"),
        ({"input_size": 8, "groups": 3}, "groups=3: must divide the 4 output channels"),
        ({"input_size": 8, "weight": torch.zeros(4, 4)}, r"weight: must be \(out, .*, not \(4, 4\) in float32"),
        ({"input_size": 8, "weight": torch.zeros(4, 4, 3, 3).half()}, "weight: must be .* not .* in float16"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Symbol(**{"weight": torch.zeros(4, 4, 3, 3)} | arguments)


def test_pairs():
    assert pair("stride", 2) == (2, 2) and pair("stride", [2, 1]) == (2, 1) and pair("padding", 0, least=0) == (0, 0)
