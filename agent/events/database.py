"""Database: the events and their best frames in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.classification import Spot
from agent.event import Event

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from agent.event import Wanted

_VERSION = 1
_HOUR_MS = 3_600_000
_ROOM = 50  # a full store is trimmed by a 50th, so that not every commit deletes
_STEP = 2000  # events or pages, since what one transaction changes is in the journal too, on a disk that may be full
_PAGE_BYTES = 4096
_OF_A_RESULT = {"model", "categories", "captured_at"}
_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode

# Both indexes on a column end with the other columns that a reader may ask for, so that rows which do not match are
# skipped without reading the table. The table's own order, that of insertion, decides what is the oldest: the clock of
# a board may be wrong.
_SCHEMA = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, camera TEXT NOT NULL, view TEXT,
    label TEXT NOT NULL, started INTEGER NOT NULL, seen INTEGER NOT NULL, best TEXT NOT NULL
);
CREATE INDEX by_time ON events (started);
CREATE INDEX by_label ON events (label, started, camera, view);
CREATE INDEX by_camera ON events (camera, started, view, label);
CREATE INDEX is_open ON events (type) WHERE type != 'end';
CREATE TABLE frames (number INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
PRAGMA user_version = {_VERSION};
"""
_EVENT = (
    "id, type, camera, view, label, started, seen, best, EXISTS (SELECT 1 FROM frames WHERE number = events.number)"
)
_NUMBER = "(SELECT number FROM events WHERE id = ?)"
_FRAME_BYTES = f"coalesce(sum((length(jpeg) + {_PAGE_BYTES - 1}) / {_PAGE_BYTES} * {_PAGE_BYTES}), 0)"  # whole pages


class HourCount(NamedTuple):
    """`hour_ms` is the begin of an hour in Unix time."""

    hour_ms: int
    label: str
    events: int


class Database:
    """Every method blocks and may raise sqlite3.Error. A reader sees what was put, also before it is committed."""

    def __init__(self, connection: sqlite3.Connection, *, max_events: int, max_bytes: int) -> None:
        self._connection = connection
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._measure()

    @classmethod
    def open(cls, path: Path, *, max_events: int, max_bytes: int) -> Self:
        """Creates the file. Raises OSError too."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.text_factory = lambda text: text.decode(errors="replace")  # so that damaged text fails no query
        try:
            _prepare(connection)
            # Without waiting for the disk at each commit: a power cut may cost the last seconds, but not the file.
            connection.executescript(
                "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -2000"
            )
            return cls(connection, max_events=max_events, max_bytes=max_bytes)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def put(self, event: Event, jpeg: bytes | None) -> None:
        """Stores it or what changed of it; without `jpeg`, an earlier frame stays."""
        self._begin()
        label = event.label.encode(errors="replace").decode()  # of a damaged model
        row = event.type, event.seen_ns // 1_000_000, _TO_JSON(event.best), event.id
        found = self._connection.execute("UPDATE events SET type = ?, seen = ?, best = ? WHERE id = ?", row)
        if not found.rowcount:
            self._connection.execute(
                "INSERT INTO events (type, seen, best, id, camera, view, label, started) VALUES (?,?,?,?,?,?,?,?)",
                (*row, *event.spot, label, event.started_ns // 1_000_000),
            )
            self._count += 1
        if jpeg is not None:
            before = self._one(f"SELECT {_FRAME_BYTES} FROM frames WHERE number = {_NUMBER}", event.id)
            self._connection.execute(f"INSERT OR REPLACE INTO frames VALUES ({_NUMBER}, ?)", (event.id, jpeg))
            self._frame_bytes += _whole_pages(len(jpeg)) - before

    def commit(self) -> None:
        """Also removes what is too much: the oldest frames until they take a quarter, then the oldest events."""
        while self._trim():
            self._end_transaction()
        self._end_transaction()
        while self._pages("page_count") > self._max_bytes and self._pages("freelist_count"):
            # The configuration allowed more once. With execute() it would free one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_STEP})")

    def roll_back(self) -> bool:
        """Gives up what was not committed. False if even that failed: close it."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._measure()
        except sqlite3.Error:
            return False
        return True

    def end_all(self) -> list[Event]:
        """Ends the events that are still open, at the time until which they are known to have lasted."""
        events = [_event(row) for row in self._connection.execute(f"SELECT {_EVENT} FROM events WHERE type != 'end'")]
        self._connection.execute("UPDATE events SET type = 'end' WHERE type != 'end'")
        return [replace(event, type="end") for event in events]

    def find(self, wanted: Wanted, *, limit: int, before: str | None = None) -> list[Event]:
        """The newest first; `before` is the id of the event after which the list goes on."""
        condition, values = _condition(wanted)
        if before is not None:
            query = "SELECT started, number FROM events WHERE id = ?"
            last = self._connection.execute(query, (before,)).fetchone()
            if last is None:  # it was the oldest, which was removed
                return []
            condition, values = f"{condition} AND (started, number) < (?, ?)", (*values, *last)
        query = f"SELECT {_EVENT} FROM events WHERE {condition} ORDER BY started DESC, number DESC LIMIT ?"
        return [_event(row) for row in self._connection.execute(query, (*values, limit))]

    def get(self, event_id: str) -> Event | None:
        row = self._connection.execute(f"SELECT {_EVENT} FROM events WHERE id = ?", (event_id,)).fetchone()
        return None if row is None else _event(row)

    def frame(self, event_id: str) -> bytes | None:
        row = self._connection.execute(f"SELECT jpeg FROM frames WHERE number = {_NUMBER}", (event_id,)).fetchone()
        return None if row is None else row[0]

    def counts(self, wanted: Wanted) -> list[HourCount]:
        """By the hour in which the events began, the oldest first."""
        condition, values = _condition(wanted)
        query = f"SELECT started / {_HOUR_MS} * {_HOUR_MS}, label, count(*) FROM events WHERE {condition} GROUP BY 1, 2"
        return [HourCount(*row) for row in self._connection.execute(query, values)]

    def _measure(self) -> None:
        self._count = self._one("SELECT count(*) FROM events")
        self._frame_bytes = self._one(f"SELECT {_FRAME_BYTES} FROM frames")

    def _trim(self) -> bool:
        """Removes a part of what is too much; whether there was any."""
        if self._count > self._max_events:
            self._remove_events(self._count - self._max_events + self._max_events // _ROOM)
            return True
        room = self._max_bytes // _ROOM
        if not self._count or self._pages("page_count") - self._pages("freelist_count") <= self._max_bytes - room:
            return False
        if self._frame_bytes > self._max_bytes // 4:
            self._remove_frames(room)
        else:
            self._remove_events(1 + self._count // _ROOM)
        return True

    def _remove_events(self, count: int) -> None:
        query = "SELECT max(number) FROM (SELECT number FROM events ORDER BY number LIMIT ?)"
        last = self._one(query, min(count, _STEP))
        self._remove_frames_until(last)
        self._count -= self._connection.execute("DELETE FROM events WHERE number <= ?", (last,)).rowcount

    def _remove_frames(self, at_least: int) -> None:
        frames = self._connection.execute("SELECT number, length(jpeg) FROM frames ORDER BY number")
        number, size = 0, 0
        while size < at_least and (row := frames.fetchone()) is not None:
            number, size = row[0], size + _whole_pages(row[1])
        frames.close()
        self._remove_frames_until(number)

    def _remove_frames_until(self, last: int) -> None:
        self._begin()
        self._frame_bytes -= self._one(f"SELECT {_FRAME_BYTES} FROM frames WHERE number <= ?", last)
        self._connection.execute("DELETE FROM frames WHERE number <= ?", (last,))

    def _end_transaction(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")

    def _pages(self, pragma: str) -> int:
        return self._one(f"PRAGMA {pragma}") * _PAGE_BYTES

    def _one(self, query: str, *values: int | str) -> int:
        found: int = self._connection.execute(query, values).fetchone()[0]
        return found


def _prepare(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.executescript(_SCHEMA)
    elif version != _VERSION:  # of another program, or of a later version of the agent
        raise sqlite3.DatabaseError(f"its version is {version} and not {_VERSION}")


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE_BYTES) * _PAGE_BYTES


def _condition(wanted: Wanted) -> tuple[str, tuple[str | int, ...]]:
    terms = {
        # The plus keeps SQLite from the index on the camera: a label is usually rarer.
        "camera = ?" if wanted.label is None else "+camera = ?": wanted.camera,
        "view = ?": wanted.view,
        "label = ?": wanted.label,
        "started >= ?": wanted.from_ms,
        "started < ?": wanted.to_ms,
    }
    given = {term: value for term, value in terms.items() if value is not None}
    return " AND ".join(given) or "TRUE", tuple(given.values())


def _result(text: str) -> dict[str, Any]:
    """Raises sqlite3.DatabaseError if it is damaged: SQLite has no checksums, so only its content shows that."""
    with contextlib.suppress(ValueError, RecursionError):
        result = json.loads(text)
        if isinstance(result, dict) and result.keys() >= _OF_A_RESULT:
            return result
    raise sqlite3.DatabaseError("an event is damaged")


def _event(row: tuple[Any, ...]) -> Event:
    event_id, kind, camera, view, label, started, seen, best, has_frame = row
    return Event(
        event_id,
        kind,
        Spot(camera, view),
        label,
        started_ns=started * 1_000_000,
        seen_ns=seen * 1_000_000,
        best=_result(best),
        has_frame=bool(has_frame),
    )
