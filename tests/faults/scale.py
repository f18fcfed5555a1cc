"""Scale: the size of a fault test: short for each change, full for the figures in the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    full: bool

    def __call__(self, *, short: T, full: T) -> T:
        """The value (such as a number of mutants, swaps or seconds) for the size of this run."""
        return full if self.full else short
