"""Metrics: the page with every metric, read from the registry of an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from agent.metrics import registry
from agent.mqtt.outbox.outbox import OutboxStatus
from agent.mqtt.session import MqttStatus
from docs.reference_generator.markdown import code, code_list, page, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

_INTRODUCTION = """
# Metrics

For everyone who monitors agents with Prometheus: every metric of `GET /metrics`.
[monitor.md](../how-to/monitor.md) shows how to scrape them, with alerts and a dashboard.

- The standard metrics of the process (`process_resident_memory_bytes` and others) are shown too.
- A histogram adds `_bucket`, `_sum` and `_count` to its name, a summary `_sum` and `_count`.
- `edge_agent_temperature_celsius` and `edge_agent_throttled` are shown only if the board reports
  them, `edge_agent_mqtt_...` and `edge_agent_outbox_...` only if `mqtt.enabled` is true.
- For uploads that were not classified, `model` is empty: a name that a client invented must not
  become a series.
- The `edge_agent_version_...` series compare a canary with the stable version. They are removed
  when their version stops serving.
"""


class _Parts:
    """An agent without models and cameras."""

    store_trouble = None

    def why_not_ready(self) -> list[str]:
        return []

    def last_frames_s(self) -> dict[str, float]:
        return {}


def metrics_page() -> str:
    head = ("name", "type", "labels", "meaning")
    return page(_INTRODUCTION, table(head, _rows()), source="agent/metrics")


def _rows() -> Iterator[tuple[str, str, str, str]]:
    collectors = _metrics()._registry._collector_to_names  # noqa: SLF001  (prometheus_client has no public access)
    for collector in collectors:
        for metric in collector.collect():
            labels = getattr(collector, "_labelnames", ()) or getattr(metric, "_labelnames", ())
            if metric.name.startswith("edge_agent_"):
                yield code(_shown(metric)), metric.type, code_list(labels), metric.documentation


def _metrics() -> registry.Metrics:
    """The metrics of an agent on a board that reports everything."""
    status = MqttStatus("connected", None, "5", OutboxStatus(messages=0, size=0, evicted=0, trouble=None))
    with (
        patch.object(registry, "temperature_celsius", lambda: 50.0),
        patch.object(registry, "is_throttled", lambda: False),
    ):
        metrics = registry.Metrics(version="1", runtime="litert")
    parts = _Parts()
    metrics.watch(health=parts, models=parts, cameras=parts)
    metrics.watch_mqtt(lambda: status)
    return metrics


def _shown(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name
