"""Registry: everything that Prometheus scrapes; docs/reference/metrics.md is generated from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

from agent.host.board import is_throttled, temperature_celsius
from agent.metrics.cameras import CameraMetrics, LastFrames
from agent.metrics.http import HttpMetrics
from agent.metrics.inference import InferenceMetrics
from agent.metrics.models import ModelMetrics, VersionMetrics
from agent.metrics.mqtt import MqttMetrics
from agent.metrics.rpc import RpcMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.mqtt.session import MqttStatus


class Health(Protocol):
    def why_not_ready(self) -> Sequence[str]: ...


class Models(Protocol):
    @property
    def store_trouble(self) -> str | None: ...


class Cameras(Protocol):
    def last_frames_s(self) -> Mapping[str, float]: ...


class Metrics:
    """Has its own registry, so that two services in one process do not share counts. Loop's thread only.

    `listeners` receive the events to count; `http` and `rpc` count each request.
    """

    def __init__(self, *, version: str, runtime: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        if temperature_celsius() is not None:
            self._ask(
                "edge_agent_temperature_celsius",
                "Temperature of the hottest sensor, if the board has one.",
                lambda: temperature_celsius() or 0.0,
            )
        if is_throttled() is not None:
            self._ask(
                "edge_agent_throttled",
                "1 while heat or a weak power supply slows the board down, if it reports that.",
                lambda: bool(is_throttled()),
            )
        build = Gauge(
            "edge_agent_build_info",
            "Always 1; the labels name the agent's version and the runtime.",
            ("version", "runtime"),
            registry=registry,
        )
        build.labels(version, runtime).set(1)
        self.http = HttpMetrics(registry)
        self.rpc = RpcMetrics(registry, http=self.http)
        self.listeners = (
            ModelMetrics(registry),
            VersionMetrics(registry),
            InferenceMetrics(registry),
            CameraMetrics(registry),
        )

    def watch(self, *, health: Health, models: Models, cameras: Cameras) -> None:
        """Reads these at every scrape. Call it once."""
        self._ask("edge_agent_ready", "1 while /readyz answers 200.", lambda: not health.why_not_ready())
        self._ask(
            "edge_agent_store_trouble",
            "1 while the agent cannot store its copies of the models.",
            lambda: models.store_trouble is not None,
        )
        self._registry.register(LastFrames(cameras.last_frames_s))

    def watch_mqtt(self, status: Callable[[], MqttStatus]) -> None:
        self._registry.register(MqttMetrics(status))

    def render(self) -> bytes:
        """The text exposition format of Prometheus."""
        return generate_latest(self._registry)

    def _ask(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self._registry).set_function(value)
