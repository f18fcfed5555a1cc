"""View: one part of a camera's picture, with its own model, state and pictures."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from agent.classification import Result
from agent.errors import AgentError, BusyError, ImageError, ModelError, ModelNotFoundError

if TYPE_CHECKING:
    from agent.cameras.motion import MotionGate
    from agent.cameras.state import StableLabel
    from agent.classification import Category, Spot
    from agent.frame import Frame
    from agent.inference.options import Options
    from agent.listeners import Listener
    from agent.runtimes.scores import Scores

Outcome: TypeAlias = Result | AgentError

_SNAPSHOT_SIDE = 1280  # pixels


class Pictures(Protocol):
    def show(self, frame: Frame) -> None: ...


class DataPlane(Protocol):
    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]: ...


class View:
    """A camera without views has one, which has no name.

    With a `gate`, frames that show nothing new are not classified. `snapshots`: each new state is announced with a
    picture.
    """

    def __init__(
        self,
        spot: Spot,
        options: Options,
        *,
        data_plane: DataPlane,
        listener: Listener,
        stable: StableLabel,
        pictures: Pictures,
        gate: MotionGate | None = None,
        snapshots: bool = False,
    ) -> None:
        self.spot = spot
        self._options = options
        self._data_plane = data_plane
        self._listener = listener
        self._stable = stable
        self._pictures = pictures
        self._gate = gate
        self._snapshots = snapshots
        self.trouble: str | None = None
        self._is_closed = False

    def close(self) -> None:
        """Announces nothing any more, also of the frame that it looks at."""
        self._is_closed = True

    def adjust(self, *, score_threshold: float | None, leave_threshold: float | None) -> None:
        """From the next frame on."""
        self._options = replace(self._options, score_threshold=score_threshold)
        self._stable.adjust(score_threshold=score_threshold, leave_threshold=leave_threshold)

    async def look(self, frame: Frame) -> Outcome | None:
        """Classifies its part of the frame, and announces a new state. An error waits as `trouble`, too.

        None if the gate is closed.
        """
        if self._gate is not None and not await self._is_open(self._gate, frame):
            self._pictures.show(frame)
            self._listener.skipped(self.spot)
            return None
        try:
            result, scores = await self._data_plane.classify_frame(frame, self._options, spot=self.spot)
        except (ModelNotFoundError, ImageError, ModelError, BusyError) as error:
            self.trouble = str(error)
            if not isinstance(error, ImageError):
                self._pictures.show(frame)  # a camera can be aimed before its model is there
            return error
        if self._is_closed:
            return result
        self._pictures.show(frame)
        self.trouble = None
        state = self._stable.observe(
            result.classification, scores, captured_ns=frame.captured_ns, unix_ns=result.captured_ns
        )
        if self._gate is not None:
            self._gate.classified(frame)
        if state is not None:
            self._listener.state_changed(self.spot, state)
        picture = partial(self._picture, frame)
        self._listener.looked(result, partial(_best, result, scores), picture)
        if state is not None and self._snapshots:
            with contextlib.suppress(ImageError):  # the model saw a smaller decoding of a damaged picture
                jpeg = await asyncio.to_thread(picture, _SNAPSHOT_SIDE)
                if not self._is_closed:
                    self._listener.snapshot(self.spot, jpeg)
        return result

    async def _is_open(self, gate: MotionGate, frame: Frame) -> bool:
        """Not by the workers of the engine: a frame that is skipped should not wait for those that are classified."""
        try:
            is_open = await asyncio.to_thread(gate.is_open, frame)
        except ImageError:  # classify_frame() reports it
            return True
        return is_open or not self._stable.is_settled or self.trouble is not None

    def _picture(self, frame: Frame, max_side: int, *, quality: int = 85) -> bytes:
        """What the model classified, before it was scaled down to the model's input."""
        return self._options.framing.of(frame.image()).to_jpeg(max_side=max_side, quality=quality)


def _best(result: Result, scores: Scores) -> Category | None:
    return next(iter(result.classification.categories or scores.best(1)), None)
