"""InFlight: the messages that the broker has not acknowledged yet, and whether they are overdue."""

from __future__ import annotations

_SLOWEST_BYTES_PER_S = 4096
_LONGEST_S = 200.0  # at 250 messages per second, fewer than the 65,535 packet ids are used in this time


class InFlight:
    """Detects a half-open link, which accepts data but returns nothing: only missing acknowledgments reveal it.

    The messages are overdue if no acknowledgment has arrived for `timeout_s`, or for up to twice as long while much
    data is in flight: a snapshot over a slow uplink must not be cut off repeatedly. A single message is overdue after
    minutes, before its packet id is used again.
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
