"""Figure: one measured number with its bound, as a row of the table and as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """`measured` is the median, `spread` the lower and upper quartile; with `bound` None, any value is allowed."""

    name: str
    measured: float
    spread: tuple[float, float]
    unit: str = ""
    bound: float | None = None
    at_most: bool = True

    @classmethod
    def of(cls, name: str, values: Sequence[float], **more: Any) -> Figure:
        low, middle, high = statistics.quantiles([*values, *values], n=4, method="inclusive")
        return cls(name, middle, (low, high), **more)

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    def to_row(self) -> tuple[str, ...]:
        low, high = self.spread
        return (
            self.name,
            f"{_number(self.measured)} {self.unit}",
            f"{_number(low)} to {_number(high)}",
            "" if self.bound is None else f"{'at most' if self.at_most else 'at least'} {self.bound:g} {self.unit}",
            {True: "met", False: "NOT MET", None: ""}[self.met],
        )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that this machine cannot measure, and the reason."""

    name: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "skipped": self.reason}

    def to_row(self) -> tuple[str, ...]:
        return self.name, "skipped", self.reason, "", ""


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
