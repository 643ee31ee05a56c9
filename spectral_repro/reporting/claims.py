"""Claims of papers, as numbers with bounds."""

from dataclasses import dataclass, fields
from typing import Any

from spectral_repro.configuration.tables import keys_of
from spectral_repro.errors import UserError
from spectral_repro.reporting.metrics import METRICS, Metric

SUCCESS = "success"


@dataclass(frozen=True, eq=False)
class Number:
    """A number with bounds, measured by the runs of a row or read from a file of a benchmark.

    Attributes:
        at_least, at_most: the bounds.
        table, row: the row whose runs are measured.
        difference_to, ratio_to: another row of the table; the number is then the difference or ratio of runs of the same seed.
        metric: name of a metric, or "success" for the percentage of runs that do not diverge; None: the metric of the table.
        file, column, where: CSV file in the folder of results, its column, and the values that select rows; the largest of
            several rows is used. With `ratio_to`, divided by the column in the rows that it selects.
    """

    at_least: float | None = None
    at_most: float | None = None
    table: str | None = None
    row: str | None = None
    difference_to: str | None = None
    metric: str | None = None
    ratio_to: str | dict[str, Any] | None = None
    file: str | None = None
    where: dict[str, Any] | None = None
    column: str | None = None

    @property
    def rows(self) -> list[str]:
        """The rows of the table that the number is computed from."""
        return [row for row in (self.row, self.difference_to, self.ratio_to) if isinstance(row, str)]

    def metric_or(self, default: Metric) -> Metric:
        """Its metric; that of its table, ``default``, if it names none."""
        return METRICS.get(self.metric or "", default)

    @property
    def words(self) -> str:
        if self.file:
            return " per ".join(
                f"{self.column} of {_words(each)}" for each in (self.where, self.ratio_to) if each and isinstance(each, dict)
            )
        if self.difference_to:
            return f"{self.row} − {self.difference_to}"
        return f"{self.row} / {self.ratio_to}" if self.ratio_to else str(self.row)

    @property
    def bounds(self) -> str:
        known = [f"{sign} {bound:g}" for sign, bound in (("≥", self.at_least), ("≤", self.at_most)) if bound is not None]
        return " and ".join(known).replace("-", "−")


def _words(where: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" if isinstance(value, float) else str(value) for key, value in where.items())


@dataclass(frozen=True)
class Claim:
    """A claim, which holds if all its numbers are within their bounds.

    Attributes:
        published: the published figures for it; None if there are none.
        full: whether it can only be decided by the published protocol.
        command: the command that measures it, if it is not that of its rows.
    """

    id: str
    claim: str
    numbers: tuple[Number, ...]
    published: str | None = None
    full: bool = False
    command: str | None = None


def read_claim(place: str, id: str, settings: object) -> Claim:
    """Reads a claim of conf/claim. A number that names several rows becomes one number for each row.

    Args:
        place: of the claims, for errors.
        id: of the claim.
        settings: its content.

    Raises:
        UserError: for a missing or unknown key, or a value of the wrong type.
    """
    place = f"{place} {id}"
    content = keys_of(place, settings, [field.name for field in fields(Claim) if field.name != "id"], ("claim", "numbers"))
    if not isinstance(content["numbers"], list) or not content["numbers"]:
        raise UserError(f"{place}, numbers={content['numbers']}: must be a list of numbers with their bounds")
    numbers = [each for number, own in enumerate(content["numbers"], 1) for each in _numbers(f"{place}, number {number}", own)]
    return Claim(**{"id": id} | content | {"numbers": tuple(numbers)})


def _numbers(place: str, settings: object) -> list[Number]:
    """One number for each row that is named."""
    content = keys_of(place, settings, [field.name for field in fields(Number)])
    bounds = {key: content[key] for key in ("at_least", "at_most") if content.get(key) is not None}
    if not bounds:
        raise UserError(f"{place}: needs a bound, at_least or at_most")
    if wrong := [key for key, bound in bounds.items() if isinstance(bound, bool) or not isinstance(bound, int | float)]:
        raise UserError(f"{place}: {wrong[0]}={bounds[wrong[0]]}: must be a number")
    needed = ("file", "where", "column") if "file" in content else ("table", "row")
    if missing := [key for key in needed if content.get(key) is None]:
        raise UserError(f"{place}: needs {missing[0]}; a number has table and row, or file, where and column")
    others = ("table", "row", "difference_to", "metric") if "file" in content else ("where", "column")
    if unused := [key for key in others if content.get(key) is not None]:
        raise UserError(f"{place}: {unused[0]} has no effect here; a number has table and row, or file, where and column")
    _check_second(place, content)
    rows = content.get("row")
    if "row" in needed and not (isinstance(rows, list) and rows and all(isinstance(row, str) for row in rows)):
        raise UserError(
            f"{place}: row={rows}: must be a list of labels, such as [{rows if isinstance(rows, str) else 'Batch norm'}]"
        )
    if content.get("metric") not in (None, SUCCESS, *METRICS):
        raise UserError(f"{place}: metric={content['metric']}: must be one of {', '.join((SUCCESS, *METRICS))}")
    return [Number(**content | {"row": row}) for row in rows or [None]]


def _check_second(place: str, content: dict[str, Any]) -> None:
    """Checks what a number is compared with."""
    second = {key: content[key] for key in ("difference_to", "ratio_to") if content.get(key) is not None}
    if len(second) > 1:
        raise UserError(f"{place}: has difference_to and ratio_to; leave one of them out")
    kind, form = (dict, "keys with values, as where") if "file" in content else (str, "the label of one row")
    for key, value in second.items():
        if not isinstance(value, kind):
            raise UserError(f"{place}: {key}={value}: must be {form}")
