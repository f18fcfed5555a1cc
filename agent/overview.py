"""Overview: the newest of everything that a person looks at, and what changed since; for the page."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from agent.classification import iso_time
from agent.host.clock import Clock
from agent.listeners import Listener
from agent.metrics.stats import Stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.classification import Result, Spot, StableState
    from agent.event import Event
    from agent.status import CameraHealth, CameraStatus, ModelStatus, ProfileStatus

Json: TypeAlias = dict[str, Any]
Watcher: TypeAlias = Callable[[str, Json | None], None]

_MAX_STATES = 200
_BEAT_S = 0.2  # at most five results of each camera per second
_BEATS_PER_SECOND = 5


class Cameras(Protocol):
    @property
    def statuses(self) -> Mapping[str, CameraStatus]: ...
    def has_picture(self, name: str) -> bool: ...


class Models(Protocol):
    @property
    def statuses(self) -> Sequence[ModelStatus]: ...


class Health(Protocol):
    def why_not_ready(self) -> Sequence[str]: ...
    def warnings(self) -> Sequence[str]: ...
    def mqtt(self) -> Json | None: ...


class Overview(Listener):
    """Keeps references only; documents, statistics and a timer exist only while somebody watches. Loop's thread."""

    def __init__(
        self,
        device: Json,
        *,
        view_models: Callable[[], Mapping[Spot, str | None]],
        cameras: Cameras,
        models: Models,
        health: Health,
        records_events: bool = False,
    ) -> None:
        """`device` is shown with the times; `view_models` returns the configured model of each view."""
        self._device = device
        self._view_models = view_models
        self._cameras = cameras
        self._models = models
        self._health = health
        self._records_events = records_events
        self._started_ns = time.monotonic_ns()
        self._profile: Json | None = None
        self._results: dict[Spot, Result] = {}
        self._states: dict[Spot, Json] = {}
        self._camera_healths: dict[str, CameraHealth | None] = {}
        self._timeline: deque[Json] = deque(maxlen=_MAX_STATES)
        self._watcher: Watcher | None = None
        self._stats: Stats | None = None
        self._last_stats: Json | None = None
        self._shown: dict[str, Json | None] = {}
        self._unseen: set[Spot] = set()  # views with a result that the watcher has not got
        self._beats = 0

    def status(self) -> Json:
        """The document of GET /api/status."""
        return {
            "device": {
                **self._device,
                "started_at": iso_time(Clock.unix_ns(self._started_ns)),
                "at": iso_time(time.time_ns()),
            },
            "cameras": self.cameras(),
            "profile": self._profile,
            "models": [status.to_json() for status in self._models.statuses],
            "mqtt": self._health.mqtt(),
            "stats": self._last_stats,
            "timeline": list(self._timeline),
            "records_events": self._records_events,
            **self._health_now(),
        }

    def cameras(self) -> list[Json]:
        return [self._camera(name, self._result) for name in self._cameras.statuses]

    def watch(self, watcher: Watcher | None) -> None:
        """Calls `watcher` with the name and the document of each event from now on; None ends that.

        The events are those of GET /api/live.
        """
        is_new = self._watcher is None
        self._watcher = watcher
        if watcher is None:
            self._stats = self._last_stats = None
            self._unseen.clear()
        elif is_new:
            self._stats = Stats(started_s=self._started_ns / 1e9)
            self._stats.cameras_configured(self._spots())
            self._shown = {"mqtt": self._health.mqtt(), "health": self._health_now()}
            self._beats = 0
            asyncio.get_running_loop().call_later(_BEAT_S, self._beat, self._stats)

    def classified(self, result: Result) -> None:
        if result.source in self._cameras.statuses:
            self._results[result.spot] = result
            self._unseen.add(result.spot)
        if self._stats is not None:
            self._stats.classified(result)

    def skipped(self, spot: Spot) -> None:
        if self._stats is not None:
            self._stats.skipped(spot)

    def state_changed(self, spot: Spot, state: StableState) -> None:
        """Its `class_id` is in the newest result of the view: that made the state stable."""
        best = next(iter(self._results[spot].classification.categories), None) if spot in self._results else None
        before = self._states.get(spot)
        document = {
            "camera": spot.camera,
            **({} if spot.view is None else {"view": spot.view}),
            **state.to_json(),
            "class_id": best.index if best and best.label == state.label else None,
            "previous": before and before["label"],
        }
        self._states[spot] = document
        self._timeline.append(document)
        self._send("state", document)

    def event(self, event: Event) -> None:
        if self._watcher is not None:
            self._send("event", event.to_json())

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        configured = {spot for of_camera in spots.values() for spot in of_camera}
        self._unseen.intersection_update(configured)
        for known in (self._results, self._states):
            for spot in known.keys() - configured:
                del known[spot]
        for camera in self._camera_healths.keys() - spots.keys():
            del self._camera_healths[camera]
        if self._stats is not None:
            self._stats.cameras_configured(spots)
            self._send("status", self.status())

    def camera_changed(self, camera: str, status: CameraStatus) -> None:  # noqa: ARG002  (Listener's)
        if self._watcher is not None:
            self._send("camera", self._camera(camera))

    def profile_changed(self, status: ProfileStatus) -> None:
        self._profile = status.to_json() if status.names else None
        self._send("profile", self._profile)

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        self._camera_healths[camera] = health
        if self._watcher is not None and camera in self._cameras.statuses:
            self._send("camera", self._camera(camera))

    def model_changed(self, status: ModelStatus) -> None:
        if self._watcher is not None:
            self._send("model", status.to_json())

    def _beat(self, stats: Stats) -> None:
        """Ends with the watcher for which it began."""
        if self._stats is not stats:
            return
        asyncio.get_running_loop().call_later(_BEAT_S, self._beat, stats)
        for spot in self._unseen:
            self._send("result", self._result(spot))
        self._unseen.clear()
        self._beats += 1
        if self._beats % _BEATS_PER_SECOND == 0:
            self._last_stats = stats.report()
            self._send("stats", self._last_stats)
            self._show("mqtt", self._health.mqtt())
            self._show("health", self._health_now())

    def _show(self, event: str, document: Json | None) -> None:
        if document != self._shown[event]:
            self._shown[event] = document
            self._send(event, document)

    def _send(self, event: str, document: Json | None) -> None:
        if self._watcher is not None:
            self._watcher(event, document)

    def _camera(self, name: str, result: Callable[[Spot], Json | None] | None = None) -> Json:
        """With the newest results if `result` gives them: they are events of their own."""
        status, health = self._cameras.statuses[name], self._camera_healths.get(name)
        return {
            "name": name,
            "state": status.state,
            "reason": status.reason,
            "enabled": status.is_enabled,
            "health": health and health.to_json(),
            "has_picture": self._cameras.has_picture(name),
            **self._views(name, result),
        }

    def _views(self, camera: str, result: Callable[[Spot], Json | None] | None) -> Json:
        """The view of the camera, or `views` with each that has a name."""
        views: dict[str | None, Json] = {
            spot.view: {
                "model": model,
                "stable": self._states.get(spot),
                **({} if result is None else {"result": result(spot)}),
            }
            for spot, model in self._view_models().items()
            if spot.camera == camera
        }
        if None in views:
            return views[None]
        return {"views": [{"name": name, **view} for name, view in views.items()]}

    def _spots(self) -> dict[str, list[Spot]]:
        spots: dict[str, list[Spot]] = {}
        for spot in self._view_models():
            spots.setdefault(spot.camera, []).append(spot)
        return spots

    def _result(self, spot: Spot) -> Json | None:
        result = self._results.get(spot)
        return None if result is None else result.to_json()

    def _health_now(self) -> Json:
        reasons = list(self._health.why_not_ready())
        return {"ready": not reasons, "reasons": reasons, "warnings": list(self._health.warnings())}
