from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import shutil
import sqlite3
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
from events.made import FRONT, START_NS, an_event

from agent.errors import StoreError
from agent.event import Wanted
from agent.events.database import Database
from agent.events.disk import Disk
from agent.events.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ALL = Wanted()
MS = 10**6


def a_store(folder: Path, **settings: float) -> EventStore:
    times = {"commit_every_s": 0.05, "retry_every_s": 0.05, **settings}
    return EventStore(folder / "events.db", max_events=1000, max_bytes=10_000_000, **times)


def on_disk(folder: Path) -> int:
    """The number of committed events."""
    connection = sqlite3.connect(folder / "events.db")
    try:
        count: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    except sqlite3.OperationalError:  # no table yet
        return 0
    finally:
        connection.close()
    return count


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


class FullDatabase:
    """Makes every page that the file has more than now an error, as a full disk does."""

    def __init__(self, store: EventStore) -> None:
        self._disk = store._disk

    def begin(self) -> None:
        self._set("page_count")

    def end(self) -> None:
        self._set("1000000")

    def _set(self, most: str) -> None:
        connection = self._disk._opened()._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0] if most == "page_count" else most
        connection.execute(f"PRAGMA max_page_count = {pages}")


async def test_events_are_there_at_once_and_on_the_disk_after_the_commit(tmp_path: Path) -> None:
    store = a_store(tmp_path, commit_every_s=60)
    event = an_event(has_frame=True)
    store.put(event, b"jpeg")
    assert await store.find(ALL, limit=10) == [event]
    assert await store.get(event.id) == event
    assert await store.frame(event.id) == b"jpeg"
    assert (await store.counts(ALL))[0].label == "robin"
    assert on_disk(tmp_path) == 0
    await store.close()
    assert on_disk(tmp_path) == 1


async def test_many_events_are_committed_together(tmp_path: Path) -> None:
    store = a_store(tmp_path, commit_every_s=0.5)
    assert await store.open() == []
    seen = set()
    for n in range(100):
        store.put(an_event(at_ns=START_NS + n * MS))
        seen.add(on_disk(tmp_path))
    while 100 not in seen:
        await asyncio.sleep(0.01)
        seen.add(on_disk(tmp_path))
    assert len(seen) <= 3
    await store.close()


async def test_events_that_a_killed_agent_left_open_end_at_the_next_start(tmp_path: Path) -> None:
    killed = a_store(tmp_path)
    begun = an_event(kind="begin")
    killed.put(begun)
    await until(lambda: on_disk(tmp_path) == 1)
    store = a_store(tmp_path)
    assert await store.open() == [replace(begun, type="end")]
    own = an_event(kind="begin")
    store.put(own)
    assert await store.find(ALL, limit=10) == [own, replace(begun, type="end")]
    await store.close()
    await killed.close()


async def test_events_wait_in_memory_while_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = a_store(tmp_path)
    before = [an_event(at_ns=START_NS + n * MS) for n in range(50)]
    for event in before:
        store.put(event)
    await until(lambda: on_disk(tmp_path) == 50)
    full = FullDatabase(store)
    full.begin()
    waiting = [an_event(at_ns=START_NS + (100 + n) * MS, has_frame=True) for n in range(20)]
    for event in waiting:
        store.put(event, bytes(10_000))
    await until(lambda: store.trouble is not None)
    assert store.trouble == (
        f"Cannot write the events in {tmp_path}: database or disk is full. Free some space or give the agent's user "
        "write access. Until then, at most 200 events wait in memory."
    )
    assert len(await store.find(ALL, limit=100)) >= 50
    await asyncio.sleep(0.2)
    assert [record.message for record in caplog.records] == [store.trouble]
    caplog.set_level(logging.INFO)
    full.end()
    await until(lambda: store.trouble is None)
    assert await store.find(ALL, limit=100) == waiting[::-1] + before[::-1]
    assert caplog.messages[-1] == f"The events in {tmp_path} can be written again."
    await store.close()


async def test_only_the_newest_events_wait_while_the_disk_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").write_text("in the way")
    store = a_store(tmp_path / "folder")
    assert await store.open() == []
    assert store.trouble
    assert store.trouble.startswith(f"Cannot write the events in {tmp_path / 'folder'}: ")
    with pytest.raises(StoreError, match="Cannot write the events"):
        await store.find(ALL, limit=1)
    events = [an_event(at_ns=START_NS + n * MS) for n in range(300)]
    for event in events:
        store.put(event)
    assert [text for text in caplog.messages if "lost" in text] == [
        "200 events wait for the disk, so the oldest of them are lost. More may follow."
    ]
    (tmp_path / "folder").unlink()
    await until(lambda: store.trouble is None)
    assert await store.find(ALL, limit=1000) == events[:-201:-1]
    await store.close()


async def test_no_more_events_wait_when_many_arrive_during_commits_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path / "events.db", max_events=1000, max_bytes=10_000_000)
    events = [an_event(at_ns=START_NS + n * MS) for n in range(500)]

    def fail(_: Database) -> None:
        for event in itertools.islice(arriving, 100):
            disk.put(event, None)
        raise sqlite3.OperationalError("disk I/O error")

    arriving = iter(events)
    with monkeypatch.context() as failing:
        failing.setattr(Database, "commit", fail)
        assert [disk.commit() for _ in range(5)] == [False] * 5
    assert disk.commit()
    assert disk.read(lambda file: file.find(ALL, limit=1000)) == events[:-201:-1]
    disk.close()


async def test_an_end_is_kept_with_the_frame_that_waits(tmp_path: Path) -> None:
    store = a_store(tmp_path, commit_every_s=60)
    begun = an_event(kind="begin", has_frame=True)
    store.put(begun, b"jpeg")
    store.put(replace(begun, type="end"))
    assert [event.type for event in await store.find(ALL, limit=10)] == ["end"]
    assert await store.frame(begun.id) == b"jpeg"
    await store.close()


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" + bytes(5000)])
async def test_a_damaged_file_is_kept_aside_and_a_new_one_begins(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events.db").write_bytes(content)
    store = a_store(tmp_path)
    assert await store.open() == []
    event = an_event()
    store.put(event)
    assert await store.find(ALL, limit=10) == [event]
    assert (tmp_path / "events.db.damaged").read_bytes() == content
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "kept as events.db.damaged, and a new one begins" in caplog.text
    assert store.trouble is None
    await store.close()
    assert on_disk(tmp_path) == 1


@pytest.mark.parametrize("is_frame", [False, True])
async def test_damage_that_is_found_later_costs_at_most_one_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_frame: bool
) -> None:
    store = a_store(tmp_path)
    damaged = an_event(has_frame=True)
    store.put(damaged, b"\xaa" * 50_000)
    await store.close()
    spoil(tmp_path / "events.db", b"\xaa" * 4000 if is_frame else b"")
    store = a_store(tmp_path)
    await store.open()
    event = an_event()
    store.put(event)
    if is_frame:
        assert await store.find(ALL, limit=10) == [event, damaged]
        with pytest.raises(StoreError, match="were damaged, and a new file begins"):
            await store.frame(damaged.id)
    assert await store.find(ALL, limit=10) == [event]
    assert (tmp_path / "events.db.damaged").exists()
    assert len([text for text in caplog.messages if "damaged" in text]) == 1
    await store.close()


@pytest.mark.parametrize("kind", ["begin", "end"])
@pytest.mark.parametrize("best", ["", "{", "[]", "{}", "[" * 100_000])
async def test_damage_that_sqlite_does_not_see_is_found(
    tmp_path: Path, best: str, kind: Literal["begin", "end"]
) -> None:
    store = a_store(tmp_path)
    store.put(an_event(kind=kind))
    await store.close()
    change(tmp_path, "UPDATE events SET best = ?", best)
    store = a_store(tmp_path)
    assert await store.open() == []
    if kind == "end":  # read for the first time
        with pytest.raises(StoreError, match="were damaged, and a new file begins"):
            await store.find(ALL, limit=10)
    assert await store.find(ALL, limit=10) == []
    assert (tmp_path / "events.db.damaged").exists()
    await store.close()


async def test_text_that_is_not_unicode_is_read(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.put(an_event(kind="begin"))
    await store.close()
    change(tmp_path, "UPDATE events SET label = CAST(? AS TEXT)", b"rob\xffn")
    store = a_store(tmp_path)
    assert [event.label for event in await store.open()] == ["rob\N{REPLACEMENT CHARACTER}n"]
    await store.close()


def change(folder: Path, statement: str, value: str | bytes) -> None:
    with contextlib.closing(sqlite3.connect(folder / "events.db")) as connection, connection:
        connection.execute(statement, (value,))


def spoil(file: Path, having: bytes) -> None:
    """Overwrites the begin of each page with this content, except the first page."""
    content = bytearray(file.read_bytes())
    for at in range(4096, len(content), 4096):
        if having in content[at : at + 4096]:
            content[at : at + 16] = b"\x55" * 16
    file.write_bytes(content)


async def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    store.put(an_event())
    await until(lambda: (tmp_path / "events.db").exists() and not store._disk.is_behind)
    shutil.rmtree(tmp_path)
    event = an_event("wren")
    store.put(event)
    await until(lambda: (tmp_path / "events.db").exists() and not store._disk.is_behind)
    assert await store.find(ALL, limit=10) == [event]
    assert on_disk(tmp_path) == 1
    await store.close()


async def test_close_gives_up_on_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(tmp_path)
    await store.open()
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("agent.events.store._CLOSE_S", 0.05)
    monkeypatch.setattr(
        store._disk, "close", lambda: asyncio.run_coroutine_threadsafe(released.wait(), loop).result(20)
    )
    await asyncio.wait_for(store.close(), 10)
    released.set()


async def test_others_cannot_read_the_folder(tmp_path: Path) -> None:
    store = a_store(tmp_path / "events")
    store.put(an_event(spot=FRONT))
    await store.close()
    assert (tmp_path / "events").stat().st_mode & 0o077 == 0
