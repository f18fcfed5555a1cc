"""Pages of 100,000 recorded events over HTTP, in this process, and the size of their file."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from agents.fake_agent import FakeModels, rest_app
from benchmarks.figure import Figure
from events.made import MINUTE_NS, START_NS, an_event

from agent.classification import Spot
from agent.events.database import Database
from agent.events.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_EVENTS = 100_000
_MAX_BYTES = 100_000_000
_ROUNDS = 30
_FRAME_BYTES = 15_000
_RARE = 5_000  # one of so many events has the label that is looked for
_PAGES = {
    "the newest": "",
    "of one label": "?label=label%203",
    "of a camera, a view and a rare label": "?camera=front&view=door&label=rare",
    "further back": "?before={middle}&label=label%203",
}


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        middle = _fill(path, has_frames=False)
        yield Figure.of("file of 100,000 events without frames", [path.stat().st_size / 1e6], unit="MB", bound=100)
        for name, query in _PAGES.items():
            took_ms = asyncio.run(_times_ms(path, query.format(middle=middle)))
            yield Figure.of(f"GET /api/events, 50 of 100,000, {name}", took_ms, unit="ms", bound=50)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        _fill(path, has_frames=True)
        yield Figure.of("... with frames of 15 kB and max_mb: 100", [path.stat().st_size / 1e6], unit="MB", bound=100)


def _fill(path: Path, *, has_frames: bool) -> str:
    """The id of the event in the middle."""
    database = Database.open(path, max_events=_EVENTS, max_bytes=_MAX_BYTES)
    chance, middle = random.Random(1), ""
    spots = [Spot("front", "door"), Spot("front", "gate"), Spot("back")]
    for number in range(_EVENTS):
        label = "rare" if number % _RARE == 0 else f"label {chance.randrange(50)}"
        event = an_event(label, at_ns=START_NS + number * MINUTE_NS, spot=chance.choice(spots))
        database.put(event, chance.randbytes(_FRAME_BYTES) if has_frames and number > _EVENTS - 10_000 else None)
        if number % 100 == 0:
            database.commit()
        if number == _EVENTS // 2:
            middle = event.id
    database.commit()
    database.close()
    return middle


async def _times_ms(path: Path, query: str) -> list[float]:
    store = EventStore(path, max_events=_EVENTS, max_bytes=_MAX_BYTES)
    transport = httpx.ASGITransport(rest_app(FakeModels(), events=store))
    took_ms = []
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for _ in itertools.repeat(None, _ROUNDS):
            started_s = time.perf_counter()
            (await client.get(f"/api/events{query}")).raise_for_status()
            took_ms.append((time.perf_counter() - started_s) * 1000)
    await store.close()
    return took_ms


if __name__ == "__main__":
    for figure in figures():
        print("  ".join(figure.to_row()))
