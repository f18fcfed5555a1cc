"""Folder watch: reports when something in a folder may have changed."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from typing import TYPE_CHECKING

import anyio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

# A folder that appears while its parent is being listed is watched twice, which has no effect.
warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning, "watchdog")


class FolderWatch:
    """Sets an event when something below `path` changes. Events are only hints; the folder must be listed again.

    If the file system sends no events (NFS, SMB, some bind mounts) or the folder was replaced, the timeout of wait()
    takes their place.
    """

    def __init__(
        self,
        path: Path,
        changed: asyncio.Event,
        *,
        has_name: Callable[[str], bool] | None = None,
        make_observer: Callable[[], BaseObserver] = Observer,
    ) -> None:
        """Needs the running loop. Other code may set `changed` too, which ends wait().

        With `has_name`, only files directly in the folder whose names it accepts count.
        """
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._has_name = has_name
        self._make_observer = make_observer
        self._closed = False
        self._observer: BaseObserver | None = None  # wait() starts it in a thread: a dead file server blocks stat()
        self._watched: tuple[int, int] | None = None  # device and inode
        self._without_events: tuple[int, int] | None = None

    async def wait(self, timeout_s: float) -> None:
        """Returns at the first change since the previous call, or after `timeout_s`; the first call returns at once."""
        if await asyncio.to_thread(self._watch_current_folder):
            return  # the new watch does not know about earlier changes
        with anyio.move_on_after(timeout_s):  # before Python 3.12, asyncio.wait_for() may swallow a cancellation
            await self._changed.wait()
            self._changed.clear()

    def close(self) -> None:
        """The thread of a canceled wait() may still be running; it stops the observer that it starts."""
        self._closed = True
        self._end_observer()

    def _end_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _watch_current_folder(self) -> bool:
        """Returns whether a new watch was started: a folder that was deleted and created again needs one."""
        try:
            status = self._path.stat()
        except OSError:
            self._watched = self._without_events = None  # its replacement may get the same inode
            return False
        folder = status.st_dev, status.st_ino
        if folder == self._without_events or (folder == self._watched and self._is_alive()):
            return False
        self._end_observer()
        observer = self._observer = self._started_observer()
        self._watched, self._without_events = folder, folder if observer is None else None
        if self._closed:
            self._end_observer()
        return observer is not None

    def _started_observer(self) -> BaseObserver | None:
        """None if no inotify watches are left; the periodic rescan remains."""
        observer = None
        try:
            observer = self._make_observer()
            observer.daemon = True
            waker = _Waker(self._loop, self._changed, self._has_name)
            observer.schedule(waker, str(self._path), recursive=self._has_name is None)
            observer.start()
        except OSError as error:
            if observer is not None:
                observer.stop()  # it holds descriptors and a thread although it never started
            log.warning("%s is only checked every few seconds: it sends no events (%s).", self._path, error.strerror)
            return None
        return observer

    def _is_alive(self) -> bool:
        """The watch ends with the folder, and the next folder may get the same inode."""
        observer = self._observer
        return observer is not None and all(emitter.is_alive() for emitter in observer.emitters)


class _Waker(FileSystemEventHandler):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, changed: asyncio.Event, has_name: Callable[[str], bool] | None
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._has_name = has_name

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return  # caused by our own reads
        names = [os.fsdecode(path).rpartition("/")[2] for path in (event.src_path, event.dest_path)]
        if self._has_name is not None and not any(map(self._has_name, names)):
            return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)
