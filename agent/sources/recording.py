"""Recording: plays a video, a folder of images or the pictures of a still camera, one shot at a time."""

from __future__ import annotations

import asyncio
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from agent.errors import SourceError
from agent.frame import Frame
from agent.host.backoff import Backoff
from agent.sources.report import Report
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agent.image import Image


_PATIENCE_S = 20.0  # longer than a request to a still camera takes, with its second attempt


class Shot(NamedTuple):
    image: Image
    lasts_s: float  # until the next shot is due


class Footage(Protocol):
    """What a recording plays: a video, a folder of images, or a camera that sends one picture per request."""

    @property
    def name(self) -> str:
        """Names the thread, so without a password."""

    @property
    def has_own_pace(self) -> bool:
        """Whether its shots have a duration, so that the next one must wait."""

    def open(self) -> Iterator[Shot]:
        """Yields the shots from the first; there is at least one. Blocks; raises SourceError."""


class Recording:
    """Decodes each shot in a thread; retries as long as the footage gives none.

    Construct, read and close it on the event loop's thread; `on_status` is called there, only on a change.
    """

    silence_s = 0.0

    def __init__(
        self,
        footage: Footage,
        *,
        loop: bool,
        on_status: Callable[[CameraStatus], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._footage = footage
        self._again = loop
        self._report = Report(on_status)
        self._backoff = backoff or Backoff()
        self._timetable = Timetable()
        self._shots: Iterator[Shot] | None = None
        self._ahead: asyncio.Future[Shot | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._released = asyncio.Event()
        # One thread, so that a canceled read(), the next one and close() use the open file in turn.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=footage.name)
        self.has_own_pace = footage.has_own_pace

    async def read(self) -> Frame | None:
        """The next frame once it is due; None at the end and once closed. One reader."""
        while not self._closed.done():
            try:
                shot = await self._decoded()
            except SourceError as trouble:
                self._report(CameraStatus("lost", str(trouble)))
                await self._wait(self._backoff.next_s())
                continue
            if shot is None:
                self._report(CameraStatus("ended"))
                return None
            self._backoff.reset()
            self._report(CameraStatus("online"))
            await self._wait(self._timetable.lead_s(shot.lasts_s))
            if not self._closed.done():
                return Frame(shot.image, time.monotonic_ns())
        return None

    async def _decoded(self) -> Shot | None:
        """A video is decoded one shot ahead, while the last one is classified; other footage would become old.

        None at the end and once closed.
        """
        decoding, self._ahead = self._ahead or self._decode(), None
        try:
            await self._wait_for(decoding, timeout_s=_PATIENCE_S)
            if not decoding.done():
                reason = f"{self._footage.name} does not answer. If it is on a network drive, check that."
                self._report(CameraStatus("lost", reason))
                await self._wait_for(decoding)
        except asyncio.CancelledError:
            self._ahead = decoding
            raise
        if not decoding.done():
            return None
        shot = decoding.result()
        if self.has_own_pace and shot is not None and not self._closed.done():
            self._ahead = self._decode()
        return shot

    def _decode(self) -> asyncio.Future[Shot | None]:
        decoding = self._loop.run_in_executor(self._worker, self._next_shot)
        decoding.add_done_callback(lambda done: done.cancelled() or done.exception())  # no one may ask, once closed
        return decoding

    def close(self) -> None:
        """Wakes read() at once; the file is closed after the decoding in progress."""
        if not self._closed.done():
            self._closed.set_result(None)
            self._report.end()
            self._worker.submit(self._release)
            self._worker.shutdown(wait=False)

    async def wait_closed(self) -> None:
        """Call it after close(); returns once the thread has closed the file."""
        await self._released.wait()

    def _next_shot(self) -> Shot | None:
        if self._shots is None:
            self._shots = self._footage.open()
        try:
            shot = next(self._shots, None)
            if shot is None and self._again:
                self._shots = self._footage.open()
                shot = next(self._shots)
        except SourceError:
            self._shots = None
            raise
        return shot

    def _release(self) -> None:
        self._shots = None  # the generator's `finally` runs
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            self._loop.call_soon_threadsafe(self._released.set)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.wait((self._closed,), timeout=seconds)

    async def _wait_for(self, decoding: asyncio.Future[Shot | None], timeout_s: float | None = None) -> None:
        await asyncio.wait((decoding, self._closed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


class Timetable:
    """When each shot is due.

    The time is counted from the due time of the previous shot, so it does not drift. If the reader is more than
    one shot late, the whole timetable moves, so that the reader does not get all missed shots at once.
    """

    def __init__(self) -> None:
        self._due_s = -math.inf

    def lead_s(self, lasts_s: float) -> float:
        """Seconds until the current shot is due; the next one is due `lasts_s` after it."""
        now_s = time.monotonic()
        if now_s - self._due_s > lasts_s:
            self._due_s = now_s
        lead_s = self._due_s - now_s
        self._due_s += lasts_s
        return lead_s


def why_unreadable(path: Path, wanted: str) -> str:
    """A sentence about a path that is not a readable `wanted` ("file" or "folder")."""
    if not os.path.exists(path):  # noqa: PTH110  (Path raises for a closed folder)
        return f"{path} does not exist. Put it there, or correct the camera's source."
    if not os.access(path, os.R_OK):
        return f"This user cannot read {path}. Change its owner or permissions."
    return f"{path} is not a {wanted}. Correct the camera's source."
