"""Results: gives each result of this run its sequence number and id."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.classification import Result
from agent.host.clock import Clock
from agent.ulid import ulid

if TYPE_CHECKING:
    from agent.classification import Classification, Spot


class Results:
    """Numbers results without gaps, in the order of recording; `boot` identifies this run. One thread only."""

    def __init__(self, *, device: str, clock: Clock | None = None) -> None:
        self.boot = ulid(time.time_ns())
        self._device = device
        self._clock = clock or Clock()
        self._seq = 0

    def record(self, classification: Classification, *, spot: Spot, captured_ns: int) -> Result:
        """`captured_ns` is a time.monotonic_ns()."""
        self._seq += 1
        time_synced = self._clock.is_synced  # first: if the clock is set in between, the Result claims too little
        unix_ns = self._clock.unix_ns(captured_ns)
        return Result(
            id=ulid(unix_ns),
            seq=self._seq,
            boot=self.boot,
            device=self._device,
            source=spot.camera,
            view=spot.view,
            captured_ns=unix_ns,
            classification=classification,
            time_synced=time_synced,
        )
