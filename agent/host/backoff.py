"""Backoff: how long to wait before the next attempt at something that keeps failing."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from `first_s` up to `longest_s`.

    Each is shortened by up to half at random, so that cameras lost together do not come back together.
    """

    def __init__(self, *, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._longest_s)
        return wait_s * random.uniform(0.5, 1)  # noqa: S311  (no secret)

    def reset(self) -> None:
        """To be called after a success."""
        self._next_s = self._first_s
