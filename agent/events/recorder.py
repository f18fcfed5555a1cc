"""EventRecorder: makes events of the stable states of the views, each with its best frame."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from agent.errors import ImageError
from agent.event import Event
from agent.host.clock import Clock
from agent.listeners import Listener
from agent.ulid import ulid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.classification import Result, Spot, StableState
    from agent.event import EventType
    from agent.listeners import Best, Picture
    from agent.status import CameraStatus

_UPDATE_EVERY_S = 5.0
_STORE_EVERY_S = 300.0  # so exactly is the end of an event known after a crash
_LOST_AFTER_S = 60.0
_CLEARLY_BETTER = 0.05  # of a score; so an event has at most 20 best frames
_FRAME_SIDE = 480  # pixels
_CLOSE_S = 0.5


class Store(Protocol):
    async def open(self) -> Sequence[Event]: ...
    def put(self, event: Event, jpeg: bytes | None = None) -> None: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class _View:
    """`label` is that of its stable state, `since_ns` its begin until its event has begun. Times are monotonic."""

    label: str | None
    since_ns: int | None
    seen_ns: int
    event: _Open | None = None


@dataclass(slots=True)
class _Open:
    """An event that has not ended, or whose end was not announced yet."""

    spot: Spot
    label: str
    began_ns: int
    best: Result
    score: float
    jpeg: bytes | None = None
    has_frame: bool = False
    is_better: bool = False  # than what was announced
    ended_ns: int | None = None
    encoding: asyncio.Task[None] | None = None
    kind: EventType | None = None  # what was announced last
    announced_s: float = 0.0
    stored_s: float = 0.0
    started_ns: int = field(init=False)  # Unix time
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.started_ns = _whole_ms(Clock.unix_ns(self.began_ns))
        self.id = ulid(self.started_ns)

    def as_event(self, kind: EventType, *, seen_ns: int) -> Event:
        """A clock that is set meanwhile changes no duration. All times are as exact as in the store."""
        lasted_ns = _whole_ms(max(0, seen_ns - self.began_ns))
        started_ns, best = self.started_ns, self.best.to_json()
        return Event(self.id, kind, self.spot, self.label, started_ns, started_ns + lasted_ns, best, self.has_frame)


class EventRecorder(Listener):
    """An event begins with a label of a view's stable state and ends with another one, or when the view has an end.

    A view has one if its camera is switched off, ends, is removed, is lost or frozen for a minute, or if the agent
    stops. On the event loop's thread; only start() and close() wait.
    """

    def __init__(
        self,
        store: Store,
        *,
        listener: Listener,
        frames: bool = True,
        update_every_s: float = _UPDATE_EVERY_S,
        lost_after_s: float = _LOST_AFTER_S,
    ) -> None:
        """`listener` gets the events; without `frames`, they have no best frame."""
        self._store = store
        self._listener = listener
        self._has_frames = frames
        self._update_every_s = update_every_s
        self._lost_after_s = lost_after_s
        self._views: dict[Spot, _View] = {}
        self._configured: set[Spot] = set()
        self._off: set[str] = set()
        self._lost: dict[str, asyncio.TimerHandle] = {}
        self._encoding: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Ends the events that were open when the agent was killed."""
        for event in await self._store.open():
            self._listener.event(event)

    async def close(self) -> None:
        for timer in self._lost.values():
            timer.cancel()
        self.cameras_configured({})  # a frame in flight begins no event that would not end
        if self._encoding:
            await asyncio.wait(self._encoding, timeout=_CLOSE_S)
        await self._store.close()

    def state_changed(self, spot: Spot, state: StableState) -> None:
        if spot not in self._configured or spot.camera in self._off:  # the last frame of a camera that was closed
            return
        since_ns = _monotonic_ns(state.since_ns)
        view = self._views.get(spot)
        if view is not None and view.label == state.label:
            return  # of another version of the model
        if view is not None:
            self._end(view, since_ns)
        self._views[spot] = _View(state.label, since_ns, since_ns)

    def looked(self, result: Result, best: Best, picture: Picture) -> None:  # noqa: ARG002  (Listener's)
        view = self._views.get(result.spot)
        if view is None or view.label is None:
            return
        view.seen_ns = _monotonic_ns(result.captured_ns)
        categories = result.classification.categories
        score = next((each.score for each in categories if each.label == view.label), 0.0)
        if view.event is None:
            is_shown = bool(categories) and categories[0].label == view.label
            if view.since_ns is None and (not is_shown or result.source in self._lost):
                return  # the camera was lost, and may show something else now, or still sends the same picture
            began_ns = view.seen_ns if view.since_ns is None else view.since_ns
            view.since_ns = None
            view.event = _Open(result.spot, view.label, began_ns, result, score)
            self._keep(view, view.event, result, score, picture)
        elif view.event.encoding is None and score >= view.event.score + _CLEARLY_BETTER:
            self._keep(view, view.event, result, score, picture)
        else:
            self._announce(view, view.event)

    def skipped(self, spot: Spot) -> None:
        """The view still shows what it showed at the last look."""
        if (view := self._views.get(spot)) is not None:
            view.seen_ns = time.monotonic_ns()

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        is_lost = status.state in ("lost", "frozen")
        if not is_lost and (timer := self._lost.pop(camera, None)) is not None:
            timer.cancel()
        if is_lost and camera not in self._lost:
            loop = asyncio.get_running_loop()
            self._lost[camera] = loop.call_later(self._lost_after_s, self._end_of_lost, camera)
        (self._off.add if status.state in ("disabled", "ended") else self._off.discard)(camera)
        if status.state in ("disabled", "ended", "starting"):  # what shows its state again begins with a new one
            self._forget([spot for spot in self._views if spot.camera == camera])

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        self._configured = {spot for of_camera in spots.values() for spot in of_camera}
        self._off.intersection_update(spots)
        self._forget([spot for spot in self._views if spot not in self._configured])

    def _end_of_lost(self, camera: str) -> None:
        """Keeps the state: a camera that comes back and shows the same label does not announce it again."""
        self._end_views([spot for spot in self._views if spot.camera == camera])

    def _forget(self, spots: Sequence[Spot]) -> None:
        self._end_views(spots)
        for spot in spots:
            del self._views[spot]

    def _end_views(self, spots: Sequence[Spot]) -> None:
        for spot in spots:
            self._end(self._views[spot], self._views[spot].seen_ns)

    def _end(self, view: _View, ended_ns: int) -> None:
        view.since_ns, event = None, view.event
        if event is not None:
            view.event, event.ended_ns = None, ended_ns
            self._announce(view, event)

    def _keep(self, view: _View, event: _Open, result: Result, score: float, picture: Picture) -> None:
        """Makes it the best frame, once it is encoded: a reader must not find one of another Result."""
        if not self._has_frames:
            event.best, event.score, event.is_better = result, score, True
            self._announce(view, event)
            return
        encoding = asyncio.get_running_loop().create_task(self._encode(view, event, result, score, picture))
        event.encoding = encoding
        self._encoding.add(encoding)
        encoding.add_done_callback(self._encoding.discard)

    async def _encode(self, view: _View, event: _Open, result: Result, score: float, picture: Picture) -> None:
        try:
            jpeg = await asyncio.to_thread(picture, _FRAME_SIDE)
        except ImageError:  # the model saw a smaller decoding of a damaged picture
            return
        else:
            event.best, event.score, event.is_better = result, score, True
            event.jpeg, event.has_frame = jpeg, True
        finally:
            event.encoding = None
            self._announce(view, event)

    def _announce(self, view: _View, event: _Open) -> None:
        """Everything about the event that is due, in its order."""
        if event.encoding is not None:
            return
        now_s = time.monotonic()
        if event.kind is None:
            self._say(event, "begin", view.seen_ns)
        elif event.ended_ns is None and event.is_better and now_s >= event.announced_s + self._update_every_s:
            self._say(event, "update", view.seen_ns)
        elif event.ended_ns is None and now_s >= event.stored_s + _STORE_EVERY_S:
            self._store_now(event, event.kind, view.seen_ns)
        if event.ended_ns is not None:
            self._say(event, "end", event.ended_ns)

    def _say(self, event: _Open, kind: EventType, seen_ns: int) -> None:
        event.kind, event.announced_s, event.is_better = kind, time.monotonic(), False
        self._listener.event(self._store_now(event, kind, seen_ns))

    def _store_now(self, event: _Open, kind: EventType, seen_ns: int) -> Event:
        said = event.as_event(kind, seen_ns=seen_ns)
        self._store.put(said, event.jpeg)
        event.jpeg, event.stored_s = None, time.monotonic()
        return said


def _whole_ms(nanoseconds: int) -> int:
    return nanoseconds // 1_000_000 * 1_000_000


def _monotonic_ns(unix_ns: int) -> int:
    return time.monotonic_ns() - (time.time_ns() - unix_ns)
