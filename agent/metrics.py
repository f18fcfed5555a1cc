"""Metrics: what Prometheus scrapes; the names are those of docs/http.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from agent.classification import Classification
from agent.errors import BusyError, ImageError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.classification import ModelIdentity
    from agent.errors import AgentError

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_OUTCOMES = ((BusyError, "busy"), (ImageError, "bad_image"), (ModelNotFoundError, "no_model"))


class Metrics:
    """A registry of its own, so that two services in one process do not share counts. Loop's thread only."""

    def __init__(self, *, version: str, runtime: str, cameras: Iterable[str]) -> None:
        self._registry = registry = CollectorRegistry()
        self._cameras = frozenset(cameras)
        ProcessCollector(registry=registry)
        if _temperature() is not None:
            Gauge("edge_agent_temperature_celsius", "The hottest sensor.", registry=registry).set_function(
                lambda: _temperature() or 0.0
            )
        Gauge("edge_agent_build_info", "Always 1.", ("version", "runtime"), registry=registry).labels(
            version, runtime
        ).set(1)
        self._model_info = Gauge(
            "edge_agent_model_info",
            "1 for each served version.",
            ("model", "version", "sha256"),
            registry=registry,
        )
        self._loads = Counter(
            "edge_agent_model_loads",
            "Files tried, by what came of it.",
            ("model", "result"),
            registry=registry,
        )
        self._duration = Histogram(
            "edge_agent_inference_duration_seconds",
            "Time in a worker.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._inferences = Counter(
            "edge_agent_inferences", "Images asked for.", ("model", "source", "outcome"), registry=registry
        )
        self._predictions = Counter("edge_agent_predictions", "Best labels.", ("model", "label"), registry=registry)
        self._score = Histogram(
            "edge_agent_prediction_score",
            "Scores of the best labels.",
            ("model",),
            buckets=_SCORES,
            registry=registry,
        )
        self._frames = Counter(
            "edge_agent_camera_frames",
            "Frames, by what came of them.",
            ("camera", "result"),
            registry=registry,
        )
        self._reconnects = Counter(
            "edge_agent_camera_reconnects", "Times a camera was lost.", ("camera",), registry=registry
        )
        self._requests = Counter("edge_agent_http_requests", "Requests answered.", ("route", "code"), registry=registry)
        self._last_frame = Gauge(
            "edge_agent_camera_last_frame_timestamp_seconds", "Unix time.", ("camera",), registry=registry
        )

    def observe_inference(self, source: str, model: str | None, outcome: Classification | AgentError) -> None:
        camera = source in self._cameras
        if isinstance(outcome, Classification):
            self._observe_classification(source, outcome)
            word = "ok"
        else:
            word = next((word for kind, word in _OUTCOMES if isinstance(outcome, kind)), "error")
            # A name that a stranger asked for would make a new series a request.
            self._inferences.labels((model or "") if camera else "", source, word).inc()
        if camera:
            self._frames.labels(source, "classified" if word == "ok" else word).inc()

    def _observe_classification(self, source: str, classification: Classification) -> None:
        name, timing = classification.model.name, classification.timing
        self._inferences.labels(name, source, "ok").inc()
        for stage in ("decode", "preprocess", "invoke", "total"):
            self._duration.labels(name, stage).observe(getattr(timing, stage) / 1e3)
        if classification.categories:
            best = classification.categories[0]
            self._predictions.labels(name, best.label).inc()
            self._score.labels(name).observe(best.score)

    def observe_load(self, model: str, result: str) -> None:
        self._loads.labels(model, result).inc()

    def observe_request(self, route: str, code: int) -> None:
        self._requests.labels(route, str(code)).inc()

    def observe_lost_camera(self, camera: str) -> None:
        self._reconnects.labels(camera).inc()

    def set_served(self, identities: Iterable[ModelIdentity]) -> None:
        self._model_info.clear()
        for identity in identities:
            self._model_info.labels(identity.name, str(identity.version), identity.sha256).set(1)

    def watch_last_frame(self, camera: str, unix_s: Callable[[], float]) -> None:
        self._last_frame.labels(camera).set_function(unix_s)

    def watch_mqtt(self, connected: Callable[[], float]) -> None:
        Gauge("edge_agent_mqtt_connected", "1 while connected.", registry=self._registry).set_function(connected)

    def render(self) -> bytes:
        """The text exposition format of Prometheus."""
        return generate_latest(self._registry)


def _temperature() -> float | None:
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    return max((reading.current for readings in sensors.values() for reading in readings), default=None)
