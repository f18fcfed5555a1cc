"""Clocks that a test sets."""

from __future__ import annotations

from agent.host import clock


class Clock:
    """Used instead of time.monotonic(); the test advances it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class UnixClock(clock.Clock):
    """For tests that give Unix times as the moments of capture."""

    def __init__(self, *, is_synced: bool = True) -> None:
        super().__init__(kernel=lambda: is_synced, board=lambda: "a board")

    @staticmethod
    def unix_ns(monotonic_ns: int) -> int:
        return monotonic_ns
