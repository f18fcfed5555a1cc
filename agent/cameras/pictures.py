"""Pictures: what the model of one camera sees, as JPEGs for those who look at it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agent.errors import ImageError

if TYPE_CHECKING:
    from agent.frame import Frame
    from agent.framing import Framing

_MAX_SIDE = 640  # pixels
_PERIOD_S = 0.2
_SHORT_SIDE = 360  # of 640 x 360


class Pictures:
    """Keeps the newest frame; encodes one only when somebody asks, once for all. On the event loop's thread."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._smallest_side = framing.side_of_whole(_SHORT_SIDE)
        self._frame: Frame | None = None
        self._count = 0  # frames shown; also the number of the newest
        self._encoded = (0, b"")
        self._due_s = 0.0
        self._encoding = asyncio.Lock()  # each client that asks meanwhile waits for the same picture
        self._news = asyncio.Event()
        self._is_closed = False

    @property
    def has_one(self) -> bool:
        return self._count > 0

    def show(self, frame: Frame) -> None:
        self._frame = frame
        self._count += 1
        self._news.set()

    def close(self) -> None:
        """Ends the wait of all who look."""
        self._is_closed = True
        self._news.set()

    async def after(self, number: int) -> tuple[int, bytes] | None:
        """The number and the JPEG of a newer frame than `number`, once there is one; None once closed.

        There are at most five per second; those between are left out.
        """
        while not self._is_closed:
            now_s, newest = time.monotonic(), self._encoded[0]
            if newest > number and (newest == self._count or now_s < self._due_s):
                return self._encoded
            if self._count <= number:
                self._news.clear()
                await self._news.wait()
            elif now_s < self._due_s and not self._encoding.locked():
                await asyncio.sleep(self._due_s - now_s)
            else:
                await self._encode()
        return None

    async def _encode(self) -> None:
        async with self._encoding:
            frame, count = self._frame, self._count
            if frame is None or count == self._encoded[0] or time.monotonic() < self._due_s:
                return
            self._due_s = time.monotonic() + _PERIOD_S
            try:
                self._encoded = count, await asyncio.to_thread(self._jpeg, frame)
            except ImageError:  # the camera sent a damaged picture, which no model has seen yet
                return

    def _jpeg(self, frame: Frame) -> bytes:
        return self._framing.of(frame.image(self._smallest_side)).to_jpeg(max_side=_MAX_SIDE)
