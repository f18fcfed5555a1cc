"""What happens to the topics of a device's former name, at a real broker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_publisher import BIRDS, home_assistant, started, until_connected
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber, until

from agent.classification import Spot, StableState
from agent.mqtt import publisher as publisher_module
from agent.mqtt.former_topics import FormerTopics
from agent.mqtt.identity import Identity
from agent.mqtt.retained import Retained
from agent.status import CameraHealth, CameraStatus, ModelStatus, ProfileStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.mqtt.message import Message
    from agent.mqtt.publisher import MqttPublisher

pytestmark = pytest.mark.mosquitto

FRONT, DOOR = Spot("front"), Spot("front", "door")


class NoWindow:
    def room(self) -> int:
        return 0

    def send(self, message: Message) -> int:
        raise AssertionError(message)


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mosquitto]:
    monkeypatch.setattr(publisher_module, "_SWEEP_S", 0.2)
    with Mosquitto(tmp_path) as broker:
        yield broker


@asynccontextmanager
async def device(broker: Mosquitto, name: str, base_file: Path) -> AsyncIterator[MqttPublisher]:
    """A device that was connected long enough to be remembered, with a camera and a model."""
    async with started(broker.port, device=name, base_file=base_file, home_assistant=home_assistant(name)) as publisher:
        publisher.cameras_configured({"front": (FRONT, DOOR), "door": (Spot("door"),)})
        publisher.camera_changed("front", CameraStatus("online"))
        publisher.camera_health_changed("front", CameraHealth("ok"))
        publisher.profile_changed(ProfileStatus(None, "auto", ("night",)))
        for spot in (FRONT, DOOR):
            publisher.state_changed(spot, StableState("robin", 0.9, 0, BIRDS))
        publisher.model_changed(ModelStatus("birds", serving=BIRDS, since_ns=0))
        await until_connected(publisher)
        await until(lambda: base_file.exists() and base_file.read_bytes() == f"edge-agent/{name}\n".encode())
        yield publisher


def kept(live: Subscriber) -> set[str]:
    """The topics whose last payload is not empty, except for statistics, which are not retained."""
    last = {message.topic: message.content for message in live.of("")}
    return {topic for topic, content in last.items() if content and not topic.endswith("/stats")}


def topics_of(name: str) -> set[str]:
    """All retained topics of a device."""
    camera = f"edge-agent/{name}/cameras/front"
    return {
        *(f"edge-agent/{name}/{topic}" for topic in ("status", "info", "profile", "models/birds")),
        *(f"{camera}/{topic}" for topic in ("status", "enabled", "health")),
        *(f"{camera}/{topic}" for topic in ("state", "classification/birds")),
        *(f"{camera}/views/door/{topic}" for topic in ("state", "classification/birds")),
        f"homeassistant/device/{name}/config",
    }


@pytest.mark.anyio
async def test_topics_of_a_former_name_are_removed_with_its_discovery(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port) as live:
        async with device(broker, "old", tmp_path / "base_topic"):
            await until(lambda: kept(live) == topics_of("old"))
        others = {"edge-agent/old/notes", "edge-agent/older/status", "homeassistant/device/older/config"}
        for topic in others:
            live.publish(topic, b"offline", retain=True)
        await until(lambda: others < kept(live))
        async with device(broker, "new", tmp_path / "base_topic"):
            await until(lambda: kept(live) == topics_of("new") | others)


@pytest.mark.anyio
async def test_topics_of_a_former_name_stay_while_another_device_uses_it(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The card of a device was copied: its copy remembers the same name."""
    copy = tmp_path / "copy"
    with Subscriber(broker.port) as live:
        async with device(broker, "old", tmp_path / "base_topic"):
            copy.write_text("edge-agent/old\n")
            async with device(broker, "new", copy):
                await until(lambda: kept(live) == topics_of("old") | topics_of("new"))
    assert caplog.text.count("This device published below edge-agent/old before, where another one is online") == 1


@pytest.mark.anyio
async def test_topics_stay_when_the_name_is_the_same(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port) as live:
        for _ in range(2):
            async with device(broker, "old", tmp_path / "base_topic"):
                await until(lambda: kept(live) == topics_of("old"))
        assert [message.topic for message in live.of("") if not message.content] == []


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"#", b"edge-agent/+", b"\xff\xfe", b"edge-agent", b"/", b"a\0/b"])
async def test_damaged_memory_of_the_name_is_replaced(broker: Mosquitto, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "base_topic").write_bytes(content)
    with Subscriber(broker.port) as live:
        live.publish("edge-agent/other/status", b"offline", retain=True)
        async with device(broker, "new", tmp_path / "base_topic"):
            await until(lambda: kept(live) == topics_of("new") | {"edge-agent/other/status"})


def test_discovery_of_the_same_device_stays_when_its_base_topic_changes(tmp_path: Path) -> None:
    (tmp_path / "base_topic").write_text("old/site/pi\n")
    identity = Identity("pi", "edge-agent", "boot", {})
    former = FormerTopics(tmp_path / "base_topic", identity, retained=Retained(NoWindow()))
    assert former.filters == ("old/site/pi/#",)
