"""A clock that the test advances, used instead of time.monotonic()."""

from __future__ import annotations


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s
