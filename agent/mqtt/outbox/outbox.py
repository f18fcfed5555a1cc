"""Outbox: results on their way to the broker, until it has acknowledged them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from agent.mqtt.message import TOO_LARGE
from agent.mqtt.outbox.disk_writer import DiskWriter
from agent.mqtt.outbox.gaps import gaps_of
from agent.mqtt.outbox.queue import Queue, Record
from agent.mqtt.outbox.segments import Segments
from agent.mqtt.outbox.storage import Pace

if TYPE_CHECKING:
    from agent.mqtt.outbox.blocks import Entry
    from agent.mqtt.outbox.gaps import Cause, Gap
    from agent.mqtt.outbox.storage import Storage

_BACKLOG_PER_TICK = 5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """`messages` are unacknowledged, `size` is their bytes on disk, `evicted` is the number of dropped results."""

    messages: int
    size: int
    evicted: int
    trouble: str | None


class Window(Protocol):
    """Each send method returns a number that identifies the acknowledgment."""

    def room(self) -> int: ...
    def backlog_room(self) -> int: ...
    def send_result(self, entry: Entry, *, late: bool) -> int: ...
    def send_gap(self, gap: Gap) -> int: ...


class Outbox:
    """Delivers results to the broker at least once, and announces lost ones. Belongs to one event loop.

    While run() is not running, nothing is written to disk or read from it. DiskWriter decides what is written when;
    `segments` is the class that accesses the disk.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        boot: str,
        window: Window,
        pace: Pace | None = None,
        segments: type[Segments] = Segments,
    ) -> None:
        pace = pace or Pace()
        self._window = window
        self._storage = storage
        self._tick_s = pace.backlog_tick_s
        self._queue = Queue(late_after_s=pace.late_after_s)
        self._writer = DiskWriter(
            storage,
            segments(
                storage.folder,
                boot=boot,
                segment_bytes=storage.segment_bytes,
                segment_s=storage.max_age_s / 16,
                clock=storage.clock,
            ),
            boot=boot,
            queue=self._queue,
            pace=pace,
            on_change=self.pump,
        )
        self._announced: dict[int, Gap] = {}
        self._may_announce = False
        self._allowance = 0
        self._tick: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()

    @property
    def status(self) -> OutboxStatus:
        writer = self._writer
        messages = len(self._queue.unsaved()) + len(writer.backlog)
        return OutboxStatus(messages, writer.backlog.size, writer.evicted, writer.faults.sentence)

    @property
    def is_idle(self) -> bool:
        """Whether the disk was read, and neither a result nor a gap waits for the broker."""
        return self._writer.opened and not (self.status.messages or self._writer.gaps)

    def put(self, entry: Entry) -> None:
        self._queue.put(Record(entry))
        while self._queue.size > self._storage.max_memory_bytes:
            self._lose(self._queue.take_oldest(), "memory")
        self.pump()

    def open(self) -> None:
        """The broker is connected. Sends the backlog at a limited rate, and new results at the same time."""
        self._writer.reconnected()
        self._may_announce = True
        self.pump()

    def pause(self) -> None:
        """The connection was lost. Unacknowledged results will be sent again, so the broker may get them twice."""
        self._writer.connected = self._may_announce = False
        for record in self._queue.window.values():
            if self._writer.is_given_up(record):
                self._lose(record, "max_bytes")
        self._queue.give_back(self._writer.is_on_disk)
        self._announced.clear()
        self._writer.gaps.reset()
        self._writer.read_ahead.rewind()
        self.pump()

    def acknowledge(self, number: int, failure: str | None = None) -> None:
        """Ignores numbers of other messages. A result that the broker rejects becomes a gap."""
        if (gap := self._announced.pop(number, None)) is not None:
            if failure is None:
                self._writer.gaps.done(gap)
            else:  # announced again at the next connect, with the losses until then
                self._writer.gaps.reset()
                self._may_announce = False
        elif (record := self._queue.window.pop(number, None)) is not None:
            record.acknowledged = True
            if record.position is not None:
                self._writer.backlog.mark(record.position)
            if failure is not None:
                self._lose(record, "too_large" if failure == TOO_LARGE else "rejected")
        else:
            return
        self.pump()

    async def run(self) -> None:
        """Never returns."""
        await self._writer.run()

    async def drain(self, timeout_s: float) -> None:
        """Waits until the broker has acknowledged the newest results."""
        with anyio.move_on_after(timeout_s if self._writer.connected else 0):
            await self._drained.wait()

    def stop(self) -> None:
        """Stops sending; sent messages may still be acknowledged."""
        self._writer.connected = self._may_announce = False
        if self._tick is not None:
            self._tick.cancel()

    async def close(self) -> None:
        """Saves unacknowledged results to disk."""
        await self._writer.save_all()
        if lost := self._queue.unsaved():
            _logger.warning(
                "%d results were not acknowledged by the MQTT broker and could not be saved; they are lost.", len(lost)
            )

    def pump(self) -> None:
        """Sends as much as the window allows."""
        queue, writer, window = self._queue, self._writer, self._window
        queue.age()
        while queue.oldest_age_s() > self._storage.max_age_s:
            self._lose(queue.take_oldest(), "max_age")
        while writer.connected and window.room() > 0 and (record := self._next()) is not None:
            queue.window[window.send_result(record.entry, late=record.late)] = record
        if (
            self._may_announce
            and not self._announced
            and window.room() > 0
            and (gap := writer.gaps.begin()) is not None
        ):
            self._announced[window.send_gap(gap)] = gap
        if writer.connected and self._tick is None and (queue.read or queue.late):
            self._tick = asyncio.get_running_loop().call_later(self._tick_s, self._allow_more)
        if queue:
            self._drained.clear()
        else:
            self._drained.set()
        writer.wake()

    def _next(self) -> Record | None:
        """Live results first; then, if there is room, the backlog, whose oldest results are on disk."""
        queue, writer = self._queue, self._writer
        if queue.fresh and writer.may_be_sent(queue.fresh[0]):
            return queue.take(queue.fresh)
        if self._window.backlog_room() <= 0 or not self._allowance:
            return None
        if queue.read:
            self._allowance -= 1
            return queue.read.popleft()
        if queue.late and writer.may_be_sent(queue.late[0]) and (writer.read_ahead.exhausted or writer.faults.sentence):
            self._allowance -= 1
            return queue.take(queue.late)
        return None

    def _allow_more(self) -> None:
        self._tick = None
        self._allowance = _BACKLOG_PER_TICK
        self.pump()

    def _lose(self, record: Record, cause: Cause) -> None:
        """Marks it as acknowledged too: it may be on its way to disk, and must not be read from there later."""
        record.acknowledged = True
        self._writer.lose(gaps_of(record.entry.boot, [record.entry.seq], cause))
