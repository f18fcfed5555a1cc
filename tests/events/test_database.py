from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from events.made import FRONT, MINUTE_NS, START_NS, an_event

from agent.classification import Spot
from agent.event import Wanted
from agent.events.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.event import Event

DOOR = Spot("back", "door")
HOUR_MS = 3_600_000


def opened(folder: Path, *, max_events: int = 1000, max_bytes: int = 10_000_000) -> Database:
    return Database.open(folder / "events.db", max_events=max_events, max_bytes=max_bytes)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = opened(tmp_path)
    yield database
    database.close()


def filled(database: Database) -> list[Event]:
    """One event per minute, the newest first: robin and wren at the camera front, owl at the door."""
    spots = (("robin", FRONT), ("wren", FRONT), ("owl", DOOR)) * 3
    events = [an_event(label, spot=spot, at_ns=START_NS + n * MINUTE_NS) for n, (label, spot) in enumerate(spots)]
    for event in events:
        database.put(event, None)
    return events[::-1]


def test_find_gives_the_newest_first_and_goes_on_after_an_event(database: Database) -> None:
    events = filled(database)
    assert database.find(Wanted(), limit=4) == events[:4]
    assert database.find(Wanted(), limit=100, before=events[3].id) == events[4:]
    assert database.find(Wanted(), limit=100, before=events[-1].id) == []
    assert database.find(Wanted(), limit=100, before="gone") == []


def test_find_goes_on_between_events_that_began_at_the_same_time(database: Database) -> None:
    events = [an_event() for _ in range(5)]
    for event in events:
        database.put(event, None)
    found: list[Event] = []
    while page := database.find(Wanted(), limit=2, before=found[-1].id if found else None):
        found += page
    assert found == events[::-1]


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [
        (Wanted(camera="front"), ["wren", "robin"] * 3),
        (Wanted(camera="front", label="wren"), ["wren"] * 3),
        (Wanted(camera="back", view="door"), ["owl"] * 3),
        (Wanted(camera="back", view="gate"), []),
        (Wanted(label="owl", from_ms=START_NS // 10**6 + 3 * 60_000), ["owl"] * 2),
        (Wanted(from_ms=START_NS // 10**6 + 60_000, to_ms=START_NS // 10**6 + 3 * 60_000), ["owl", "wren"]),
    ],
)
def test_find_gives_only_what_is_wanted(database: Database, wanted: Wanted, labels: list[str]) -> None:
    filled(database)
    assert [event.label for event in database.find(wanted, limit=100)] == labels


def test_put_changes_an_event_that_is_there(database: Database) -> None:
    begun = an_event(kind="begin", has_frame=True)
    database.put(begun, b"first")
    assert database.get(begun.id) == begun
    ended = replace(begun, type="end", seen_ns=begun.seen_ns + MINUTE_NS, best={**begun.best, "seq": 7})
    database.put(ended, None)
    assert database.find(Wanted(), limit=9) == [ended]
    assert database.frame(begun.id) == b"first"
    database.put(ended, b"second")
    assert database.frame(begun.id) == b"second"


def test_put_accepts_a_label_that_is_not_valid_unicode(database: Database) -> None:
    event = an_event("bad \ud800")
    database.put(event, None)
    assert database.get(event.id) == replace(event, label="bad ?")


def test_counts_are_by_label_and_hour(database: Database) -> None:
    for minutes, label in ((0, "robin"), (59, "robin"), (61, "robin"), (61, "wren")):
        database.put(an_event(label, at_ns=START_NS + minutes * MINUTE_NS), None)
    first = START_NS // 10**6
    assert first % HOUR_MS == 0
    assert database.counts(Wanted()) == [
        (first, "robin", 2),
        (first + HOUR_MS, "robin", 1),
        (first + HOUR_MS, "wren", 1),
    ]
    assert database.counts(Wanted(label="wren")) == [(first + HOUR_MS, "wren", 1)]


def test_the_oldest_events_go_when_there_are_too_many(tmp_path: Path) -> None:
    database = opened(tmp_path, max_events=100)
    events = [an_event(at_ns=START_NS - n, has_frame=True) for n in range(150)]  # the clock runs backward
    for event in events:
        database.put(event, b"frame")
        database.commit()
    kept = {event.id for event in database.find(Wanted(), limit=1000)}
    assert 97 <= len(kept) <= 100
    assert kept == {event.id for event in events[-len(kept) :]}
    assert database.frame(events[0].id) is None
    assert database.frame(events[-1].id) == b"frame"
    database.close()


def test_old_frames_go_before_events_and_the_file_stays_within_its_bytes(tmp_path: Path) -> None:
    most = 2_000_000
    database = opened(tmp_path, max_events=100_000, max_bytes=most)
    frames = random.Random(1)
    events = [an_event(at_ns=START_NS + n * MINUTE_NS, has_frame=True) for n in range(2500)]
    for event in events[:500]:  # 6 MB of frames
        database.put(event, frames.randbytes(12_000))
        database.commit()
    found = database.find(Wanted(), limit=5000)
    assert len(found) == 500
    assert 90 < sum(event.has_frame for event in found) < 170
    assert all(event.has_frame for event in found[:100])
    for event in events[500:]:
        database.put(event, frames.randbytes(12_000))
        database.commit()
    found = database.find(Wanted(), limit=5000)
    assert 1000 < len(found) < 3000
    assert 30 < sum(event.has_frame for event in found) < 60
    database.close()
    assert (tmp_path / "events.db").stat().st_size <= most
    assert opened(tmp_path).find(Wanted(), limit=5000) == found


def test_the_file_shrinks_when_less_is_allowed(tmp_path: Path) -> None:
    database = opened(tmp_path)
    for n in range(300):
        database.put(an_event(at_ns=START_NS + n), bytes(12_000))
    database.commit()
    database.close()
    assert (tmp_path / "events.db").stat().st_size > 3_000_000
    database = opened(tmp_path, max_bytes=1_000_000)
    database.commit()
    database.close()
    assert (tmp_path / "events.db").stat().st_size <= 1_000_000


def test_many_events_are_removed_in_steps_when_fewer_are_allowed(tmp_path: Path) -> None:
    database = opened(tmp_path, max_events=20_000, max_bytes=10**8)
    events = [an_event(at_ns=START_NS + n * MINUTE_NS) for n in range(10_000)]
    for event in events:
        database.put(event, None)
    database.commit()
    database.close()
    database = opened(tmp_path, max_events=100)
    database.commit()
    assert (tmp_path / "events.db-wal").stat().st_size < 5_000_000  # 6 MB in one step
    assert database.find(Wanted(), limit=1000) == events[:-99:-1]
    database.close()


def test_open_events_end_when_they_were_last_seen(tmp_path: Path) -> None:
    database = opened(tmp_path)
    begun, ended = an_event(kind="begin"), an_event(kind="end")
    for event in (begun, ended):
        database.put(event, None)
    database.commit()
    database.close()
    database = opened(tmp_path)
    assert database.end_all() == [replace(begun, type="end")]
    assert database.get(begun.id) == replace(begun, type="end")
    assert database.end_all() == []
    database.close()


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(label="robin"),
        Wanted(camera="front"),
        Wanted(camera="front", label="robin"),
        Wanted(camera="front", view="door", label="robin", from_ms=1, to_ms=2),
        Wanted(from_ms=1, to_ms=2),
    ],
)
def test_a_page_is_read_from_an_index_and_not_sorted(database: Database, wanted: Wanted) -> None:
    steps: list[str] = []
    connection = database._connection
    filled(database)
    database.commit()
    connection.set_trace_callback(steps.append)
    database.find(wanted, limit=50, before=database.find(Wanted(), limit=1)[0].id)
    connection.set_trace_callback(None)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {steps[-1]}")]
    assert plan[0].startswith(("SEARCH events USING INDEX", "SCAN events USING INDEX by_time"))
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


def test_a_file_of_a_later_version_counts_as_damaged(tmp_path: Path) -> None:
    opened(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "events.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError, match="its version is 99"):
        opened(tmp_path)
