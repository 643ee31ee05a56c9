"""What a paper claims, as numbers with bounds."""

from dataclasses import dataclass
from typing import Any

SUCCESS = "success"


@dataclass(frozen=True, eq=False)
class Number:
    """A number that a claim bounds: of the runs of a row, or of a file that bench wrote.

    Attributes:
        at_least, at_most: its bounds.
        table, row: the row whose runs are measured. With `difference_to` or `ratio_to`, another row of the table: the
            differences or quotients of runs of the same seed.
        metric: a metric's name, or "success" for the percentage of runs that end finite; None: what the table measures.
        file, column, where: CSV under the folder of results, and which rows of it (the largest of several counts); with
            `ratio_to`, divided by the column in those rows.
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
        """The rows of the table that it is made of."""
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
    """A claim holds if all its numbers keep their bounds.

    Attributes:
        published: the figures it rests on; None where there are none.
        full: can runs of another protocol than the published one say nothing about it?
        command: what measures it, where its rows have no commands of their own.
    """

    id: str
    claim: str
    published: str | None
    numbers: tuple[Number, ...]
    full: bool = False
    command: str | None = None


def read_claim(id: str, settings: dict[str, Any]) -> Claim:
    """A claim of conf/claim; a number with several rows is one for each of them."""
    numbers = [Number(**number | {"row": row}) for number in settings["numbers"] for row in number.get("row", [None])]
    return Claim(**{"id": id} | settings | {"numbers": tuple(numbers)})
