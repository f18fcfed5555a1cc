"""Pipeline: one camera's loop: reads a frame, classifies it and announces a new state."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agent.cameras.pace import Pace
from agent.cameras.state import StableLabel
from agent.errors import ImageError, ModelError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.classification import Result
    from agent.errors import AgentError
    from agent.image import Frame
    from agent.inference.options import Options
    from agent.listeners import Listener

_SNAPSHOT_SIDE = 1280  # pixels


class Source(Protocol):
    @property
    def has_own_pace(self) -> bool: ...
    async def read(self) -> Frame | None: ...


@runtime_checkable
class Answered(Protocol):
    """A source that must learn what came of each frame, and that may have no frame for any length of time."""

    async def done(self, outcome: Result | AgentError) -> None: ...


class Pictures(Protocol):
    def show(self, frame: Frame) -> None: ...


class DataPlane(Protocol):
    async def classify_frame(self, frame: Frame, options: Options, *, source: str) -> Result: ...


class Pipeline:
    """Has at most one frame in flight, so no queue can grow; a camera whose model is missing waits for it.

    Reads at most `max_fps` frames per second, or half as many while `is_throttled`, unless the source has its own
    pace. `snapshots`: each new state is announced with a picture.
    """

    def __init__(
        self,
        *,
        camera: str,
        source: Source,
        data_plane: DataPlane,
        listener: Listener,
        options: Options,
        max_fps: float,
        stable_frames: int,
        is_throttled: Callable[[], bool],
        pictures: Pictures,
        snapshots: bool = False,
    ) -> None:
        self.camera = camera
        self._source = source
        self._data_plane = data_plane
        self._listener = listener
        self._options = options
        self._pace = Pace(max_fps=max_fps, is_throttled=is_throttled)
        self._stable = StableLabel(frames=stable_frames)
        self._pictures = pictures
        self._snapshots = snapshots
        self.trouble: str | None = None
        self.last_frame_ns: int | None = None
        self.last_read_s = time.monotonic()
        self.is_idle = False  # it waits for a frame that need not come

    async def run(self) -> None:
        """Runs until the source ends or is closed."""
        due_s = time.monotonic()
        while (frame := await self._read()) is not None:
            self.last_frame_ns = frame.captured_ns
            outcome = await self._classify(frame)
            if isinstance(self._source, Answered):
                await self._source.done(outcome)
                if not isinstance(outcome, ModelNotFoundError):
                    self.trouble = None  # it has its answer, or is tried again
            # Waiting before the read and not after it ensures that the newest frame is classified.
            now_s = time.monotonic()
            due_s = now_s if self._source.has_own_pace else self._pace.due_s(due_s, now_s)
            await asyncio.sleep(due_s - now_s)

    async def _read(self) -> Frame | None:
        self.is_idle = isinstance(self._source, Answered)
        frame = await self._source.read()
        self.last_read_s = time.monotonic()
        self.is_idle = False
        return frame

    async def _classify(self, frame: Frame) -> Result | AgentError:
        try:
            result = await self._data_plane.classify_frame(frame, self._options, source=self.camera)
        except (ModelNotFoundError, ImageError, ModelError) as error:
            self.trouble = str(error)
            if not isinstance(error, ImageError):
                self._pictures.show(frame)  # a camera can be aimed before its model is there
            return error
        self._pictures.show(frame)
        self.trouble = None
        state = self._stable.observe(result.classification, result.captured_ns)
        if state is not None:
            self._listener.state_changed(self.camera, state)
            if self._snapshots:
                self._listener.snapshot(self.camera, await asyncio.to_thread(self._snapshot, frame))
        return result

    def _snapshot(self, frame: Frame) -> bytes:
        """The region that the model classified, before it was scaled down to the model's input."""
        return frame.image.crop(self._options.region).rotate(self._options.rotate).to_jpeg(max_side=_SNAPSHOT_SIDE)
