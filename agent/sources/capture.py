"""Capture: the newest frame of a live camera; reconnects until it is closed."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import cv2

from agent.errors import SourceError
from agent.host.backoff import Backoff
from agent.image import Frame, Image
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable


class Input(Protocol):
    """A device or a stream that the capture thread opens."""

    @property
    def name(self) -> str:
        """Shown to users, so without a password."""

    def open(self) -> Any:
        """Returns an OpenCV capture. Blocks for as long as OpenCV does; raises SourceError."""

    def explain(self, *, opened: bool) -> str:
        """A sentence: why it did not open or, if it was `opened`, why it stopped giving frames. Blocks."""


class Capture:
    """A live source: one capture thread, from construction to close(), keeps only the newest frame.

    Construct, read and close it on the event loop's thread; `on_status` is called there, only on a change.
    The source is reported as frozen if it is open but gives no frame for `stall_s`. The waits between attempts
    grow unless a connection has lasted for `proven_s`: a stream that ends after a few frames is not opened in a row.
    """

    has_own_pace = False

    def __init__(
        self,
        camera: Input,
        *,
        on_status: Callable[[CameraStatus], None],
        stall_s: float = 5.0,
        proven_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._input = camera
        self._on_status = on_status
        self._stall_s = stall_s
        self._proven_s = proven_s
        self._backoff = backoff or Backoff()
        self._status = CameraStatus("starting")
        self._waiting: asyncio.Future[Frame | None] | None = None
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._released = asyncio.Event()
        self._bug: Exception | None = None
        # The time.monotonic() of the last frame from the open capture; written only by the thread.
        self._alive_s: float | None = None
        self._timer = self._loop.call_later(stall_s / 4, self._watch)
        # Not a daemon: a daemon thread that returns from OpenCV while Python shuts down aborts the process
        # (SIGABRT). So the process waits for this thread, at most for as long as OpenCV may block.
        threading.Thread(target=self._run, name=f"camera {self._input.name}", daemon=False).start()

    async def read(self) -> Frame | None:
        """Waits without a time limit for the camera's next frame; None once closed. One reader."""
        if self._bug is not None:
            raise self._bug
        if self._closed.is_set():
            return None
        self._waiting = self._loop.create_future()
        self._wanted.set()
        return await self._waiting

    def close(self) -> None:
        """Wakes read() at once; the thread releases the camera as soon as its OpenCV call returns."""
        self._closed.set()
        self._timer.cancel()
        self._answer(None)

    async def wait_closed(self) -> None:
        """Call it after close(); returns once the thread has released the camera."""
        await self._released.wait()

    def _run(self) -> None:
        try:
            while not self._is_closed():
                self._connect()
        except Exception as bug:  # noqa: BLE001  (not an expected error: read() raises it and ends the process)
            self._post(self._fail, bug)
        finally:
            self._post(self._released.set)

    def _connect(self) -> None:
        try:
            self._follow()
        except SourceError as trouble:
            self._post(self._report, CameraStatus("lost", str(trouble)))
            self._closed.wait(self._backoff.next_s())

    def _follow(self) -> None:
        """One connection, from opening to loss. Only a failed grab() shows the loss: isOpened() stays True."""
        capture = self._input.open()
        try:
            self._alive_s = time.monotonic()
            self._pump(capture)
        finally:
            self._alive_s = None
            capture.release()
        if not self._is_closed():
            raise SourceError(self._input.explain(opened=True))

    def _pump(self, capture: Any) -> None:
        """Grabs frames until that fails, and hands one to a waiting reader.

        Every frame is grabbed, so that the driver's queue never holds an old one, but a frame is retrieved only
        if a reader waits for it. V4L2 decodes (MJPEG, YUYV) in retrieve(), so a frame that is not classified
        costs next to nothing. FFmpeg decodes in grab(), since a stream's frames depend on one another, and saves
        only the conversion to BGR.
        """
        since_s: float | None = None
        while not self._is_closed() and _grab(capture):
            captured_ns = time.time_ns()
            wanted = self._wanted.is_set()
            image = _retrieve(capture) if wanted else None
            if wanted and image is None:
                continue  # a damaged frame does not count as a frame
            self._alive_s = time.monotonic()
            if since_s is None:
                since_s = self._alive_s
                self._post(self._report, CameraStatus("online"))
            if image is not None:
                self._wanted.clear()
                self._post(self._answer, Frame(image, captured_ns))
        if since_s is not None and time.monotonic() - since_s >= self._proven_s:
            self._backoff.reset()

    def _is_closed(self) -> bool:
        return self._closed.is_set() or self._loop.is_closed()

    def _post(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed, so no task reads
            self._closed.set()

    def _answer(self, frame: Frame | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(frame)

    def _fail(self, bug: Exception) -> None:
        self._bug = bug
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(bug)

    def _watch(self) -> None:
        """Checks from the event loop whether the thread is stuck in OpenCV, and whether it has recovered."""
        alive_s = self._alive_s
        if alive_s is not None and time.monotonic() - alive_s > self._stall_s:
            reason = f"{self._input.name} is open but gives no frames. If this persists, restart the camera."
            self._report(CameraStatus("frozen", reason))
        elif alive_s is not None and self._status.state == "frozen":
            self._report(CameraStatus("online"))
        self._timer = self._loop.call_later(self._stall_s / 4, self._watch)

    def _report(self, status: CameraStatus) -> None:
        if status != self._status and not self._closed.is_set():
            self._status = status
            self._on_status(status)


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
