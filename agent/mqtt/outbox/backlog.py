"""Backlog: the results that wait on disk, and how far the broker has acknowledged them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from agent.errors import SegmentError
from agent.mqtt.outbox.blocks import Entry, Position
from agent.mqtt.outbox.gaps import Gap, gaps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from agent.mqtt.outbox.gaps import Cause
    from agent.mqtt.outbox.segments import Found, Segment, Segments
    from agent.mqtt.outbox.storage import Storage

P = ParamSpec("P")
T = TypeVar("T")

_KEEP_ACTIVE_S = 10.0  # keep a fully acknowledged segment this long: the next group may be appended to it


@dataclass(eq=False)
class _Waiting:
    """A segment whose entries below `done` and in `done_ahead` are acknowledged."""

    segment: Segment
    done: int = 0
    done_ahead: set[int] = field(default_factory=set)

    def mark(self, entry: int) -> None:
        self.done_ahead.add(entry)
        while self.done in self.done_ahead:
            self.done_ahead.remove(self.done)
            self.done += 1

    def is_done(self, entry: int) -> bool:
        return entry < self.done or entry in self.done_ahead

    @property
    def left(self) -> int:
        return self.segment.count - self.done - len(self.done_ahead)


class Backlog:
    """Belongs to one event loop; all disk access runs in one separate thread, one call at a time.

    Coroutines may raise OSError. If the bounds of `storage` are exceeded, over_bounds() names the oldest segment.
    """

    def __init__(self, segments: Segments, storage: Storage, *, note_cursor_every_s: float) -> None:
        self._segments = segments
        self._max_bytes = (
            storage.max_bytes - 2 * storage.segment_bytes
        )  # reserve for the active segment and a repair copy
        self._max_age_s = storage.max_age_s
        self._note_cursor_every_s = note_cursor_every_s
        self._waiting: deque[_Waiting] = deque()
        self._cursor = Position(0, 0)
        self._noted = (0.0, self._cursor)
        self._reader = (
            0,
            0,
            0,
        )  # the segment's number, the offset of its next block, the index of that block's first entry
        self._thread = ThreadPoolExecutor(1, "outbox")

    def __len__(self) -> int:
        """The number of unacknowledged entries."""
        return sum(waiting.left for waiting in self._waiting)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(waiting.segment.size for waiting in self._waiting)

    @property
    def oldest(self) -> Segment | None:
        return self._waiting[0].segment if self._waiting else None

    async def open(self) -> Found:
        found = await self.in_thread(self._segments.open)
        self._waiting = deque(_Waiting(segment) for segment in found.segments)
        if self._waiting and self._waiting[0].segment.number == found.cursor.segment:
            self._waiting[0].done = found.cursor.entry
        self._cursor = found.cursor
        self._noted = time.monotonic(), self._first_left()
        return found

    async def in_thread(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: call(*arguments, **named))

    async def append(self, entries: Sequence[Entry]) -> list[Position]:
        """Saves `entries` and returns their positions. Without entries, saves only the cursor."""
        cursor = self._first_left()
        segment, first = await self.in_thread(self._segments.append, entries, cursor)
        self._noted = time.monotonic(), cursor
        if not self._waiting or self._waiting[-1].segment is not segment:
            self._waiting.append(_Waiting(segment))
        return [Position(segment.number, first + index) for index in range(len(entries))]

    def mark(self, position: Position) -> None:
        """Records the acknowledgment."""
        waiting = self._of(position.segment)
        if waiting is not None:
            waiting.mark(position.entry)

    def holds(self, position: Position) -> bool:
        return self._of(position.segment) is not None

    def segment(self, number: int) -> Segment | None:
        """None if the segment is no longer on disk."""
        waiting = self._of(number)
        return waiting.segment if waiting is not None else None

    def rewind(self) -> None:
        """Makes the next read() start at the oldest entry again."""
        self._reader = (0, 0, 0)

    async def read(self, limit: int) -> list[tuple[Position, Entry]]:
        """Returns about `limit` of the next unacknowledged entries; none once all were read.

        Raises SegmentError.
        """
        while (waiting := self._to_read()) is not None:
            number, offset, first = self._reader
            segment = waiting.segment
            entries, end = await self.in_thread(self._segments.read, segment, offset, limit)
            if self._reader != (number, offset, first):
                continue  # rewind() was called meanwhile
            self._reader = (number, end, first + len(entries))
            positions = [Position(number, entry) for entry in range(first, first + len(entries))]
            left = [pair for pair in zip(positions, entries, strict=True) if not waiting.is_done(pair[0].entry)]
            if left:
                return left
        return []

    def over_bounds(self) -> tuple[Segment, Cause] | None:
        """The segment that must be dropped next, and why."""
        oldest = self.oldest
        if oldest is None:
            return None
        if time.monotonic() - oldest.written_s > self._max_age_s:
            return oldest, "max_age"
        return (oldest, "max_bytes") if self.size > self._max_bytes else None

    async def give_up(
        self, segment: Segment, cause: Cause, *, sent: Callable[[], Collection[Position | None]]
    ) -> list[Gap]:
        """Stops reading the segment, and returns its results that were neither acknowledged nor `sent`.

        Call remove() afterwards.
        """
        try:
            entries, _ = await self.in_thread(self._segments.read, segment, 0, segment.count)
        except (SegmentError, OSError):
            entries = None
        waiting = self._of(segment.number)
        if waiting is None:
            return []
        self._waiting.remove(waiting)
        if entries is None:
            return [Gap(segment.boot, *segment.seqs, waiting.left, "damaged")]
        kept = {position.entry for position in sent() if position is not None and position.segment == segment.number}
        lost = [each.seq for index, each in enumerate(entries) if index not in kept and not waiting.is_done(index)]
        return gaps_of(segment.boot, lost, cause)

    async def remove(self, segment: Segment, *, damaged: bool) -> None:
        await self.in_thread(self._segments.set_aside if damaged else self._segments.remove, segment)

    async def tidy(self, *, entirely: bool = False) -> None:
        """Removes acknowledged segments, and saves the cursor from time to time."""
        while self._waiting and self._waiting[0].left == 0:
            oldest = self._waiting[0]
            if (
                len(self._waiting) == 1
                and not entirely
                and time.monotonic() - oldest.segment.written_s < _KEEP_ACTIVE_S
            ):
                break
            await self.in_thread(self._segments.remove, oldest.segment)
            self._waiting.popleft()
        noted_s, noted = self._noted
        due = entirely or time.monotonic() - noted_s > self._note_cursor_every_s
        if self._waiting and due and self._first_left() != noted:
            await self.append([])

    def _first_left(self) -> Position:
        if self._waiting:
            oldest = self._waiting[0]
            self._cursor = max(self._cursor, Position(oldest.segment.number, oldest.done))
        return self._cursor

    def _to_read(self) -> _Waiting | None:
        """The reader's segment, or the next one if it was read completely."""
        number, offset, _ = self._reader
        for waiting in self._waiting:
            segment = waiting.segment
            if segment.number == number and offset < segment.size:
                return waiting
            if segment.number > number and segment.size:
                self._reader = (segment.number, 0, 0)
                return waiting
        return None

    def _of(self, number: int) -> _Waiting | None:
        return next((waiting for waiting in self._waiting if waiting.segment.number == number), None)
