"""EventStore: keeps the events on the disk, on a thread of its own, and goes on if the disk fails."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from agent.events.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.event import Event, Wanted
    from agent.events.database import Database, HourCount

_COMMIT_EVERY_S = 2.0  # each commit wears an SD card
_RETRY_EVERY_S = 10.0
_CLOSE_S = 2.0

T = TypeVar("T")


class EventStore:
    """Holds at most `max_events` events in `max_bytes` and removes the oldest. Belongs to one event loop.

    While the disk fails, events wait in memory, and `trouble` says why; what reads raises StoreError.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_events: int,
        max_bytes: int,
        commit_every_s: float = _COMMIT_EVERY_S,
        retry_every_s: float = _RETRY_EVERY_S,
    ) -> None:
        self._disk = Disk(path, max_events=max_events, max_bytes=max_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._commit_every_s = commit_every_s
        self._retry_every_s = retry_every_s
        self._writing: asyncio.Task[None] | None = None

    @property
    def trouble(self) -> str | None:
        return self._disk.trouble

    async def open(self) -> list[Event]:
        """Ends the events that were open when the agent was killed, and returns them."""
        return await self._run(self._disk.end_former)

    def put(self, event: Event, jpeg: bytes | None = None) -> None:
        """Stores it or what changed of it, within seconds; without `jpeg`, an earlier frame stays."""
        self._disk.put(event, jpeg)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def find(self, wanted: Wanted, *, limit: int, before: str | None = None) -> list[Event]:
        """The newest first; `before` is the id of the event after which the list goes on. Raises StoreError."""
        return await self._read(lambda file: file.find(wanted, limit=limit, before=before))

    async def get(self, event_id: str) -> Event | None:
        return await self._read(lambda file: file.get(event_id))

    async def frame(self, event_id: str) -> bytes | None:
        return await self._read(lambda file: file.frame(event_id))

    async def counts(self, wanted: Wanted) -> list[HourCount]:
        """By the hour in which the events began, the oldest first. Raises StoreError."""
        return await self._read(lambda file: file.counts(wanted))

    async def close(self) -> None:
        """Writes what waits. Gives up on a disk that hangs."""
        if self._writing is not None:
            self._writing.cancel()
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._disk.close)
        self._thread.shutdown(wait=False)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(closing), _CLOSE_S)

    async def _read(self, call: Callable[[Database], T]) -> T:
        return await self._run(lambda: self._disk.read(call))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _write(self) -> None:
        delay_s = self._commit_every_s
        while self._disk.is_behind:
            await asyncio.sleep(delay_s)
            is_written = await self._run(self._disk.commit)
            delay_s = self._commit_every_s if is_written else self._retry_every_s
