"""Segments: the outbox's append-only files, oldest first.

A file `<number>-<boot>.segment` is written by one run of the agent and consists of blocks (blocks.py). It is removed
once all its entries are acknowledged, or if it is the oldest when space runs out. docs/architecture.md explains why
this is not SQLite: it writes fewer bytes per result.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from agent.errors import SegmentError
from agent.host.clock import Clock
from agent.host.durable import flush_folder, replace_file, set_aside
from agent.mqtt.outbox.blocks import Block, Entry, Position, encode, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_NAME = re.compile(r"(\d{12})-([0-9A-Z]{26})\.segment")
_RUNNING = "running"
_GONE = (errno.ENOENT, errno.EIO)  # the file, or a sector of it
_DAMAGED = (errno.EISDIR, errno.EIO)
_BLOCK_ENTRIES = 256
_UNDATED_S = 0  # the time stamp of a file that was written while the clock was not set


@dataclass(slots=True)
class Segment:
    """`seqs` are the first and last entry's; `begun_s` and `written_s` are times of time.monotonic()."""

    number: int
    boot: str
    size: int = 0
    count: int = 0
    seqs: tuple[int, int] = (0, 0)
    begun_s: float = field(default_factory=time.monotonic)
    written_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Hole:
    """An unreadable part of a damaged file. `before` and `after` are the adjacent seqs; None if unknown."""

    segment: int
    boot: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a start finds. `killed` is the boot of a run that ended without saving the results in memory."""

    segments: tuple[Segment, ...]
    cursor: Position
    killed: str | None
    holes: tuple[Hole, ...]


_logger = logging.getLogger(__name__)


class Segments:
    """Every method blocks, may raise OSError, and must be called by one thread at a time.

    A segment is closed after `segment_bytes` or `segment_s`. Nothing is written while less than `reserve_bytes` of
    disk space are free.
    """

    def __init__(
        self,
        folder: Path,
        *,
        boot: str,
        segment_bytes: int,
        segment_s: float,
        clock: Clock | None = None,
        reserve_bytes: int = 32 << 20,
    ) -> None:
        self._folder = folder
        self._boot = boot
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._reserve_bytes = reserve_bytes
        self._clock = clock or Clock()
        self._active: Segment | None = None
        self._next_number = 1
        self._holes: list[Hole] = []
        self._repairs: list[Callable[[], None]] = []

    def open(self) -> Found:
        """Reads every segment once, and removes acknowledged ones. Call repair() before read()."""
        self._holes, self._repairs = [], []
        names = sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []
        boots = {int(found[1]): found[2] for name in names if (found := _NAME.fullmatch(name))}
        killed = self._killed()
        torn = max((number for number, boot in boots.items() if boot == killed), default=None)
        cursor, segments = Position(0, 0), []
        unreadable = []
        for number, boot in boots.items():
            segment = Segment(number, boot)
            try:
                cursor = max(cursor, self._examine(segment, torn_end=number == torn))
            except PermissionError:
                unreadable.append(segment)
            else:
                segments.append(segment)
        if cursor.segment in {hole.segment for hole in self._holes}:
            cursor = Position(cursor.segment, 0)  # the cursor may count entries that are now missing
        self._next_number = max([*boots, cursor.segment], default=0) + 1
        for segment in unreadable:
            self._leave_for_later(segment)
        for segment in segments:
            if segment.count and _is_acknowledged(segment, cursor):
                self.remove(segment)
        return Found(
            segments=tuple(each for each in segments if each.count and not _is_acknowledged(each, cursor)),
            cursor=cursor,
            killed=killed,
            holes=tuple(self._holes),
        )

    def repair(self) -> None:
        """Sets damaged files aside and keeps their intact blocks. Call it once the damage was announced."""
        while self._repairs:
            self._repairs[0]()
            self._repairs.pop(0)

    def begin(self) -> None:
        """Marks on disk that from now on there may be unsaved results in memory."""
        marker = self._folder / _RUNNING
        if marker.is_dir():
            set_aside(marker)
        replace_file(marker, self._boot.encode())

    def end(self) -> None:
        """Removes the mark of begin(): there are no unsaved results any more."""
        (self._folder / _RUNNING).unlink(missing_ok=True)

    def append(self, entries: Sequence[Entry], cursor: Position) -> tuple[Segment, int]:
        """Writes `entries` to disk; returns their segment and the index of the first one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < self._reserve_bytes:
            raise OSError(errno.ENOSPC, f"Less than {self._reserve_bytes >> 20} MB are free")
        if self._active is None or self._is_full(self._active):
            self._active = Segment(self._next_number, self._boot)
            self._next_number += 1
        segment, self._active = self._active, None  # after an error, the content of the file is unknown
        starts = range(0, max(1, len(entries)), _BLOCK_ENTRIES)
        self._write(segment, b"".join(encode(entries[start : start + _BLOCK_ENTRIES], cursor) for start in starts))
        self._active = segment
        first = segment.count
        if entries:
            segment.seqs = (segment.seqs[0] if first else entries[0].seq, entries[-1].seq)
        segment.count += len(entries)
        segment.written_s = time.monotonic()
        return segment, first

    def read(self, segment: Segment, offset: int, limit: int) -> tuple[list[Entry], int]:
        """Returns at least `limit` entries, or all, from the block at `offset` on, and the next block's offset.

        Raises SegmentError.
        """
        try:
            with self._path(segment).open("rb") as file:
                file.seek(offset)
                data = file.read(segment.size - offset)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            raise SegmentError(segment.number) from None
        entries: list[Entry] = []
        for block in walk(data) if data else [None]:
            if block is None:
                raise SegmentError(segment.number)
            entries += block.entries(segment.boot)
            offset += len(block.raw)
            if len(entries) >= limit:
                break
        return entries, offset

    def remove(self, segment: Segment) -> None:
        self._let_go(segment)
        self._path(segment).unlink(missing_ok=True)

    def set_aside(self, segment: Segment) -> None:
        """Keeps only the newest damaged file, for inspection."""
        self._let_go(segment)
        self._forget_damaged()
        with contextlib.suppress(FileNotFoundError):
            set_aside(self._path(segment))

    def _is_full(self, segment: Segment) -> bool:
        return segment.size >= self._segment_bytes or time.monotonic() - segment.begun_s > self._segment_s

    def _write(self, segment: Segment, blocks: bytes) -> None:
        """Undoes a failed write, because half a block would look like damage."""
        new = os.O_CREAT | os.O_EXCL if segment.size == 0 else 0
        descriptor = os.open(self._path(segment), os.O_WRONLY | os.O_CLOEXEC | new, 0o600)
        try:
            _write_all(descriptor, blocks, segment.size)
            if not self._clock.is_synced:
                os.utime(descriptor, (_UNDATED_S, _UNDATED_S))
            os.fdatasync(descriptor)
            if segment.size == 0:
                flush_folder(self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, segment.size)
                if segment.size == 0:
                    self.remove(segment)
            raise
        finally:
            os.close(descriptor)
        segment.size += len(blocks)

    def _examine(self, segment: Segment, *, torn_end: bool) -> Position:
        """Returns the last cursor. With `torn_end`, an incomplete last block is not damage: the run was killed."""
        path = self._path(segment)
        try:
            data = path.read_bytes()
            segment.written_s -= self._age_s(path)
        except OSError as error:
            if error.errno not in _DAMAGED:
                raise
            self._repairs.append(partial(self.set_aside, segment))
            self._holes.append(Hole(segment.number, segment.boot, None, None))
            return Position(0, 0)
        blocks = list(walk(data)) or [None]
        holes = _holes(segment, blocks, torn_end=torn_end)
        whole = [block for block in blocks if block]
        if len(whole) < len(blocks):
            self._repairs.append(partial(self._repair, segment, whole, keep=bool(holes)))
        self._holes += holes
        _describe(segment, whole)
        if not segment.count:
            self._repairs.append(partial(path.unlink, missing_ok=True))
        return max((block.cursor for block in whole), default=Position(0, 0))

    def _age_s(self, path: Path) -> float:
        """How long ago an earlier run wrote the file; 0 if the clock was or is not set: a wrong age would drop it."""
        written_s = path.stat().st_mtime
        if written_s == _UNDATED_S or not self._clock.is_synced:
            return 0.0
        return max(0.0, time.time() - written_s)

    def _repair(self, segment: Segment, whole: list[Block], *, keep: bool) -> None:
        """Keeps only whole blocks; `keep` also saves the damaged file. Changes nothing if it fails."""
        path = self._path(segment)
        if keep:
            self._forget_damaged()
            with contextlib.suppress(OSError):  # there may be no room for both
                shutil.copyfile(path, path.with_name(f"{path.name}.damaged"))
        replace_file(path, b"".join(block.raw for block in whole))

    def _leave_for_later(self, segment: Segment) -> None:
        """Moves another user's file behind all others, so that no cursor passes it before it becomes readable."""
        path = self._path(segment)
        _logger.warning("Cannot read %s. Make it readable for the agent's user and its results will be sent.", path)
        segment.number, self._next_number = self._next_number, self._next_number + 1
        path.replace(self._path(segment))

    def _forget_damaged(self) -> None:
        for older in self._folder.glob("*.segment.damaged"):
            shutil.rmtree(older) if older.is_dir() else older.unlink()

    def _killed(self) -> str | None:
        marker = self._folder / _RUNNING
        if not marker.is_file():
            return None
        boot = marker.read_text(encoding="ascii", errors="replace")
        return boot if re.fullmatch("[0-9A-Z]{26}", boot) else None

    def _let_go(self, segment: Segment) -> None:
        if self._active is segment:
            self._active = None

    def _path(self, segment: Segment) -> Path:
        return self._folder / f"{segment.number:012d}-{segment.boot}.segment"


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    if os.pwrite(descriptor, content, offset) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the kernel would report it only at the next write


def _is_acknowledged(segment: Segment, cursor: Position) -> bool:
    return segment.number < cursor.segment or (segment.number == cursor.segment and cursor.entry >= segment.count)


def _describe(segment: Segment, blocks: list[Block]) -> None:
    filled = [block for block in blocks if block.count]
    segment.size = sum(len(block.raw) for block in blocks)
    segment.count = sum(block.count for block in filled)
    if filled:
        segment.seqs = filled[0].seqs[0], filled[-1].seqs[1]


def _holes(segment: Segment, blocks: list[Block | None], *, torn_end: bool) -> list[Hole]:
    holes, before, open_hole = [], None, False
    for block in blocks:
        if block is None:
            open_hole = True
        elif block.count:
            if open_hole:
                holes.append(Hole(segment.number, segment.boot, before, block.seqs[0]))
            before, open_hole = block.seqs[1], False
    if open_hole and not torn_end:
        holes.append(Hole(segment.number, segment.boot, before, None))
    return holes
