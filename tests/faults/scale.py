"""Scale: how much of a fault test is run: a short form for each landing, the full one for the figures that are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    full: bool

    def __call__(self, *, short: T, full: T) -> T:
        """The number, of mutants, swaps or seconds, that fits the form of this run."""
        return full if self.full else short
