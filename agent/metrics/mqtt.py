"""Mqtt: the state of the connection and of the outbox, read at every scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from agent.mqtt.session import MqttStatus


class MqttMetrics(Collector):
    def __init__(self, status: Callable[[], MqttStatus]) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status = self._status()
        outbox = status.outbox
        for name, text, value in (
            ("mqtt_connected", "1 while connected to the MQTT broker.", status.state == "connected"),
            ("outbox_messages", "Results that the broker has not acknowledged.", outbox.messages),
            ("outbox_bytes", "Bytes that these results use on the disk.", outbox.size),
            ("outbox_trouble", "1 while results cannot be written to the disk.", bool(outbox.trouble)),
        ):
            yield GaugeMetricFamily(f"edge_agent_{name}", text, value=float(value))
        yield CounterMetricFamily(
            "edge_agent_outbox_evicted", "Results dropped and announced as gaps.", value=outbox.evicted
        )
