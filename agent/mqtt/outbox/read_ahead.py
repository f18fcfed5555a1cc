"""ReadAhead: reads the backlog into memory shortly before it is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import SegmentError
from agent.mqtt.outbox.queue import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.mqtt.outbox.backlog import Backlog
    from agent.mqtt.outbox.blocks import Entry, Position
    from agent.mqtt.outbox.disk_faults import DiskFaults
    from agent.mqtt.outbox.queue import Queue

_RECORDS = 200


class ReadAhead:
    """`exhausted` is true if everything on disk is also in memory.

    `give_up` is called with the number of a damaged segment, which is not read again after that.
    """

    def __init__(
        self,
        queue: Queue,
        backlog: Backlog,
        *,
        faults: DiskFaults,
        retry_after_s: float,
        may_read: Callable[[], bool],
        give_up: Callable[[int], Awaitable[None]],
        on_read: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._backlog = backlog
        self._faults = faults
        self._retry_after_s = retry_after_s
        self._may_read = may_read
        self._give_up = give_up
        self._on_read = on_read
        self._wanted = asyncio.Event()
        self.exhausted = False

    def wake(self) -> None:
        if self._has_room():
            self._wanted.set()

    def rewind(self) -> None:
        """Call it when memory no longer holds everything that is on disk."""
        self._backlog.rewind()
        self.exhausted = False

    async def run(self) -> None:
        """Never returns."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._has_room():
                await self._read_ahead()
                self._on_read()

    def _has_room(self) -> bool:
        return self._may_read() and not self.exhausted and len(self._queue.read) < _RECORDS

    async def _read_ahead(self) -> None:
        try:
            found = await self._read()
        except OSError as error:
            self._faults.add("reading", error)
            await asyncio.sleep(self._retry_after_s)
            return
        self._faults.clear("reading")
        known = self._queue.positions()
        self._queue.read.extend(
            Record(entry, position=position, late=True) for position, entry in found if position not in known
        )
        self.exhausted = not found

    async def _read(self) -> list[tuple[Position, Entry]]:
        try:
            return await self._backlog.read(_RECORDS)
        except SegmentError as error:
            damaged = error.number
        await self._give_up(damaged)
        return await self._read()
