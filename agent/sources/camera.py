"""Camera: the newest frame of a V4L2 device, an RTSP or an HTTP stream, which it reconnects until closed."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2

from agent.errors import SourceError
from agent.image import Frame, Image
from agent.sources.backoff import Backoff
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


class Camera:
    """A live source: one capture thread, from construction to close(), keeps only the newest frame.

    `source` is a V4L2 index ("0"), a device's path or a URL. To be constructed, read and closed on the event
    loop's thread, where `on_status` is called too, on a change only. A URL is lost when it is silent for
    `timeout_s` (a V4L2 device after OpenCV's 10 s); any source is frozen when it is open and silent for
    `stall_s`.
    """

    def __init__(
        self,
        source: str,
        *,
        on_status: Callable[[CameraStatus], None],
        timeout_s: float = 4.0,
        stall_s: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._input = _Stream(source, timeout_s=timeout_s) if "://" in source else _Device(source)
        self._on_status = on_status
        self._stall_s = stall_s
        self._backoff = backoff or Backoff()
        self._status = CameraStatus("starting")
        self._waiting: asyncio.Future[Frame | None] | None = None
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._let_go = asyncio.Event()
        self._bug: Exception | None = None
        # When the open capture last gave something, by time.monotonic(); written by the thread alone.
        self._alive_s: float | None = None
        self._timer = self._loop.call_later(stall_s / 4, self._watch)
        # No daemon: one that comes back from OpenCV while Python shuts down aborts the process (SIGABRT), so
        # the process waits for it, at most for as long as OpenCV may block.
        threading.Thread(target=self._run, name=f"camera {self._input.name}", daemon=False).start()

    async def read(self) -> Frame | None:
        """The next frame that the camera gives, however long that takes; None once closed. One reader."""
        if self._bug is not None:
            raise self._bug
        if self._closed.is_set():
            return None
        self._waiting = self._loop.create_future()
        self._wanted.set()
        return await self._waiting

    def close(self) -> None:
        """Wakes read() at once; the thread lets go of the camera as soon as OpenCV gives it back."""
        self._closed.set()
        self._timer.cancel()
        self._answer(None)

    async def wait_closed(self) -> None:
        """After close(), until the thread has let go of the camera."""
        await self._let_go.wait()

    def _run(self) -> None:
        try:
            while not self._over():
                self._connect()
        except Exception as bug:  # noqa: BLE001  (not expected trouble: read() raises it and ends the process)
            self._post(self._fail, bug)
        finally:
            self._post(self._let_go.set)

    def _connect(self) -> None:
        try:
            self._follow()
        except SourceError as trouble:
            self._post(self._report, CameraStatus("lost", str(trouble)))
            self._closed.wait(self._backoff.next_s())

    def _follow(self) -> None:
        """One connection, from opening to loss, of which only grab() tells: isOpened() stays True."""
        capture = self._input.open()
        try:
            self._alive_s = time.monotonic()
            self._pump(capture)
        finally:
            self._alive_s = None
            capture.release()
        if not self._over():
            raise SourceError(self._input.explain(opened=True))

    def _pump(self, capture: Any) -> None:
        """Grabs until that fails, and answers a waiting reader.

        Every frame is grabbed, so that the driver's queue never holds an old one, but only those that a
        reader waits for are retrieved. V4L2 decodes (MJPEG, YUYV) in retrieve(), so a frame that nobody
        classifies costs next to nothing; FFmpeg decodes in grab(), as a stream's frames build on one another,
        and saves the conversion to BGR.
        """
        online = False
        while not self._over() and _grab(capture):
            captured_ns = time.time_ns()
            wanted = self._wanted.is_set()
            image = _retrieve(capture) if wanted else None
            if wanted and image is None:
                continue  # a damaged frame is no sign of life
            self._alive_s = time.monotonic()
            if not online:
                online = True
                self._backoff.reset()
                self._post(self._report, CameraStatus("online"))
            if image is not None:
                self._wanted.clear()
                self._post(self._answer, Frame(image, captured_ns))

    def _over(self) -> bool:
        return self._closed.is_set() or self._loop.is_closed()

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: nobody is left to read
            self._closed.set()

    def _answer(self, frame: Frame | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(frame)

    def _fail(self, bug: Exception) -> None:
        self._bug = bug
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(bug)

    def _watch(self) -> None:
        """Looks from outside whether the thread is stuck in OpenCV, and whether it came free again."""
        alive_s = self._alive_s
        if alive_s is not None and time.monotonic() - alive_s > self._stall_s:
            reason = f"{self._input.name} is open but gives no frames: if this lasts, restart the camera."
            self._report(CameraStatus("frozen", reason))
        elif alive_s is not None and self._status.state == "frozen":
            self._report(CameraStatus("online"))
        self._timer = self._loop.call_later(self._stall_s / 4, self._watch)

    def _report(self, status: CameraStatus) -> None:
        if status != self._status and not self._closed.is_set():
            self._status = status
            self._on_status(status)


def why_unreachable(url: str, *, timeout_s: float) -> str | None:
    """A sentence without the password; None where somebody listens there."""
    name = redact(url)
    try:
        where = urlsplit(url)
        port = where.port or _PORTS.get(where.scheme)
        if not where.hostname or port is None:
            return _no_url(name)
        socket.create_connection((where.hostname, port), timeout_s).close()
    except ValueError:  # UnicodeError is one: of a name that no host can have
        return _no_url(name)
    except socket.gaierror:
        return f"{name} is not found: correct the host name, or write its IP address instead."
    except OSError as error:
        return f"{name} does not answer ({error.strerror or error}): check its power, network and port."
    return None


def _no_url(name: str) -> str:
    return f"{name} is not a URL: write it as rtsp://user:password@host:port/path."


def redact(url: str) -> str:
    """The URL without user name, password and query (cameras take passwords there too), fit to be shown."""
    # Up to the last @, as a password may hold @, / and ? unescaped.
    return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url, flags=re.DOTALL), flags=re.DOTALL)


def _grab(capture: Any) -> bool:
    try:
        return bool(capture.grab())
    except cv2.error:
        return False


def _retrieve(capture: Any) -> Image | None:
    try:
        decoded, pixels = capture.retrieve()
    except cv2.error:  # e.g. an empty MJPEG frame of a USB camera
        return None
    if not decoded:
        return None
    return Image(pixels, "bgr" if pixels.ndim == 3 else "gray")


class _Device:
    """A V4L2 device: an index or a path, also a lasting one as under /dev/v4l/by-id."""

    def __init__(self, source: str) -> None:
        self.name = f"/dev/video{source}" if source.isdecimal() else source

    def open(self) -> Any:
        """Raises SourceError; blocks for as long as the driver does."""
        capture = cv2.VideoCapture(self.name, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceError(self.explain(opened=False))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    def explain(self, *, opened: bool) -> str:
        if not os.path.exists(self.name):  # noqa: PTH110  (Path raises where a folder is closed to us)
            return f"{self.name} is not found: plug the camera in, or choose another from `ls /dev/video*`."
        if not os.access(self.name, os.R_OK | os.W_OK):
            return f"{self.name} may not be used: add the user of this program to the group video, and restart."
        if opened:
            return f"{self.name} stopped giving frames: plug it in again, or try another cable or port."
        return (
            f"{self.name} gives no video: stop the program that uses it (`fuser -v {self.name}` names it), "
            "or choose a capture device from `v4l2-ctl --list-devices`."
        )


class _Stream:
    """An RTSP or HTTP stream, read by FFmpeg."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.name = redact(url)
        self._url = url
        self._timeout_s = timeout_s
        # OpenCV reads it at every open. Over UDP, lost packets tear frames, and firewalls drop the stream.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

    def open(self) -> Any:
        """Raises SourceError; blocks for up to twice the timeout, plus what DNS takes."""
        timeout_ms = int(self._timeout_s * 1000)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            raise SourceError(self.explain(opened=False))
        return capture

    def explain(self, *, opened: bool) -> str:
        """Tries a connection of its own, as OpenCV gives no reason."""
        if why := why_unreachable(self._url, timeout_s=self._timeout_s):
            return why
        if opened:
            return f"{self.name} stopped sending frames: if this lasts, restart the camera."
        return f"{self.name} answers but gives no video: check the path, user name and password in its URL."
