"""TT, SOC and SOTT against what senderovich2022's published code computes (float32)."""

import pytest
import torch
from torch import Tensor

from spectral_repro.layers import SOC, SOTT, TTConv2d, orthogonal_penalty
from tests.golden_numbers import EVERY_SEED, golden_numbers
from tests.tolerance import assert_near


def load_frames(layer: SOTT | TTConv2d, state: dict[str, Tensor]) -> None:
    """The published frames are (in, r_1) and (r_2, out)."""
    with torch.no_grad():
        layer.reduction.matrix.copy_(state["K1"].T)
        layer.expansion.matrix.copy_(state["K3"].T)
        layer.expansion.bias.copy_(state["bias"])


def load_core(layer: SOC, state: dict[str, Tensor], weight: str) -> None:
    """The published layer follows four unfoldings, two of them transposes of the others: the smaller estimate counts."""
    skew = (state[weight] - state[weight].transpose(0, 1).flip(2, 3)) / 2
    estimates = [(skew * state[f"u{index}"] * state[f"v{index}"]).sum() for index in (1, 2, 3, 4)]
    assert layer.correction == pytest.approx(state["correction"].item())
    with torch.no_grad():
        layer.weight.copy_(state[weight])
        layer.v_1.copy_((state["u1"] if estimates[0] <= estimates[1] else state["v2"].flip(3)).flatten())
        layer.v_2.copy_((state["u3"] if estimates[2] <= estimates[3] else state["u4"].flip(2, 3).transpose(0, 1)).flatten())
        if layer.bias is not None:
            layer.bias.copy_(state["bias"])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["soc", "sott"])
def test_the_first_training_call_and_evaluation_after_it(name: str, stride: int):
    golden = golden_numbers(f"senderovich2022_{name}_stride{stride}")
    before = {key.removeprefix("before."): value for key, value in golden.items() if key.startswith("before.")}
    if name == "soc":
        layer = SOC(6, 8, 3, stride, 1)
        load_core(layer, before, "random_conv_filter")
    else:
        layer = SOTT(6, 8, 3, stride, 1, rank=5)
        load_core(layer.core, before, "K2")
        load_frames(layer, before)
    terms = 12 * 9 * 8  # twelve convolutions in a row
    assert_near(layer(golden["x"]).detach(), golden["y_train_first_call"], terms)
    assert_near(layer.eval()(golden["x"]).detach(), golden["y_eval_after"], terms)


@EVERY_SEED
def test_tt_convolution_and_penalty(seed: int | None):
    golden = golden_numbers("senderovich2022_tt", seed)
    layer = TTConv2d(10, 14, 3, golden["stride"].item(), golden["padding"].item(), rank=6)
    load_frames(layer, golden)
    with torch.no_grad():
        layer.core.weight.copy_(golden["K2"].permute(3, 0, 1, 2))
    assert_near(layer(golden["x"]).detach(), golden["y"], terms=10 * 9 * 6)
    assert_near(orthogonal_penalty(layer).detach(), golden["penalty"] / golden["penalty_entries"], terms=10 * 14)
