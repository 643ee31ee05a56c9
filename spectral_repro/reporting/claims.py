"""Claims of papers, as numbers with bounds."""

from dataclasses import dataclass
from typing import Any

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


def read_claim(id: str, settings: dict[str, Any]) -> Claim:
    """Reads a claim of conf/claim. A number that names several rows becomes one number for each row."""
    numbers = [Number(**number | {"row": row}) for number in settings["numbers"] for row in number.get("row", [None])]
    return Claim(**{"id": id} | settings | {"numbers": tuple(numbers)})
