"""MqttPublisher for tests: a device pi-1 with two cameras, which retries quickly."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.clock import UnixClock
from agents.spots import unnamed
from peers.subscriber import until

from agent.classification import Category, Classification, ModelIdentity, Result, Spot, Timing
from agent.inference.results import Results
from agent.mqtt.commands import Actions
from agent.mqtt.home_assistant.device import DiscoveredDevice, ViewFacts
from agent.mqtt.home_assistant.discovery import DeviceFacts
from agent.mqtt.identity import Identity
from agent.mqtt.link.endpoint import Endpoint, Timeouts
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.publisher import MqttPublisher, Reports
from agent.mqtt.session import presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from peers.scripted_broker import ScriptedBroker
    from peers.subscriber import Subscriber

    from agent.mqtt.message import MqttVersion

BOOT = "01M8AAAAAAAAAAAAAAAAAAAAAA"
BIRDS = ModelIdentity(name="birds", version=7, sha256="0" * 64)

_QUICK = Timeouts(first_retry_s=0.05, max_retry_s=0.1)


def mqtt_publisher(
    port: int,
    *,
    device: str = "pi-1",
    boot: str = BOOT,
    timeouts: Timeouts = _QUICK,
    version: MqttVersion = 5,
    **options: Any,
) -> MqttPublisher:
    """Keeps its outbox in memory only, unless `storage` is given."""
    endpoint = Endpoint(
        host="127.0.0.1",
        port=port,
        username=None,
        password=None,
        client_id=device,
        will=presence(f"edge-agent/{device}", "offline"),
        version=version,
    )
    settings: dict[str, Any] = {
        "storage": Storage(Path("/nowhere/outbox"), durability="none"),
        "reports": Reports(info=lambda: {"version": "0.1.0"}, stats=lambda: {"uptime_s": 1.0}),
        "actions": NO_ACTIONS,
        "timeouts": timeouts,
    }
    return MqttPublisher(
        endpoint, Identity(device, "edge-agent", boot, unnamed("front", "door")), **(settings | options)
    )


class _Models:
    def labels(self, model: str | None) -> tuple[str, ...]:
        return tuple(f"label {number}" for number in range(2000))

    def serving(self) -> Sequence[str]:
        return ["birds"]


def home_assistant(device: str = "pi-1") -> DiscoveredDevice:
    """The discovery of a camera whose model has 2000 labels: 29 kB, and below 5 kB without them."""
    facts = DeviceFacts(device, f"edge-agent/{device}", "0.1.0", thermometer=False, throttle=False)
    return DiscoveredDevice(
        lambda: facts, views=lambda: {Spot("front"): ViewFacts("birds", snapshots=False)}, models=_Models()
    )


@asynccontextmanager
async def started(port: int, **options: Any) -> AsyncIterator[MqttPublisher]:
    publisher = mqtt_publisher(port, **options)
    task = asyncio.create_task(publisher.run())
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close(5)
        task.cancel()


async def until_connected(publisher: MqttPublisher) -> None:
    await until(lambda: publisher.status.state == "connected")


async def until_subscribed(live: Subscriber) -> None:
    """It subscribes to commands, then sends its info, and the broker takes both in order."""
    await until(lambda: live.payloads("/info"))


async def until_delivered(publisher: MqttPublisher) -> None:
    await until(lambda: publisher.status.outbox.messages == 0)


async def acknowledge_online_and_info(broker: ScriptedBroker) -> None:
    await until(lambda: len(broker.published) == 2)
    for message in broker.published:
        broker.acknowledge(message)


class Camera:
    """Creates numbered results."""

    def __init__(self, name: str = "front") -> None:
        self._name = name
        self._log = Results(device="pi-1", clock=UnixClock())
        self.boot = self._log.boot

    def result(self, label: str | None = "robin") -> Result:
        categories = () if label is None else (Category(3, label, 0.93), Category(4, "wren", 0.05))
        classification = Classification(BIRDS, categories, Timing(0.0, 1.1, 1.7, 3.3))
        return self._log.record(classification, spot=Spot(self._name), captured_ns=1_700_000_000_123_456_789)


async def _classify(image: bytes, model: str | None) -> dict[str, Any]:
    return {"bytes": len(image), "model": model}


NO_ACTIONS = Actions(
    classify=_classify,
    set_enabled=lambda camera, enabled: None,
    choose_profile=lambda choice: None,
    has_model=lambda: True,
    shared=None,
    max_bytes=1000,
    workers=1,
    retake_reference=lambda camera: False,
)
