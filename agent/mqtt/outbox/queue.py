"""Queue: results in memory, on their way to the broker or to disk."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.mqtt.outbox.blocks import Entry, Position


@dataclass(eq=False, slots=True)
class Record:
    """A `late` record is marked as replayed for the subscriber; `position` is its place on disk."""

    entry: Entry
    put_s: float = field(default_factory=time.monotonic)
    position: Position | None = None
    late: bool = False
    acknowledged: bool = False

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.put_s


class Queue:
    """`fresh` holds new records and `late` those that waited too long, both oldest first.

    `read` was read from disk and is sent next. `window` holds the sent records by message number. `size` is the bytes
    in `fresh` and `late`.
    """

    def __init__(self, *, late_after_s: float) -> None:
        self._late_after_s = late_after_s
        self.fresh: deque[Record] = deque()
        self.late: deque[Record] = deque()
        self.read: deque[Record] = deque()
        self.window: dict[int, Record] = {}
        self.size = 0

    def __bool__(self) -> bool:
        """Whether any record waits or is in flight. Those only read ahead do not count: they are on disk."""
        return bool(self.fresh or self.late or self.window)

    def put(self, record: Record) -> None:
        self.fresh.append(record)
        self.size += len(record.entry.payload)

    def age(self) -> None:
        while self.fresh and self.fresh[0].age_s > self._late_after_s:
            self.late.append(self.fresh.popleft())
            self.late[-1].late = True

    def take(self, line: deque[Record]) -> Record:
        record = line.popleft()
        self.size -= len(record.entry.payload)
        return record

    def take_oldest(self) -> Record:
        return self.take(self.late or self.fresh)

    def oldest_age_s(self) -> float:
        return next((record.age_s for record in self._waiting()), 0.0)

    def give_back(self, is_on_disk: Callable[[Record], bool]) -> None:
        """The connection ended: unacknowledged records wait again, at the front, unless they are on disk."""
        unsent = [record for record in self.window.values() if not (record.acknowledged or is_on_disk(record))]
        for record in sorted(unsent, key=lambda record: record.put_s, reverse=True):
            record.late, record.position = True, None
            self.late.appendleft(record)
            self.size += len(record.entry.payload)
        self.window.clear()
        self.read.clear()
        self.forget(is_on_disk)

    def forget(self, unwanted: Callable[[Record], bool]) -> bool:
        """Forgets waiting records; returns whether any was found."""
        gone = [record for record in self._waiting() if unwanted(record)]
        if gone:
            self.fresh = deque(record for record in self.fresh if not unwanted(record))
            self.late = deque(record for record in self.late if not unwanted(record))
            self.size -= sum(len(record.entry.payload) for record in gone)
        return bool(gone)

    def unsaved(self, *, older_than_s: float = 0.0) -> list[Record]:
        """Returns the records that are not on disk, in the order of their creation."""
        records = (*self.window.values(), *self._waiting())
        found = (record for record in records if record.position is None and record.age_s >= older_than_s)
        return sorted(found, key=lambda record: record.put_s)

    def positions(self) -> set[Position | None]:
        return {record.position for record in (*self.window.values(), *self.read, *self._waiting())}

    def _waiting(self) -> Iterator[Record]:
        yield from self.late
        yield from self.fresh
