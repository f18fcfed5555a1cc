"""Metrics: what Prometheus scrapes; the names are those of docs/http.md."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from agent.classification import Classification
from agent.errors import BusyError, ImageError, ModelNotFoundError
from agent.host.board import is_throttled, temperature_celsius
from agent.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.classification import ModelIdentity
    from agent.errors import AgentError, ModelError
    from agent.mqtt.session import MqttStatus

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1)
_OUTCOMES = ((BusyError, "busy"), (ImageError, "bad_image"), (ModelNotFoundError, "no_model"))

_ROLLBACK_CAUSES = ("crash", "failures", "nan", "slow", "operator")


class Metrics:
    """A registry of its own, so that two services in one process do not share counts. Loop's thread only."""

    def __init__(self, *, version: str, runtime: str, cameras: Iterable[str]) -> None:
        self._registry = registry = CollectorRegistry()
        self._cameras = frozenset(cameras)
        ProcessCollector(registry=registry)
        if temperature_celsius() is not None:
            Gauge("edge_agent_temperature_celsius", "The hottest sensor.", registry=registry).set_function(
                lambda: temperature_celsius() or 0.0
            )
        if is_throttled() is not None:
            Gauge("edge_agent_throttled", "1 while the board is slowed down.", registry=registry).set_function(
                lambda: float(is_throttled() or False)
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
        self._rejected = Gauge(
            "edge_agent_model_rejected", "1 while a rejection stands.", ("model",), registry=registry
        )
        self._rollbacks = Counter(
            "edge_agent_model_rollbacks", "Versions withdrawn, by what for.", ("model", "cause"), registry=registry
        )
        self._gaps = Counter(
            "edge_agent_model_swap_gap_seconds",
            "Time in which a swap left the model without a version.",
            ("model",),
            registry=registry,
        )
        self._versions = _Versions(registry)
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
        for camera in self._cameras:
            self._reconnects.labels(camera)  # from 0 on: Prometheus sees no increase where a count begins with 1
        self._camera_state = Gauge(
            "edge_agent_camera_state", "1 for the state it is in.", ("camera", "state"), registry=registry
        )
        self._requests = Counter("edge_agent_http_requests", "Requests answered.", ("route", "code"), registry=registry)
        self._in_flight = Gauge(
            "edge_agent_http_requests_in_flight", "Requests not answered yet, this one aside.", registry=registry
        )
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

    def observe_version(self, identity: ModelIdentity, label: str, outcome: Classification | ModelError) -> None:
        """`label` is stable or canary; what a version that serves no longer still answers is not counted."""
        self._versions.observe(identity, label, outcome)

    def observe_load(self, model: str, result: str) -> None:
        self._loads.labels(model, result).inc()

    def observe_rollback(self, model: str, cause: str) -> None:
        """`cause` is crash, failures, nan, slow or operator."""
        self._rollbacks.labels(model, cause).inc()

    def observe_gap(self, model: str, seconds: float) -> None:
        self._gaps.labels(model).inc(seconds)

    def set_rejected(self, model: str, rejected: bool) -> None:  # noqa: FBT001  (a gauge's value)
        self._rejected.labels(model).set(rejected)

    def forget_model(self, model: str) -> None:
        """A name of which nothing is left has no rejection either: names of bad files would gather for ever."""
        _remove(self._rejected, model)
        _remove(self._loads, model, "rejected")

    def observe_request(self, route: str, code: int) -> None:
        self._requests.labels(route, str(code)).inc()

    def request_in_flight(self) -> contextlib.AbstractContextManager[object]:
        """Counts a request while it is open."""
        return self._in_flight.track_inprogress()

    def observe_lost_camera(self, camera: str) -> None:
        self._reconnects.labels(camera).inc()

    def set_camera_state(self, camera: str, state: CameraState) -> None:
        for each in get_args(CameraState):
            self._camera_state.labels(camera, each).set(each == state)

    def set_served(self, identities: Iterable[ModelIdentity]) -> None:
        """Every version that serves, the canaries too."""
        served = frozenset(identities)
        self._model_info.clear()
        for identity in served:
            self._model_info.labels(identity.name, str(identity.version), identity.sha256).set(1)
            for cause in _ROLLBACK_CAUSES:  # from 0 on: Prometheus sees no increase where a count begins with 1
                self._rollbacks.labels(identity.name, cause)
        self._versions.keep_only(served)

    def watch_last_frame(self, camera: str, unix_s: Callable[[], float]) -> None:
        self._last_frame.labels(camera).set_function(unix_s)

    def watch_mqtt(self, status: Callable[[], MqttStatus]) -> None:
        """Asked at every scrape."""
        for name, text, value in (
            ("mqtt_connected", "1 while connected.", lambda: float(status().state == "connected")),
            ("outbox_messages", "Results that the broker has not acknowledged.", lambda: status().outbox.messages),
            ("outbox_bytes", "What they take of the disk.", lambda: status().outbox.size),
            ("outbox_trouble", "1 while the disk refuses them.", lambda: float(bool(status().outbox.trouble))),
        ):
            Gauge(f"edge_agent_{name}", text, registry=self._registry).set_function(value)
        self._registry.register(_Evicted(lambda: status().outbox.evicted))

    def watch_ready(self, ready: Callable[[], float]) -> None:
        Gauge("edge_agent_ready", "1 while /readyz says so.", registry=self._registry).set_function(ready)

    def watch_store(self, trouble: Callable[[], float]) -> None:
        Gauge(
            "edge_agent_store_trouble", "1 while the agent's own copies cannot be kept.", registry=self._registry
        ).set_function(trouble)

    def render(self) -> bytes:
        """The text exposition format of Prometheus."""
        return generate_latest(self._registry)


class _Evicted(Collector):
    """A counter that somebody else keeps."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "edge_agent_outbox_evicted", "Results given up and told as gaps.", value=self._count()
        )


class _Versions:
    """What each serving version answers, so that a canary is compared with the stable version."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("model", "version", "label")
        self._served: frozenset[ModelIdentity] = frozenset()
        self._seen: set[tuple[ModelIdentity, str]] = set()
        self._inferences = Counter(
            "edge_agent_version_inferences", "Images classified.", (*labels, "outcome"), registry=registry
        )
        self._invoke = Summary(
            "edge_agent_version_inference_seconds", "Time in the runtime.", labels, registry=registry
        )
        self._score = Summary(
            "edge_agent_version_prediction_score", "Scores of the best labels.", labels, registry=registry
        )

    def observe(self, identity: ModelIdentity, label: str, outcome: Classification | ModelError) -> None:
        if identity not in self._served:
            return
        self._seen.add((identity, label))
        key = (identity.name, str(identity.version), label)
        if not isinstance(outcome, Classification):
            self._inferences.labels(*key, "error").inc()
            return
        self._inferences.labels(*key, "ok").inc()
        self._invoke.labels(*key).observe(outcome.timing.invoke / 1e3)
        if outcome.categories:
            self._score.labels(*key).observe(outcome.categories[0].score)

    def keep_only(self, served: frozenset[ModelIdentity]) -> None:
        """A version that has gone takes its series along, or each drop would leave some for ever."""
        self._served = served
        for identity, label in {seen for seen in self._seen if seen[0] not in served}:
            self._seen.remove((identity, label))
            key = (identity.name, str(identity.version), label)
            for outcome in ("ok", "error"):
                _remove(self._inferences, *key, outcome)
            _remove(self._invoke, *key)
            _remove(self._score, *key)


def _remove(metric: Counter | Gauge | Summary, *labels: str) -> None:
    with contextlib.suppress(KeyError):  # which old versions of prometheus_client raise where there is nothing
        metric.remove(*labels)
