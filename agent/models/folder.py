"""Folder: which model versions lie in the drop folder now, and a wake-up when that may have changed."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from agent.models.settings import sidecar_paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watchdog.observers.api import BaseObserver

# Inode, size and ctime: cp -p and rsync -t keep an old mtime, no tool can keep an old ctime.
Fingerprint: TypeAlias = tuple[tuple[int, int, int], ...]

_UNFINISHED = ("~", ".part", ".tmp", ".filepart")


@dataclass(frozen=True, slots=True)
class Drop:
    """One model file as it lies in the folder; `version` is the integer of TensorFlow Serving's layout."""

    name: str
    path: Path
    version: int | None
    fingerprint: Fingerprint

    @property
    def changed_at_s(self) -> float:
        """Unix time of the newest change to the file or a sidecar."""
        return max(ctime_ns for _, _, ctime_ns in self.fingerprint) / 1e9


class ModelFolder:
    """`<name>.tflite` and `<name>/<integer>/model.tflite`, each with its sidecars."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def list(self) -> dict[str, list[Drop]]:
        """Every model's drops, the highest version first. May block on a slow disk; raises OSError."""
        drops: dict[str, list[Drop]] = {}
        for entry in _visible(self.path):
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(".tflite"):
                _append(drops, Path(entry.path), name=entry.name.removesuffix(".tflite"), version=None)
            elif entry.is_dir(follow_symlinks=False):
                for version in _visible(Path(entry.path)):
                    if version.name.isascii() and version.name.isdigit():
                        path = Path(version.path, "model.tflite")
                        _append(drops, path, name=entry.name, version=int(version.name))
        for versions in drops.values():
            versions.sort(key=lambda drop: -1 if drop.version is None else drop.version, reverse=True)
        return drops


class FolderWatch:
    """Wakes the event loop when something below `path` changes. Events are hints: re-listing decides.

    Where the file system sends no events (NFS, SMB, some bind mounts), or the folder is replaced, the time-out
    of wait() takes their place.
    """

    def __init__(self, path: Path) -> None:
        """Starts watching; needs the running loop."""
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._observer: BaseObserver | None = None
        self._watched: int | None = None
        self._watch_current_folder()

    async def wait(self, timeout_s: float) -> None:
        """Ends with the first change since the call before, or after `timeout_s`."""
        await asyncio.to_thread(self._watch_current_folder)
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except asyncio.TimeoutError:
            return
        self._changed.clear()

    def close(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _watch_current_folder(self) -> None:
        """A folder that was deleted and made again has another inode and needs another watch."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            return
        if inode == self._watched:
            return
        self.close()
        observer = Observer()
        observer.daemon = True
        observer.schedule(_Waker(self._loop, self._changed), str(self._path), recursive=True)
        try:
            observer.start()
        except OSError:  # no inotify watches left: the timed rescan remains
            return
        self._observer, self._watched = observer, inode


class _Waker(FileSystemEventHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
        self._loop = loop
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own reading
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(_UNFINISHED):
                yield entry


def _append(drops: dict[str, list[Drop]], path: Path, *, name: str, version: int | None) -> None:
    """A file that goes while it is looked at was never there."""
    own = _stamp(path)
    if own is not None:
        sidecars = [stamp for sidecar in sidecar_paths(path) if (stamp := _stamp(sidecar))]
        drops.setdefault(name, []).append(Drop(name, path, version, (own, *sidecars)))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
