"""Unacknowledged: what the broker has yet to acknowledge, and whether it is too late."""

from __future__ import annotations

_SLOWEST_BYTES_PER_S = 4096
_LONGEST_S = 200.0  # in which 250 a second use up less than the 65,535 numbers that there are


class Unacknowledged:
    """A link that is half open takes everything and gives nothing, not even an end: only missing answers show it.

    They are overdue when none at all has come for `patience_s`; while much is under way, up to twice as late: a
    snapshot may take a slow uplink longer, and must not be cut off again and again. One alone is overdue after minutes:
    a broker that forgets it would have its number used again.
    """

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
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
        under_way_s = sum(self._sizes.values()) / _SLOWEST_BYTES_PER_S
        return bool(self._sizes) and now_s - self._since_s > self._patience_s + min(under_way_s, self._patience_s)
