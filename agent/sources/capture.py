"""Capture: the newest frame of a live camera; reconnects until it is closed."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from agent.errors import SourceError
from agent.host.backoff import Backoff
from agent.sources.report import Report
from agent.sources.stillness import Stillness
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.frame import Frame
    from agent.sources.feed import Feed, Input

_LOOK_S = 0.25  # how soon the thread sees that the camera was closed
_PERIODS = 3  # without a frame, after which the camera is lost
_LONGEST_S = 60.0  # for the first and the second frame of a camera whose period is not known yet


class Capture:
    """A live source: one thread, from construction to close(), keeps only the newest frame.

    Construct, read and close it on the event loop's thread; `on_status` is called there, only on a change.
    The camera is lost, and opened again, after `stall_s` or three of its own periods without a new frame, whichever
    is longer. Opening it may take `opening_s`. As long as its period is not known, a camera that was too slow gets more
    time in the next attempt. It is frozen while its frames have been identical for `frozen_after_s` (0: never). The
    waits between attempts grow unless a connection has lasted for `proven_s`: a stream that ends after a few frames is
    not opened in a row.
    """

    has_own_pace = False

    def __init__(
        self,
        camera: Input,
        *,
        on_status: Callable[[CameraStatus], None],
        stall_s: float = 5.0,
        opening_s: float = 20.0,
        frozen_after_s: float = 30.0,
        proven_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._input = camera
        self._report = Report(on_status)
        self._stall_s = self._allowed_s = stall_s
        self._opening_s = opening_s
        self._frozen_after_s = frozen_after_s
        self._proven_s = proven_s
        self._backoff = backoff or Backoff()
        self._waiting: asyncio.Future[Frame | None] | None = None
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._released = asyncio.Event()
        self._bug: Exception | None = None
        self._feed: Feed | None = None
        # Not a daemon: the process of a camera must be killed before the interpreter ends.
        threading.Thread(target=self._run, name=f"camera {self._input.name}", daemon=False).start()

    @property
    def silence_s(self) -> float:
        return self._allowed_s

    async def read(self) -> Frame | None:
        """Waits without a time limit for the camera's next frame; None once closed. One reader."""
        if self._bug is not None:
            raise self._bug
        if self._closed.is_set():
            return None
        self._waiting = self._loop.create_future()
        self._wanted.set()
        if (feed := self._feed) is not None:
            feed.want()
        return await self._waiting

    def close(self) -> None:
        """Wakes read() at once; the thread releases the camera soon after."""
        self._closed.set()
        self._report.end()
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
        """One connection, from opening to loss."""
        self._feed = feed = self._input.open()
        since_s = time.monotonic()
        try:
            if self._wanted.is_set():
                feed.want()
            self._pump(feed)
        finally:
            self._feed = None
            feed.close()
            if time.monotonic() - since_s >= self._proven_s:
                self._backoff.reset()

    def _pump(self, feed: Feed) -> None:
        """Returns once closed; raises SourceError when the camera is lost."""
        stillness, alive_s, online, has_period = Stillness(), time.monotonic(), False, False
        while not self._is_closed():
            arrival = feed.read(min(_LOOK_S, self._stall_s / 4))
            now_s = time.monotonic()
            if arrival is None or not arrival.frames:
                if arrival is None and now_s - alive_s > (self._allowed_s if online else self._opening_s):
                    if not has_period:  # it may be slow, and never get as far as its first or second frame
                        self._allow_more(opened=online)
                    raise SourceError(self._input.explain(opened=online))
                continue
            if online:  # a camera of less than one frame per second is given the time for three
                self._allowed_s = max(self._stall_s, _PERIODS * (now_s - alive_s) / arrival.frames)
                has_period = True
            alive_s = now_s
            if arrival.frame is not None:
                self._judge(arrival.frame, stillness)
                self._wanted.clear()
                self._post(self._answer, arrival.frame)
            elif not online:
                self._post(self._report, CameraStatus("online"))
            online = True

    def _allow_more(self, *, opened: bool) -> None:
        if opened:
            self._allowed_s = min(2 * self._allowed_s, max(self._stall_s, _LONGEST_S))
        else:
            self._opening_s = min(2 * self._opening_s, max(self._opening_s, _LONGEST_S))

    def _judge(self, frame: Frame, stillness: Stillness) -> None:
        same_s = stillness.observe(frame.picture, time.monotonic())
        if 0 < self._frozen_after_s <= same_s:
            reason = (
                f"{self._input.name} has sent the same picture for {self._frozen_after_s:.0f} s. Restart the camera. "
                "If its picture is meant to stand still, set health.frozen_after_s to 0."
            )
            self._post(self._report, CameraStatus("frozen", reason))
        else:
            self._post(self._report, CameraStatus("online"))

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
