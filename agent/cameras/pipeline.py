"""Pipeline: one camera's loop: read a frame, classify it, publish the result."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from agent.classification import Category, StableState
from agent.errors import ModelError, ModelNotFoundError

if TYPE_CHECKING:
    from agent.classification import Classification, ModelIdentity, Result, ResultLog
    from agent.image import Frame
    from agent.inference.engine import View

_SNAPSHOT_SIDE = 1280


class Source(Protocol):
    async def read(self) -> Frame | None: ...


class Engine(Protocol):
    async def classify_frame(self, frame: Frame, view: View, *, source: str) -> Classification: ...


class Publisher(Protocol):
    def publish_result(self, result: Result, *, camera: bool) -> None: ...
    def publish_state(self, camera: str, state: StableState) -> None: ...
    def publish_snapshot(self, camera: str, jpeg: bytes) -> None: ...


class Pipeline:
    """At most one frame in flight, so no queue can grow; a camera whose model is missing waits for it.

    `max_fps` None leaves the pace to the source. `snapshots`: a picture is published with each new state.
    """

    def __init__(
        self,
        *,
        camera: str,
        source: Source,
        engine: Engine,
        publisher: Publisher,
        results: ResultLog,
        view: View,
        max_fps: float | None,
        stable_frames: int,
        snapshots: bool = False,
    ) -> None:
        self.camera = camera
        self._source = source
        self._engine = engine
        self._publisher = publisher
        self._results = results
        self._view = view
        self._period_s = 1 / max_fps if max_fps else 0.0
        self._stable = StableLabel(frames=stable_frames)
        self._snapshots = snapshots
        self.trouble: str | None = None
        self.last_frame_ns: int | None = None
        self.last_read_s = time.monotonic()

    async def run(self) -> None:
        """Until the source ends or is closed."""
        due_s = time.monotonic()
        while (frame := await self._source.read()) is not None:
            self.last_frame_ns = frame.captured_ns
            self.last_read_s = time.monotonic()
            await self._classify(frame)
            # Waiting before the read, not after it, keeps what is classified the newest.
            due_s = max(due_s + self._period_s, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())

    async def _classify(self, frame: Frame) -> None:
        try:
            classification = await self._engine.classify_frame(frame, self._view, source=self.camera)
        except (ModelNotFoundError, ModelError) as error:
            self.trouble = str(error)
            return
        self.trouble = None
        result = self._results.record(classification, source=self.camera, captured_ns=frame.captured_ns)
        self._publisher.publish_result(result, camera=True)
        state = self._stable.observe(classification, frame.captured_ns)
        if state is not None:
            self._publisher.publish_state(self.camera, state)
            if self._snapshots:
                self._publisher.publish_snapshot(self.camera, await asyncio.to_thread(self._snapshot, frame))

    def _snapshot(self, frame: Frame) -> bytes:
        """What the model saw, before it was made smaller for it."""
        return frame.image.crop(self._view.region).rotate(self._view.rotate).to_jpeg(max_side=_SNAPSHOT_SIDE)


class StableLabel:
    """Tells a label that holds from one that flickers: a change counts once it held for `frames` in a row.

    The same label from another version is a new state, too: the state names its model.
    """

    def __init__(self, *, frames: int) -> None:
        self._frames = frames
        self._published: tuple[str | None, ModelIdentity] | None = None
        self._label: str | None = None
        self._since_ns = 0
        self._count = 0

    def observe(self, classification: Classification, captured_ns: int) -> StableState | None:
        """The new state when this frame makes it stable, else None; no category counts as the label None."""
        best: Category | None = next(iter(classification.categories), None)
        label = best.label if best else None
        if self._count == 0 or label != self._label:
            self._label, self._since_ns, self._count = label, captured_ns, 0
        self._count += 1
        state = label, classification.model
        if self._count < self._frames or self._published == state:
            return None
        self._published = state
        return StableState(label, best.score if best else None, self._since_ns, classification.model)
