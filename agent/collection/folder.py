"""CollectionFolder: the collected frames on the disk: a JPEG and its Result as JSON, in one folder per view."""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.classification import Spot
from agent.host.durable import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESERVE_BYTES = 64 << 20  # of the disk; twice what the outbox leaves free, which has more important data

_ID = re.compile("[0-9A-HJKMNP-TV-Z]{26}")  # a ULID
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class Collected:
    """One frame; its `id` is that of its Result. `size` is that of its JPEG in bytes."""

    id: str
    spot: Spot
    jpeg: Path
    size: int

    @property
    def captured_s(self) -> float:
        """Unix time, from the id."""
        number = 0
        for character in self.id[:_TIME_CHARACTERS]:
            number = number * len(_CROCKFORD) + _CROCKFORD.index(character)
        return number / 1000

    @property
    def json(self) -> Path:
        return self.jpeg.with_suffix(".json")

    def document(self) -> dict[str, Any]:
        """Its Result and its `best` category; only its id if the file is missing or damaged."""
        try:
            document = json.loads(self.json.read_bytes())
            json.dumps(document, ensure_ascii=False, allow_nan=False).encode()  # Python reads more than others do
        except (OSError, ValueError, RecursionError):
            document = None
        return document if isinstance(document, dict) else {"id": self.id}


class CollectionFolder:
    """Every method blocks. Several threads may read and delete, one may add. Nothing is remembered: files may vanish.

    `reserve_bytes` of the disk stay free.
    """

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self._reserve_bytes = reserve_bytes

    def add(self, spot: Spot, jpeg: bytes, document: dict[str, Any], *, max_bytes: int) -> None:
        """`document` has the `id`. Removes the oldest frames of this view beyond `max_bytes`. Raises OSError."""
        folder = self._folder_of(spot)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        result = json.dumps(document, separators=(",", ":")).encode()
        frames = self._tidied(spot)
        size = len(jpeg) + len(result) + sum(_whole_size(frame) for frame in frames)
        while frames and size > max_bytes:
            oldest = frames.pop(0)
            size -= _whole_size(oldest)
            _remove(oldest)
        system = os.statvfs(folder)
        if system.f_bavail * system.f_frsize < self._reserve_bytes + len(jpeg):
            raise OSError(errno.ENOSPC, f"Less than {self._reserve_bytes >> 20} MB are free")
        frame = folder / document["id"]
        replace_file(frame.with_suffix(".json"), result)
        replace_file(frame.with_suffix(".jpg"), jpeg)  # last: a frame is complete once it has its picture

    def newest_s(self, spot: Spot) -> float | None:
        """The Unix time of the view's newest frame."""
        return max((frame.captured_s for frame in self._frames_of(spot)), default=None)

    def frames(self, *, camera: str | None = None, view: str | None = None) -> list[Collected]:
        """Those of all views, or of a camera or one of its views; the newest first. Raises OSError."""
        wanted = [spot for spot in self._spots() if camera in (None, spot.camera) and view in (None, spot.view)]
        found = [frame for spot in wanted for frame in self._frames_of(spot)]
        return sorted(found, key=lambda frame: frame.id, reverse=True)

    def find(self, frame_id: str) -> Collected | None:
        """Raises OSError."""
        if _ID.fullmatch(frame_id):
            for spot in self._spots():
                jpeg = self._folder_of(spot) / f"{frame_id}.jpg"
                with suppress(FileNotFoundError):
                    return Collected(frame_id, spot, jpeg, jpeg.stat().st_size)
        return None

    def remove(self, frame: Collected) -> None:
        """Raises OSError, but not if it is gone already."""
        _remove(frame)

    def _spots(self) -> list[Spot]:
        try:
            return [_spot(entry.name) for entry in os.scandir(self.folder) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []

    def _folder_of(self, spot: Spot) -> Path:
        return self.folder / f"{spot.camera}~{spot.view or ''}"  # no name contains a ~, so that none is `..`

    def _frames_of(self, spot: Spot) -> Iterator[Collected]:
        """In any order."""
        with suppress(FileNotFoundError), os.scandir(self._folder_of(spot)) as entries:
            for entry in entries:
                name, dot, kind = entry.name.partition(".")
                if dot + kind == ".jpg" and _ID.fullmatch(name):
                    with suppress(FileNotFoundError):
                        yield Collected(name, spot, self._folder_of(spot) / entry.name, entry.stat().st_size)

    def _tidied(self, spot: Spot) -> list[Collected]:
        """The frames of a view, the oldest first; removes what a power cut left of others."""
        frames = sorted(self._frames_of(spot), key=lambda frame: frame.id)
        expected = {path.name for frame in frames for path in (frame.jpeg, frame.json)}
        for path in self._folder_of(spot).iterdir():
            if path.name not in expected:
                path.unlink(missing_ok=True)
        return frames


def _spot(folder: str) -> Spot:
    camera, _, view = folder.partition("~")
    return Spot(camera, view or None)


def _whole_size(frame: Collected) -> int:
    try:
        return frame.size + frame.json.stat().st_size
    except OSError:
        return frame.size


def _remove(frame: Collected) -> None:
    """The picture first: without it, the frame counts as gone."""
    frame.jpeg.unlink(missing_ok=True)
    frame.json.unlink(missing_ok=True)
