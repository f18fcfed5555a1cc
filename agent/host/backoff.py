"""Backoff: how long to wait before the next attempt when an operation keeps failing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """The waits double from `first_s` up to `longest_s`.

    Each is shortened at random by up to half, so that clients that lost a connection at the same time do not all
    reconnect at the same time. `fraction` returns a random number from 0 to 1.
    """

    def __init__(
        self, *, first_s: float = 0.5, longest_s: float = 30.0, fraction: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s
        self._fraction = fraction

    def next_s(self) -> float:
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._longest_s)
        return self.shortened_s(wait_s)

    def shortened_s(self, wait_s: float) -> float:
        """`wait_s` shortened at random."""
        return wait_s * (0.5 + 0.5 * self._fraction())

    def reset(self) -> None:
        """Call it after a success."""
        self._next_s = self._first_s
