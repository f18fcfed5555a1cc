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
    from collections.abc import Collection, Mapping, Sequence

    from agent.classification import Result, StableState
    from agent.status import CameraStatus, ModelStatus

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
        camera_models: Callable[[], Mapping[str, str | None]],
        cameras: Cameras,
        models: Models,
        health: Health,
    ) -> None:
        """`device` is shown with the times; `camera_models` returns the configured model of each camera."""
        self._device = device
        self._camera_models = camera_models
        self._cameras = cameras
        self._models = models
        self._health = health
        self._started_ns = time.monotonic_ns()
        self._results: dict[str, Result] = {}
        self._states: dict[str, Json] = {}
        self._timeline: deque[Json] = deque(maxlen=_MAX_STATES)
        self._watcher: Watcher | None = None
        self._stats: Stats | None = None
        self._last_stats: Json | None = None
        self._shown: dict[str, Json | None] = {}
        self._unseen: set[str] = set()  # cameras with a result that the watcher has not got
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
            "models": [status.to_json() for status in self._models.statuses],
            "mqtt": self._health.mqtt(),
            "stats": self._last_stats,
            "timeline": list(self._timeline),
            **self._health_now(),
        }

    def cameras(self) -> list[Json]:
        return [{**self._camera(name), "result": self._result(name)} for name in self._cameras.statuses]

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
            self._stats.cameras_configured(tuple(self._camera_models()))
            self._shown = {"mqtt": self._health.mqtt(), "health": self._health_now()}
            self._beats = 0
            asyncio.get_running_loop().call_later(_BEAT_S, self._beat, self._stats)

    def classified(self, result: Result) -> None:
        if result.source in self._cameras.statuses:
            self._results[result.source] = result
            self._unseen.add(result.source)
        if self._stats is not None:
            self._stats.classified(result)

    def state_changed(self, camera: str, state: StableState) -> None:
        """Its `class_id` is in the camera's newest result: that made the state stable."""
        best = next(iter(self._results[camera].classification.categories), None) if camera in self._results else None
        before = self._states.get(camera)
        document = {
            "camera": camera,
            **state.to_json(),
            "class_id": best.index if best and best.label == state.label else None,
            "previous": before and before["label"],
        }
        self._states[camera] = document
        self._timeline.append(document)
        self._send("state", document)

    def cameras_configured(self, names: Collection[str]) -> None:
        self._unseen.intersection_update(names)
        for known in (self._results, self._states):
            for camera in known.keys() - set(names):
                del known[camera]
        if self._stats is not None:
            self._stats.cameras_configured(names)
            self._send("status", self.status())

    def camera_changed(self, camera: str, status: CameraStatus) -> None:  # noqa: ARG002  (Listener's)
        if self._watcher is not None:
            self._send("camera", self._camera(camera))

    def model_changed(self, status: ModelStatus) -> None:
        if self._watcher is not None:
            self._send("model", status.to_json())

    def _beat(self, stats: Stats) -> None:
        """Ends with the watcher for which it began."""
        if self._stats is not stats:
            return
        asyncio.get_running_loop().call_later(_BEAT_S, self._beat, stats)
        for camera in self._unseen:
            self._send("result", self._result(camera))
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

    def _camera(self, name: str) -> Json:
        status = self._cameras.statuses[name]
        return {
            "name": name,
            "state": status.state,
            "reason": status.reason,
            "enabled": status.is_enabled,
            "model": self._camera_models()[name],
            "has_picture": self._cameras.has_picture(name),
            "stable": self._states.get(name),
        }

    def _result(self, camera: str) -> Json | None:
        result = self._results.get(camera)
        return None if result is None else result.to_json()

    def _health_now(self) -> Json:
        reasons = list(self._health.why_not_ready())
        return {"ready": not reasons, "reasons": reasons, "warnings": list(self._health.warnings())}
