"""Share: divides a capacity among client addresses, so that one of them cannot keep the others out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agent.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Generator


def places_for_uploads(capacity: int, *, per_client: int) -> Share:
    """Places in the workers and in their queue. All doors divide the same ones."""
    return Share(capacity, guaranteed=per_client, busy="Too many uploads wait for a worker. Retry later.")


class Share:
    """An address may take up to `guaranteed`; beyond that, it leaves a quarter of the capacity to others."""

    def __init__(self, capacity: int, *, guaranteed: int, busy: str) -> None:
        """`busy` is the sentence for a client that gets nothing."""
        self.free = capacity
        self._for_others = capacity // 4
        self._guaranteed = guaranteed
        self._busy = busy
        self._taken: dict[str, int] = {}

    def take(self, address: str, amount: int) -> None:
        """Raises BusyError. Otherwise, call give_back with the same arguments."""
        taken, free = self._taken.get(address, 0) + amount, self.free - amount
        if free < 0 or (taken > self._guaranteed and free < self._for_others):
            raise BusyError(self._busy, retry_after_s=1)
        self._taken[address] = taken
        self.free = free

    def give_back(self, address: str, amount: int) -> None:
        self.free += amount
        left = self._taken.get(address, 0) - amount
        if left > 0:
            self._taken[address] = left
        else:
            self._taken.pop(address, None)

    @contextlib.contextmanager
    def held(self, address: str, amount: int) -> Generator[None]:
        """Takes `amount` until it is closed. Raises BusyError."""
        self.take(address, amount)
        try:
            yield
        finally:
            self.give_back(address, amount)
