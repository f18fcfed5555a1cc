"""MqttPublisher as the tests want it: a device pi-1 with two cameras, which retries quickly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.mqtt.commands import Actions
from agent.mqtt.identity import Identity
from agent.mqtt.link.endpoint import Endpoint, Timeouts
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.publisher import MqttPublisher, Reports
from agent.mqtt.session import presence

BOOT = "01M8AAAAAAAAAAAAAAAAAAAAAA"

_QUICK = Timeouts(first_retry_s=0.05, max_retry_s=0.1)


def mqtt_publisher(port: int, *, boot: str = BOOT, timeouts: Timeouts = _QUICK, **options: Any) -> MqttPublisher:
    """With its outbox in memory only, unless `storage` says otherwise."""
    endpoint = Endpoint(
        host="127.0.0.1",
        port=port,
        username=None,
        password=None,
        client_id="pi-1",
        will=presence("edge-agent/pi-1", "offline"),
    )
    settings: dict[str, Any] = {
        "storage": Storage(Path("/nowhere/outbox"), durability="none"),
        "reports": Reports(info=lambda: {"version": "0.1.0"}, stats=lambda: {"uptime_s": 1.0}),
        "actions": _NO_ACTIONS,
        "timeouts": timeouts,
    }
    return MqttPublisher(endpoint, Identity("pi-1", "edge-agent", boot, ("front", "door")), **(settings | options))


async def _classify(image: bytes, model: str | None) -> dict[str, Any]:
    return {"bytes": len(image), "model": model}


_NO_ACTIONS = Actions(_classify, lambda camera, enabled: None, lambda: True, shared=None, max_bytes=1000, workers=1)
