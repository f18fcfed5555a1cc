"""Probation: watches the first inferences of a new version, and says whether it must be withdrawn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent.errors import ModelError, NotFiniteError
from agent.host.throttling import never

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.classification import Timing

Cause = Literal["failures", "nan", "slow"]

_FAILURES_IN_A_ROW = 3
_LEAST_SAMPLES = 20  # the 95th percentile of these is the second slowest
_LEAST_AT_THE_END = 3  # for a version that takes seconds per image or gets few images; without any, nothing is proven
_SLOWER = 3.0
# For a model that takes 0.1 ms, three times as much may only be a cold cache or a lower clock rate.
_SLOWER_BY_MS = 20.0


class Failed(NamedTuple):
    """How a version failed its probation; `reason` is a clause."""

    cause: Cause
    reason: str


class Probation:
    """One version's probation; over after `inferences` calls, or after `for_s` and at least three. One thread only.

    It compares the CPU time with the trial's, because latency on a busy board depends on other programs. Times of a
    throttled board do not count: its processor is slower than it was in the trial.
    """

    def __init__(
        self,
        *,
        trial_ms: float,
        inferences: int = 100,
        for_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        is_throttled: Callable[[], bool] = never,
    ) -> None:
        self._clock = clock
        self._is_throttled = is_throttled
        self._trial_ms = trial_ms
        self._left = inferences
        self._answered = 0
        self._until_s = clock() + for_s
        self._failures = 0
        self._took_ms: list[float] = []

    @property
    def is_over(self) -> bool:
        return self._left <= 0 or (self._clock() >= self._until_s and self._answered >= _LEAST_AT_THE_END)

    def end(self) -> Failed | None:
        """The verdict on the calls since the last group of twenty; call it once the probation is over."""
        return self._too_slow(least=_LEAST_AT_THE_END) if self._left > 0 else None

    def observe(self, outcome: Timing | ModelError) -> Failed | None:
        """Records the outcome of one call; returns a failure if the version has failed."""
        self._left -= 1
        self._answered += 1
        if not isinstance(outcome, ModelError):
            self._failures = 0
            if self._is_throttled():
                self._took_ms.clear()
                return None
            self._took_ms.append(outcome.cpu)
            return self._too_slow()
        if isinstance(outcome, NotFiniteError):
            return Failed("nan", "it returned NaN or infinity for an image")
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            return Failed("failures", f"{self._failures} inferences in a row failed ({outcome})")
        return None

    def _too_slow(self, *, least: int = _LEAST_SAMPLES) -> Failed | None:
        """Checks the 95th percentile of each group of 20 calls, so that slow first calls stop counting."""
        if len(self._took_ms) < least:
            return None
        p95_ms = sorted(self._took_ms)[-2]
        self._took_ms.clear()
        if p95_ms <= max(_SLOWER * self._trial_ms, self._trial_ms + _SLOWER_BY_MS):
            return None
        return Failed(
            "slow",
            f"19 of 20 inferences used up to {p95_ms:.0f} ms of CPU time, more than three times the "
            f"{self._trial_ms:.1f} ms of its trial",
        )
