"""Recordings as sources: a video at its own pace, the images of a folder in the order of their names."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio
import cv2

from agent.errors import ImageError, SourceError
from agent.image import Frame, Image, decode, has_image_name
from agent.sources.backoff import Backoff
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

_USUAL_FPS = 25.0


class _Shot(NamedTuple):
    image: Image
    lasts_s: float  # until the next one is due


class _Recording:
    """Shots given one by one, each decoded in a thread; tried again for as long as there are none.

    To be constructed, read and closed on the event loop's thread, where `on_status` is called too, on a
    change only.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        loop: bool,
        on_status: Callable[[CameraStatus], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._again = loop
        self._on_status = on_status
        self._backoff = backoff or Backoff()
        self._status = CameraStatus("starting")
        self._due_s = -math.inf
        self._closed = asyncio.Event()
        self._shots: Iterator[_Shot] | None = None
        # One thread, so that a cancelled read(), the next one and close() take turns at the open file.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._path.name)

    async def read(self) -> Frame | None:
        """The next frame once it is due; None at the end and once closed. One reader."""
        while not self._closed.is_set():
            try:
                shot = await asyncio.get_running_loop().run_in_executor(self._worker, self._next_shot)
            except SourceError as trouble:
                self._report(CameraStatus("lost", str(trouble)))
                await self._wait(self._backoff.next_s())
                continue
            if shot is None:
                self._report(CameraStatus("ended"))
                return None
            self._backoff.reset()
            self._report(CameraStatus("online"))
            await self._wait(self._lead_s(shot.lasts_s))
            if not self._closed.is_set():
                return Frame(shot.image, time.time_ns())
        return None

    def close(self) -> None:
        """Wakes read(); the file is closed after the decoding in progress."""
        if not self._closed.is_set():
            self._closed.set()
            self._worker.submit(self._let_go)
            self._worker.shutdown(wait=False)

    def _open(self) -> Iterator[_Shot]:
        """Gives at least one shot or raises SourceError; runs in the worker thread, as all of it does."""
        raise NotImplementedError

    def _next_shot(self) -> _Shot | None:
        if self._shots is None:
            self._shots = self._open()
        try:
            shot = next(self._shots, None)
            if shot is None and self._again:
                self._shots = self._open()
                shot = next(self._shots)
        except SourceError:
            self._shots = None
            raise
        return shot

    def _let_go(self) -> None:
        self._shots = None  # the generator's `finally` runs

    def _lead_s(self, lasts_s: float) -> float:
        """Seconds until the shot at hand is due, and sets when the next one is.

        Counted from the time when the last one was due, so that nothing drifts. A reader more than one shot
        behind moves the whole timetable instead of being flooded with what it missed.
        """
        now_s = time.monotonic()
        if now_s - self._due_s > lasts_s:
            self._due_s = now_s
        lead_s = self._due_s - now_s
        self._due_s += lasts_s
        return lead_s

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with anyio.move_on_after(seconds):
                await self._closed.wait()

    def _report(self, status: CameraStatus) -> None:
        if status != self._status and not self._closed.is_set():
            self._status = status
            self._on_status(status)


class VideoFile(_Recording):
    """Every frame of a video, none before its time and none left out; slower if the reader is."""

    def _open(self) -> Iterator[_Shot]:
        if not os.access(self._path, os.R_OK) or not self._path.is_file():
            raise SourceError(_why_not(self._path, "file"))
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        try:
            fps = capture.get(cv2.CAP_PROP_FPS)
            lasts_s = 1 / (fps if 0 < fps <= 240 else _USUAL_FPS)
            decoded, pixels = capture.read()
            if not decoded:
                raise SourceError(f"{self._path} does not decode as a video: replace it, e.g. by an H.264 MP4.")
            while decoded:
                yield _Shot(Image(pixels, "bgr"), lasts_s)
                decoded, pixels = capture.read()
        finally:
            capture.release()


class ImageFolder(_Recording):
    """Every JPEG, PNG, WebP and BMP of a folder by name, as fast as they are read, hidden ones left out.

    The folder is listed anew each time around. One that does not decode is logged once and skipped.
    """

    _skipped: frozenset[Path] = frozenset()

    def _open(self) -> Iterator[_Shot]:
        given = False
        for path in self._listing():
            image = self._read_image(path)
            if image is not None:
                given = True
                yield _Shot(image, 0.0)
        if not given:
            raise SourceError(f"{self._path} holds no image that can be read: put a JPEG, PNG, WebP or BMP there.")

    def _listing(self) -> list[Path]:
        try:
            return sorted(path for path in self._path.iterdir() if has_image_name(path.name))
        except OSError:
            raise SourceError(_why_not(self._path, "folder")) from None

    def _read_image(self, path: Path) -> Image | None:
        try:
            return decode(path.read_bytes())
        except (ImageError, OSError) as error:
            if path not in self._skipped:
                self._skipped |= {path}
                _log.warning("%s is skipped: %s", path, error)
            return None


def _why_not(path: Path, wanted: str) -> str:
    if not os.path.exists(path):  # noqa: PTH110  (Path raises where a folder is closed to us)
        return f"{path} is not found: put it there, or correct the camera's source."
    if not os.access(path, os.R_OK):
        return f"{path} may not be read by this user: change its owner or its permissions."
    return f"{path} is not a {wanted}: correct the camera's source."
