"""DiskWriter: writes results to disk before they can be lost, and drops the oldest above the limits."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from agent.mqtt.outbox.backlog import Backlog
from agent.mqtt.outbox.disk_faults import DiskFaults
from agent.mqtt.outbox.gaps import Gaps
from agent.mqtt.outbox.read_ahead import ReadAhead
from agent.mqtt.outbox.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.mqtt.outbox.gaps import Cause, Gap
    from agent.mqtt.outbox.queue import Queue, Record
    from agent.mqtt.outbox.segments import Segment, Segments
    from agent.mqtt.outbox.storage import Pace, Storage

_logger = logging.getLogger(__name__)


class DiskWriter:
    """Belongs to one event loop. Calls `on_change` when there may be something to send."""

    def __init__(
        self,
        storage: Storage,
        segments: Segments,
        *,
        boot: str,
        queue: Queue,
        pace: Pace,
        on_change: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._durability = storage.durability
        self._boot = boot
        self._queue = queue
        self._pace = pace
        self._on_change = on_change
        self._segments = segments
        self.backlog = Backlog(segments, storage, note_cursor_every_s=pace.note_cursor_every_s)
        self.gaps = Gaps(storage.folder / "gaps.json")
        self._recovery = Recovery(
            storage, segments, backlog=self.backlog, gaps=self.gaps, lose=self.lose, save_gaps=self._save_gaps
        )
        self.faults = DiskFaults(storage)
        self.read_ahead = ReadAhead(
            queue,
            self.backlog,
            faults=self.faults,
            retry_after_s=pace.retry_after_s,
            may_read=lambda: self.opened and self.connected,
            give_up=self._give_up_damaged,
            on_read=on_change,
        )
        self._logged: set[Cause] = set()
        self.evicted = 0
        self.connected = False
        self._dropped: list[tuple[Segment, bool]] = []
        self._retry_at_s = 0.0
        self._changed = asyncio.Event()
        self._saving = asyncio.Lock()  # save_all() may be called while a group is being written

    @property
    def opened(self) -> bool:
        """Whether the backlog includes the results of earlier runs."""
        return self._recovery.opened

    async def run(self) -> None:
        """Never returns."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_saving)
            tasks.start_soon(self.read_ahead.run)

    def wake(self) -> None:
        """Call it after a change in memory."""
        if self._has_work():
            self._changed.set()
        self.read_ahead.wake()

    def may_be_sent(self, record: Record) -> bool:
        ready = record.position is not None or record.entry.boot != self._boot
        return self._durability != "group" or ready or self.faults.sentence is not None

    def is_on_disk(self, record: Record) -> bool:
        return record.position is not None and self.backlog.holds(record.position)

    def is_given_up(self, record: Record) -> bool:
        """Whether its segment was dropped while it was sent: a result of an earlier run cannot be written again."""
        return record.entry.boot != self._boot and not self.is_on_disk(record)

    def reconnected(self) -> None:
        self.connected = True
        self._logged.clear()

    def lose(self, gaps: list[Gap]) -> None:
        """Counts results that will not be delivered, and queues their announcement."""
        self.gaps.add(gaps)
        self.evicted += sum(gap.count or 0 for gap in gaps)
        for gap in gaps:
            self._log_loss(gap)

    def _log_loss(self, gap: Gap) -> None:
        """Logs once per cause until the broker is connected again."""
        if gap.cause not in self._logged:
            self._logged.add(gap.cause)
            count = "an unknown number of" if gap.count is None else gap.count
            _logger.warning(
                "Dropped %s results (%s); the gap is announced on <base>/gaps. More may follow.", count, gap.cause
            )

    async def save_all(self) -> None:
        """Saves everything. Call it before the process ends."""
        async with self._saving:
            await self._save(entirely=True)

    async def _keep_saving(self) -> None:
        while True:
            self._changed.clear()
            async with self._saving:
                await self._save()
            if self._has_work():
                self._changed.set()
            await self._changed.wait()
            await asyncio.sleep(self._pace.group_every_s if self._durability == "group" else self._pace.look_every_s)

    def _has_work(self) -> bool:
        return bool(self._queue or self.backlog.size or self.gaps.unsaved is not None or not self.opened)

    async def _save(self, *, entirely: bool = False) -> None:
        """Brings the disk up to date. If it fails, results stay in memory and a later call retries."""
        if time.monotonic() < self._retry_at_s and not entirely:
            return
        try:
            if not self.opened:
                await self._recovery.open()
                self.read_ahead.wake()
            await self._remove_dropped()
            await self.backlog.tidy(entirely=False)
            if not self._recovery.begun:
                await self._recovery.begin()
            await self._save_records(entirely=entirely)
            await self.backlog.tidy(entirely=entirely)
            await self._save_gaps()
            if entirely and self._durability != "none":
                await self.backlog.in_thread(self._segments.end)
        except OSError as error:
            self._retry_at_s = time.monotonic() + self._pace.retry_after_s
            self.faults.add("writing", error)
        else:
            self.faults.clear("writing")
        self._on_change()

    async def _save_records(self, *, entirely: bool) -> None:
        at_once = entirely or self._durability == "group" or not self.connected
        due = self._queue.unsaved(older_than_s=0.0 if at_once else self._pace.spill_after_s)
        # A result of an earlier run that is no longer on disk must not be written to a file of this run.
        own = [record for record in due if record.entry.boot == self._boot and self._durability != "none"]
        for group in _groups(own, self._storage.segment_bytes):
            await self._append_with_room(group)
            await self._keep_bounds()
        await self._keep_bounds()

    async def _append_with_room(self, records: list[Record]) -> None:
        """If the disk is full, results stay in memory; once that is half full, drops the oldest segment on disk."""
        try:
            await self._append(records)
        except OSError as error:
            oldest = self.backlog.oldest
            if error.errno != errno.ENOSPC or oldest is None or self._queue.size < self._storage.max_memory_bytes // 2:
                raise
        else:
            return
        await self._give_up(oldest, "disk")
        await self._append_with_room(records)

    async def _append(self, records: list[Record]) -> None:
        positions = await self.backlog.append([record.entry for record in records])
        for record, position in zip(records, positions, strict=True):
            record.position = position
            if record.acknowledged:
                self.backlog.mark(position)
        stays = self._durability == "group" and self.connected
        if self._queue.forget(lambda record: record.position is not None and (record.late or not stays)):
            self.read_ahead.rewind()

    async def _keep_bounds(self) -> None:
        while (over := self.backlog.over_bounds()) is not None:
            await self._give_up(*over)

    async def _give_up(self, segment: Segment, cause: Cause) -> None:
        """Saves the announcement to disk before the results are removed from it."""
        queue = self._queue
        self.lose(
            await self.backlog.give_up(
                segment, cause, sent=lambda: [record.position for record in queue.window.values()]
            )
        )
        queue.read = deque(record for record in queue.read if record.position and record.position[0] != segment.number)
        self._dropped.append((segment, cause == "damaged"))
        try:
            await self._save_gaps()
        finally:
            await self._remove_dropped()

    async def _remove_dropped(self) -> None:
        """The loss of these segments is announced, so no later run may find them."""
        while self._dropped:
            segment, damaged = self._dropped[0]
            await self.backlog.remove(segment, damaged=damaged)
            self._dropped.pop(0)

    async def _save_gaps(self) -> None:
        if (gaps := self.gaps.unsaved) is not None and (self._durability != "none" or self._storage.folder.is_dir()):
            await self.backlog.in_thread(self.gaps.save, gaps)

    async def _give_up_damaged(self, number: int) -> None:
        async with self._saving:
            if (segment := self.backlog.segment(number)) is not None:
                await self._give_up(segment, "damaged")


def _groups(records: list[Record], max_bytes: int) -> Iterator[list[Record]]:
    """Splits records into groups that are written together; the disk limit is exceeded by one group at most."""
    group: list[Record] = []
    size = 0
    for record in records:
        if group and size + len(record.entry.payload) > max_bytes:
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record.entry.payload)
    if group:
        yield group
