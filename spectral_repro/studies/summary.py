"""Measurements of many networks as rows of a table."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rows(index: str, values: Sequence[int], measured: dict[str, Tensor]) -> list[dict[str, float]]:
    """A row for each value of the index, with the mean and the sample standard deviation over networks of each measurement.

    Args:
        index: name of the first column.
        values: those of the first column.
        measured: by name, a value for each row and network (rows, networks).

    Returns:
        Columns ``index``, and ``<name>`` and ``<name>_std`` of every measurement; NaN for the deviation of a single network.

    Example:
        >>> rows("layer", [1], {"gap": torch.tensor([[1.0, 3.0]])})
        [{'layer': 1, 'gap': 2.0, 'gap_std': 1.4142135381698608}]
    """
    columns = {index: list(values)}
    for name, each in measured.items():
        mean = each.mean(1, keepdim=True)
        squares = (each - mean).square().sum(1)
        columns[name] = mean[:, 0].tolist()
        columns[f"{name}_std"] = (squares / (each.shape[1] - 1)).sqrt().tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def with_log(name: str, each: Tensor) -> dict[str, Tensor]:
    """A measurement and its natural logarithm, taken network by network.

    Args:
        name: of the measurement.
        each: its values, any shape.

    Returns:
        Both, by name.

    Example:
        >>> with_log("gap", torch.tensor([1.0]))
        {'gap': tensor([1.]), 'log_gap': tensor([0.])}
    """
    return {name: each, f"log_{name}": torch.log(each)}
