"""Pipeline: one camera's loop: reads a frame and has each view look at it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agent.cameras.pace import Pace
from agent.errors import ImageError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.cameras.view import Outcome, View
    from agent.frame import Frame, Polygon

_ADJUSTED_WITHIN_S = 1.0  # a slow pace may become a fast one


class Source(Protocol):
    @property
    def has_own_pace(self) -> bool: ...
    async def read(self) -> Frame | None: ...


@runtime_checkable
class Answered(Protocol):
    """A source that must learn what came of each frame, by view, and that may have no frame for any length of time."""

    async def done(self, outcomes: Mapping[str | None, Outcome]) -> None: ...


class FrameWatcher(Protocol):
    """Gets every frame that the views have looked at and that could be decoded. Loop's thread; must not block."""

    def show(self, frame: Frame) -> None: ...


class Pipeline:
    """Has at most one frame in flight, so no queue can grow; a camera whose model is missing waits for it.

    Reads at most `max_fps` frames per second, or half as many while `is_throttled`, unless the source has its own
    pace. The views look one after the other, so that a camera with many takes no more workers than one with one view.
    No view and no watcher gets a frame without its `masks`.
    """

    def __init__(
        self,
        *,
        source: Source,
        views: Sequence[View],
        max_fps: float,
        is_throttled: Callable[[], bool],
        masks: tuple[Polygon, ...] = (),
        watchers: Sequence[FrameWatcher] = (),
    ) -> None:
        self._source = source
        self.views = views
        self.pace = Pace(max_fps=max_fps, is_throttled=is_throttled)
        self._masks = masks
        self._watchers = watchers
        self._smallest_side = 0
        self.last_frame_ns: int | None = None
        self.last_read_s = time.monotonic()
        self.is_idle = False  # it waits for a frame that need not come
        self._is_closed = False

    @property
    def trouble(self) -> str | None:
        """Why a view waits, in a sentence; None if none does."""
        for view in self.views:
            if view.trouble is not None:
                return view.trouble if view.spot.view is None else f"View {view.spot.view}: {view.trouble}"
        return None

    def close(self) -> None:
        """Call it when the camera is switched off or changed: no view looks any more or announces what it sees."""
        self._is_closed = True
        for view in self.views:
            view.close()

    async def run(self) -> None:
        """Runs until the source ends or is closed."""
        due_s = time.monotonic()
        while (frame := await self._read()) is not None:
            self.last_frame_ns = frame.captured_ns
            looks = await self._looks(frame)
            outcomes = {view: outcome for view, outcome in looks.items() if outcome is not None}
            self._smallest_side = frame.asked_side
            if not self._is_closed and not all(isinstance(outcome, ImageError) for outcome in looks.values()):
                for watcher in self._watchers:
                    watcher.show(frame)
            if isinstance(self._source, Answered):
                await self._source.done(outcomes)
                for view in self.views:
                    if not isinstance(outcomes[view.spot.view], ModelNotFoundError):
                        view.trouble = None  # it has its answer, or is tried again
            # Waiting before the read and not after it ensures that the newest frame is classified.
            due_s = await self._next_due_s(due_s)

    async def _looks(self, frame: Frame) -> dict[str | None, Outcome | None]:
        """By view. An image of an inbox needs all of them, even if it is closed meanwhile."""
        looks: dict[str | None, Outcome | None] = {}
        for view in self.views:
            if not self._is_closed or isinstance(self._source, Answered):
                looks[view.spot.view] = await view.look(frame)
        return looks

    async def _next_due_s(self, last_due_s: float) -> float:
        now_s = time.monotonic()
        if self._source.has_own_pace:
            await asyncio.sleep(0)
            return now_s
        while (due_s := self.pace.due_s(last_due_s, now_s)) > now_s:
            await asyncio.sleep(min(due_s - now_s, _ADJUSTED_WITHIN_S))
            now_s = time.monotonic()
        return due_s

    async def _read(self) -> Frame | None:
        self.is_idle = isinstance(self._source, Answered)
        frame = await self._source.read()
        self.last_read_s = time.monotonic()
        self.is_idle = False
        return frame and replace(frame, masks=self._masks, smallest_side=self._smallest_side)
