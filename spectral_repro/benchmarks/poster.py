"""The numbers on song2021's poster: approximation errors of the series, and the largest factors of the gradients."""

from collections.abc import Mapping, Sequence
from functools import cache

import mpmath
import pandas as pd
import torch
from mpmath import mpf

from spectral_repro.linalg.backward import Pade, Taylor, Truncated
from spectral_repro.linalg.backward.series import geometric_sum, polynomials, published_pade

EPS = torch.finfo(torch.float64).eps


def approximation_errors(ratios: Sequence[float], published: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """|series(r) - 1 / (1 - r)| for ratios r of eigenvalues, of the Taylor polynomial of degree 100 and the [50/50] Pade.

    Returns:
        A row for each of "taylor" and "pade" and each ratio: method, ratio, published, recipe, float64. ``recipe`` uses powers
        of r in float64, and coefficients and sums in 20 digits. The poster does not say how its numbers were computed; this
        way, found by trial, gives them. ``float64`` is the error of this package's kernels, against 50 digits.
    """
    exact = [_exactly(ratio) for ratio in ratios]
    rows = []
    for method, approximations in {"taylor": (_taylor_recipe, _taylor), "pade": (_pade_recipe, _pade)}.items():
        for ratio, value, figure in zip(ratios, exact, published[method], strict=True):
            with mpmath.workdps(50):
                recipe, own = (float(abs(approximate(ratio) - value)) for approximate in approximations)
            rows.append({"method": method, "ratio": ratio, "published": figure, "recipe": recipe, "float64": own})
    return pd.DataFrame(rows)


def largest_factors(published: Mapping[str, float]) -> pd.DataFrame:
    """The largest factor between two eigenvalues, which song2021 clamps to the rounding unit u: method, published, own.

    Taylor: (K + 1) / u. Truncated: its limit. TopN: 1 / u, for the eigenvalues u and 0. Pade: |P(1) / Q(1)| / u, with sums in
    20 digits that begin at the constant terms; Q(1) would be 0 without rounding errors.
    """
    with mpmath.workdps(Pade().digits):
        numerator, denominator = _pade_coefficients()
        pade = float(abs(sum(numerator) / sum(denominator)))
    own = {"taylor": (Taylor().degree + 1) / EPS, "truncated": Truncated().limit, "topn": 1 / EPS, "pade": pade / EPS}
    return pd.DataFrame([{"method": name, "published": figure, "own": own[name]} for name, figure in published.items()])


def _exactly(ratio: float) -> mpf:
    with mpmath.workdps(50):
        return 1 / (1 - mpf(ratio))


def _taylor(ratio: float) -> mpf:
    gap = 1 - torch.tensor(ratio, dtype=torch.float64)
    return mpf(geometric_sum(gap, Taylor().degree).item())


def _pade(ratio: float) -> mpf:
    numerator, denominator = polynomials(torch.tensor(ratio, dtype=torch.float64), published_pade(Pade().degree, Pade().digits))
    return mpf((numerator / denominator).item())


def _taylor_recipe(ratio: float) -> mpf:
    with mpmath.workdps(Pade().digits):
        return _sum(_series(Taylor().degree), ratio)


def _pade_recipe(ratio: float) -> mpf:
    with mpmath.workdps(Pade().digits):
        numerator, denominator = _pade_coefficients()
        return _sum(numerator, ratio) / _sum(denominator, ratio)


@cache
def _pade_coefficients() -> tuple[list[mpf], list[mpf]]:
    degree = Pade().degree
    with mpmath.workdps(Pade().digits):
        return mpmath.pade(_series(2 * degree), degree, degree)


def _series(degree: int) -> list[mpf]:
    return mpmath.taylor(lambda x: 1 / (1 - x), 0, degree)


def _sum(coefficients: Sequence[mpf], ratio: float) -> mpf:
    total, power = mpf(0), 1.0
    for coefficient in coefficients:
        total += coefficient * power
        power *= ratio
    return total
