"""Disk: writes events that wait to the database and reads from it, through full, read-only and damaged disks."""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from agent.errors import StoreError
from agent.events.database import Database
from agent.host.durable import set_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.event import Event

    Waiting: TypeAlias = dict[str, tuple[Event, bytes | None]]  # by the id of the event, with its new frame

log = logging.getLogger(__name__)

_MAX_WAITING = 200  # about 5 MB with their frames

T = TypeVar("T")


class Disk:
    """put() is for any thread; the other methods block, and one thread calls them.

    `trouble` says what fails and what to do. Until it ends, the events wait in memory; each stays there until it is
    committed, so that none is lost if the database cannot go on.
    """

    def __init__(self, path: Path, *, max_events: int, max_bytes: int) -> None:
        self._path = path
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: Waiting = {}
        self._written: Waiting = {}  # not committed
        self._database: Database | None = None
        self._former: list[Event] | None = None
        self._is_losing = False
        self.trouble: str | None = None

    @property
    def is_behind(self) -> bool:
        return bool(self._waiting or self._written)

    def put(self, event: Event, jpeg: bytes | None) -> None:
        with self._lock:
            _add(self._waiting, event, jpeg)
        self._limit()

    def end_former(self) -> list[Event]:
        """Ends the events that an earlier run left open, and returns them. If the disk fails, that happens later."""
        self.commit()
        return self._former or []

    def commit(self) -> bool:
        """Whether everything that waited is on the disk now."""
        try:
            try:
                self._commit()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._fail(error)
                self._commit()  # to a new file
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return False
        if self.trouble is not None:
            log.info("The events in %s can be written again.", self._path.parent)
        self.trouble, self._is_losing = None, False
        return True

    def read(self, call: Callable[[Database], T]) -> T:
        """Raises StoreError."""
        try:
            if self.trouble is None:
                self._write()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        try:
            return call(self._opened())
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            damaged = f"The events in {self._path.parent} were damaged, and a new file begins. Send the request again."
            raise StoreError(self.trouble or damaged) from None

    def close(self) -> None:
        if self.is_behind and not self.commit():
            log.warning("%d events could not be saved; they are lost.", len(self._waiting))
        self._close()

    def _commit(self) -> None:
        if self._database is not None and not self._path.exists():  # SQLite would go on with the deleted file
            self._fail(FileNotFoundError(errno.ENOENT, "the file was removed"))
            self._close()
        self._write()
        self._opened().commit()
        self._written.clear()

    def _write(self) -> None:
        database = self._opened()
        if self._former is None:  # before anything of this run is there
            self._former = database.end_all()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            for event, jpeg in waiting.values():
                _add(self._written, event, jpeg)
        for event, jpeg in waiting.values():
            database.put(event, jpeg)

    def _opened(self) -> Database:
        if self._database is None:
            self._database = Database.open(self._path, max_events=self._max_events, max_bytes=self._max_bytes)
        return self._database

    def _fail(self, error: sqlite3.Error | OSError) -> None:
        """What was written since the last commit waits again. Keeps a damaged file aside."""
        with self._lock:
            later, self._waiting, self._written = self._waiting, self._written, {}
            for event, jpeg in later.values():
                _add(self._waiting, event, jpeg)
        self._limit()
        is_damaged = _is_damage(error)
        if self._database is not None and (is_damaged or not self._database.roll_back()):
            self._close()
        if is_damaged:
            try:
                self._set_aside(error)
            except OSError as failure:
                error = failure
            else:
                return
        reason = error.strerror if isinstance(error, OSError) else str(error)
        sentence = (
            f"Cannot write the events in {self._path.parent}: {reason}. Free some space or give the agent's user write "
            f"access. Until then, at most {_MAX_WAITING} events wait in memory."
        )
        if sentence != self.trouble:
            log.warning("%s", sentence)
        self.trouble = sentence

    def _limit(self) -> None:
        with self._lock:
            is_full = len(self._waiting) > _MAX_WAITING
            while len(self._waiting) > _MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
        if is_full and not self._is_losing:
            self._is_losing = True
            log.warning("%d events wait for the disk, so the oldest of them are lost. More may follow.", _MAX_WAITING)

    def _set_aside(self, error: Exception) -> None:
        """Raises OSError."""
        set_aside(self._path)
        for rest in ("-wal", "-shm"):
            self._path.with_name(self._path.name + rest).unlink(missing_ok=True)
        log.error(
            "The events in %s cannot be read (%s). The file is kept as %s.damaged, and a new one begins.",
            self._path,
            error,
            self._path.name,
        )

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _add(waiting: Waiting, event: Event, jpeg: bytes | None) -> None:
    _, before = waiting.pop(event.id, (None, None))
    waiting[event.id] = event, before if jpeg is None else jpeg


def _is_damage(error: Exception) -> bool:
    """SQLITE_CORRUPT and SQLITE_NOTADB have no class of their own, and Python 3.10 does not give the codes."""
    return type(error) is sqlite3.DatabaseError
