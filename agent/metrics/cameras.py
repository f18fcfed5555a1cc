"""Cameras: the state of each camera, how often it was lost, and its last frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agent.listeners import Listener
from agent.status import CameraState, HealthState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.classification import Spot
    from agent.status import CameraHealth, CameraStatus


class CameraMetrics(Listener):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._states: dict[str, CameraState] = {}
        self._reconnects = Counter(
            "edge_agent_camera_reconnects", "How often the camera was lost.", ("camera",), registry=registry
        )
        self._state = Gauge(
            "edge_agent_camera_state",
            f"1 for the current state of the camera ({', '.join(get_args(CameraState))}).",
            ("camera", "state"),
            registry=registry,
        )

        self._skipped = Counter(
            "edge_agent_motion_skipped",
            "Frames that were not classified because the view had not changed; `view` is empty for the only view of a "
            "camera.",
            ("camera", "view"),
            registry=registry,
        )
        self._spots: set[Spot] = set()
        self._health = Gauge(
            "edge_agent_camera_health",
            f"1 for what the pictures of a live camera say about it ({', '.join(get_args(HealthState))}).",
            ("camera", "health"),
            registry=registry,
        )
        self._judged: set[str] = set()

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        for camera in spots:
            self._reconnects.labels(camera)  # Prometheus sees no increase in a counter that starts at 1
        before, self._spots = self._spots, {spot for of_camera in spots.values() for spot in of_camera}
        for spot in self._spots:
            self._skipped.labels(spot.camera, spot.view or "")
        for spot in before - self._spots:
            self._skipped.remove(spot.camera, spot.view or "")
        for camera in self._states.keys() - spots.keys():
            del self._states[camera]
            self._reconnects.remove(camera)
            for state in get_args(CameraState):
                self._state.remove(camera, state)
            self.camera_health_changed(camera, None)

    def skipped(self, spot: Spot) -> None:
        self._skipped.labels(spot.camera, spot.view or "").inc()

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        if status.state == "lost" != self._states.get(camera):  # `lost` is announced again with each new reason
            self._reconnects.labels(camera).inc()
        self._states[camera] = status.state
        for state in get_args(CameraState):
            self._state.labels(camera, state).set(state == status.state)

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        if health is not None:
            self._judged.add(camera)
            for state in get_args(HealthState):
                self._health.labels(camera, state).set(state == health.state)
        elif camera in self._judged:
            self._judged.remove(camera)
            for state in get_args(HealthState):
                self._health.remove(camera, state)


class LastFrames(Collector):
    """Reads the time of each camera's last frame at every scrape."""

    def __init__(self, last_frames_s: Callable[[], Mapping[str, float]]) -> None:
        self._last_frames_s = last_frames_s

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "edge_agent_camera_last_frame_timestamp_seconds",
            "Unix time of the camera's last frame; 0 before the first.",
            labels=("camera",),
        )
        for camera, unix_s in self._last_frames_s().items():
            family.add_metric((camera,), unix_s)
        yield family
