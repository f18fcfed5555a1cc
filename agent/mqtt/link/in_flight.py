"""InFlight: what the broker has not acknowledged yet, and whether that is overdue."""

from __future__ import annotations

_SLOWEST_BYTES_PER_S = 4096
_LONGEST_S = 200.0  # 250 messages a second use fewer than the 65,535 numbers in this time


class InFlight:
    """A half-open link takes everything and gives nothing, not even an end: only missing acknowledgements show it.

    They are overdue if none at all has come for `timeout_s`, or up to twice as long while much is in flight: a snapshot
    may take longer over a slow uplink and must not be cut off again and again. A single one is overdue after minutes,
    because its number would soon be used again.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sizes: dict[int, int] = {}
        self._sent_s: dict[int, float] = {}
        self._since_s = 0.0

    def add(self, number: int, *, size: int, now_s: float) -> None:
        if not self._sizes:
            self._since_s = now_s
        self._sizes[number] = size
        self._sent_s[number] = now_s

    def discard(self, number: int, *, now_s: float) -> None:
        self._sizes.pop(number, None)
        self._sent_s.pop(number, None)
        self._since_s = now_s

    def is_overdue(self, now_s: float) -> bool:
        oldest_s = next(iter(self._sent_s.values()), now_s)
        if now_s - oldest_s > _LONGEST_S:
            return True
        transfer_s = sum(self._sizes.values()) / _SLOWEST_BYTES_PER_S
        return bool(self._sizes) and now_s - self._since_s > self._timeout_s + min(transfer_s, self._timeout_s)
