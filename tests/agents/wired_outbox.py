"""WiredOutbox: an outbox connected to a fake broker, which acknowledges on the test's command."""

from __future__ import annotations

import asyncio
import contextlib
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.mqtt.outbox.blocks import Block, Entry, walk
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.segments import Segments
from agent.mqtt.outbox.storage import Pace, Storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.mqtt.outbox.gaps import Gap
    from agent.mqtt.outbox.storage import Durability

BOOT = "01M8AAAAAAAAAAAAAAAAAAAAAA"
LATER_BOOT = "01M8BBBBBBBBBBBBBBBBBBBBBB"
WINDOW = 20

# 2 s become 0.1 s, and the backlog is sent as fast as it is acknowledged.
QUICK = Pace(
    late_after_s=0.1,
    spill_after_s=0.06,
    look_every_s=0.02,
    group_every_s=0.02,
    retry_after_s=0.02,
    backlog_tick_s=0.001,
)


class WiredOutbox:
    """`bounds` are options of Storage; `segments` is the class that accesses the disk, and may fail."""

    def __init__(
        self,
        folder: Path,
        *,
        boot: str = BOOT,
        durability: Durability = "spill",
        pace: Pace = QUICK,
        segments: type[Segments] = Segments,
        **bounds: Any,
    ) -> None:
        self.sent: list[tuple[int, Entry, bool]] = []
        self.gaps: list[tuple[int, Gap]] = []
        self.unacknowledged: set[int] = set()
        self.most_unacknowledged = 0
        self._boot = boot
        self._seq = 0
        self._number = 0
        self.outbox = Outbox(
            Storage(folder, durability, **{"max_bytes": 1 << 20, "max_age_s": 3600.0, **bounds}),
            boot=boot,
            window=self,
            pace=pace,
            segments=segments,
        )

    def put(self, count: int = 1, *, size: int = 10) -> None:
        for _ in range(count):
            self._seq += 1
            self.outbox.put(Entry(self._boot, self._seq, "t", b"{%s}" % random.randbytes(size)))

    def acknowledge_all(self) -> None:
        while self.unacknowledged:
            self.acknowledge(min(self.unacknowledged))

    def acknowledge(self, number: int, failure: str | None = None) -> None:
        self.unacknowledged.discard(number)
        self.outbox.acknowledge(number, failure)

    def connect(self) -> None:
        self.outbox.open()

    def disconnect(self) -> None:
        self.unacknowledged.clear()
        self.outbox.pause()

    async def until_delivered(self) -> None:
        async def acknowledge() -> None:
            while not self.outbox.is_idle:
                self.acknowledge_all()
                await asyncio.sleep(0.005)

        await asyncio.wait_for(acknowledge(), 20)

    def seqs(self) -> list[int]:
        return [entry.seq for _, entry, _ in self.sent]

    def announced(self) -> list[dict[str, Any]]:
        return [gap.to_json() for _, gap in self.gaps]

    def announced_seqs(self) -> list[int]:
        """Every seq in the announced gaps; requires that each gap has both ends."""
        return [seq for gap in self.announced() for seq in range(gap["first_seq"], gap["last_seq"] + 1)]

    def room(self) -> int:
        return WINDOW - len(self.unacknowledged)

    def backlog_room(self) -> int:
        return self.room() - 4

    def send_result(self, entry: Entry, *, late: bool) -> int:
        self.sent.append((self._next(), entry, late))
        return self._number

    def send_gap(self, gap: Gap) -> int:
        self.gaps.append((self._next(), gap))
        return self._number

    def _next(self) -> int:
        self._number += 1
        self.unacknowledged.add(self._number)
        self.most_unacknowledged = max(self.most_unacknowledged, len(self.unacknowledged))
        return self._number


@asynccontextmanager
async def running(wire: WiredOutbox, *, close: bool = True) -> AsyncIterator[WiredOutbox]:
    """Without `close`, it ends as with kill -9: results that are only in memory are lost."""
    task = asyncio.create_task(wire.outbox.run())
    try:
        yield wire
    finally:
        if close:
            wire.outbox.stop()
            await wire.outbox.close()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def bytes_on_disk(folder: Path) -> int:
    size = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def blocks(folder: Path) -> Iterator[Block]:
    """Yields every whole block of every segment, oldest first."""
    for path in segments(folder):
        with contextlib.suppress(FileNotFoundError):
            yield from filter(None, walk(path.read_bytes()))
