"""How Home Assistant shows the agent's messages: tested with its released core and a real broker."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from events.made import an_event
from home_assistant.home import Home, home
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber, until

from agent.classification import ModelIdentity, Spot, StableState
from agent.mqtt.home_assistant.discovery import DeviceFacts, ViewEntities, discovery, is_birth, topic_of
from agent.mqtt.message import Message
from agent.status import ModelStatus, ProfileStatus, Rejection, VersionStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


_BASE = "edge-agent/pi-1"
_BIRDS = ModelIdentity("birds", 7, "0" * 64)
_FRONT = ViewEntities(Spot("front"), ("robin", "wren"), snapshots=True)
_JUDGED = ViewEntities(Spot("front"), ("robin", "wren"), snapshots=True, is_judged=True)
_LABEL = "sensor.pi_1_front_label"
_SCORE = "sensor.pi_1_front_score"
_PROFILE = "select.pi_1_profile"
_UPDATE = "update.pi_1_model_birds"
_STATS = {
    "at": "2026-11-24T10:00:00.000Z",
    "uptime_s": 60.0,
    "frames_per_s": {"front": 4.9},
    "uploads_per_s": 0.1,
    "latency_ms": {"p50": 1.0, "p95": 2.5, "p99": 3.0},
    "temperature_celsius": 51.2,
    "throttled": False,
    "outbox": {"messages": 3, "bytes": 900, "evicted": 0, "trouble": None},
    "rss_bytes": 90 << 20,
}
_OF_THE_CAMERA = {
    "binary_sensor.pi_1_front_connectivity",
    "image.pi_1_front_snapshot",
    "sensor.pi_1_front_frame_rate",
    _LABEL,
    _SCORE,
    "switch.pi_1_front_enabled",
}
_OF_THE_DEVICE = {
    "binary_sensor.pi_1_throttling",
    "sensor.pi_1_inference_latency_p95",
    "sensor.pi_1_memory",
    "sensor.pi_1_outbox_messages",
    "sensor.pi_1_temperature",
}


class Device:
    """A minimal publisher of topics below `_BASE`."""

    def __init__(self, port: int) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, message: Message) -> None:
        self._client.publish(message.topic, message.payload, qos=1, retain=message.retain).wait_for_publish(10)

    def publish(self, topic: str, payload: str | bytes | dict[str, Any], *, retain: bool = True) -> None:
        content = json.dumps(payload) if isinstance(payload, dict) else payload
        self._client.publish(f"{_BASE}/{topic}", content, qos=1, retain=retain).wait_for_publish(10)

    def show(self, label: str | None, score: float | None = 0.93) -> None:
        self.publish("cameras/front/state", _state(label, score))

    def come_online(self) -> None:
        self.publish("status", "online")
        self.publish("cameras/front/status", "online")
        self.publish("cameras/front/enabled", "ON")

    def discover(self, **options: Any) -> None:
        self.send(_message(**options))


def _state(label: str | None, score: float | None = 0.93) -> dict[str, Any]:
    return StableState(label, None if label is None else score, 1_700_000_000_000_000_000, _BIRDS).to_json()


def _message(
    *, hardware: str | None = None, events: bool = False, profiles: tuple[str, ...] = (), **options: Any
) -> Message:
    facts = DeviceFacts(
        "pi-1",
        _BASE,
        "0.1.0",
        thermometer=True,
        throttle=True,
        events=events,
        url="http://192.168.1.7:8501",
        hardware=hardware,
        profiles=profiles,
    )
    shown: dict[str, Any] = {"views": [_FRONT], "models": ["birds"]}
    return discovery(facts, **(shown | options))


@asynccontextmanager
async def _house(folder: Path) -> AsyncIterator[tuple[Home, Device, Mosquitto]]:
    """A home, and a device that is online but has not sent its discovery."""
    (folder / "broker").mkdir()
    (folder / "home").mkdir()
    with Mosquitto(folder / "broker") as broker:
        device = Device(broker.port)
        device.come_online()
        try:
            async with home(folder / "home", broker.port) as there:
                yield there, device, broker
        finally:
            device.close()


async def _until_state(there: Home, entity: str, state: str | None) -> None:
    try:
        await until(lambda: there.state(entity) == state)
    except AssertionError:
        raise AssertionError(f"{entity} is {there.state(entity)!r}, expected {state!r}") from None


def _complaints(log: pytest.LogCaptureFixture) -> list[str]:
    """Home Assistant's warnings about the agent, without those about a broker that ends with the test."""
    ours = ("homeassistant.components", "homeassistant.helpers.template", "homeassistant.helpers.entity", "asyncio")
    return [
        record.getMessage()
        for record in log.records
        if record.levelno >= logging.WARNING
        and record.name.startswith(ours)
        and record.name != "homeassistant.components.mqtt.client"
    ]


@pytest.mark.anyio
async def test_a_device_is_shown_with_all_its_entities(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with _house(tmp_path) as (there, device, _):
        device.show("robin")
        device.discover(hardware="Raspberry Pi 4 Model B")
        await _until_state(there, _LABEL, "robin")
        device.publish("stats", _STATS, retain=False)
        device.publish("cameras/front/snapshot", b"\xff\xd8\x00\xff\xd9", retain=False)
        await _until_state(there, "sensor.pi_1_temperature", "51.2")
        await until(lambda: there.image("image.pi_1_front_snapshot") == b"\xff\xd8\x00\xff\xd9")

        states = there.entities()
        assert states.keys() == _OF_THE_CAMERA | _OF_THE_DEVICE | {_UPDATE}
        assert states[_SCORE] == "93.0"
        assert states["switch.pi_1_front_enabled"] == "on"
        assert states["binary_sensor.pi_1_front_connectivity"] == "on"
        assert states["binary_sensor.pi_1_throttling"] == "off"
        assert states["sensor.pi_1_front_frame_rate"] == "4.9"
        assert states["sensor.pi_1_inference_latency_p95"] == "2.5"
        assert states["sensor.pi_1_outbox_messages"] == "3"
        assert states["sensor.pi_1_memory"] == "90.0"
        label = there.attributes(_LABEL)
        assert label["options"] == ["robin", "wren", "none"]
        assert label["friendly_name"] == "pi-1 Front label"
        assert label["model"]["version"] == "7"
        assert there.attributes("sensor.pi_1_outbox_messages")["trouble"] is None
        categories = there.categories()
        assert {entity for entity, category in categories.items() if category is None} == {
            _LABEL,
            _SCORE,
            "image.pi_1_front_snapshot",
        }
        assert categories["switch.pi_1_front_enabled"] == "config"
        (found,) = there.devices()
        assert (found.name, found.manufacturer, found.model) == ("pi-1", "edge-agent", "Raspberry Pi 4 Model B")
        assert (found.sw_version, found.configuration_url) == ("0.1.0", "http://192.168.1.7:8501")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_events_of_each_view_are_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spots = [Spot("front", "door"), Spot("front", "gate")]
    async with _house(tmp_path) as (there, device, _):
        both = _message(views=[ViewEntities(spot, ("robin",), snapshots=False) for spot in spots], events=True)
        device.send(both)
        await _until_state(there, "event.pi_1_front_door_event", "unknown")
        ended = an_event("robin", spot=spots[0])
        device.publish("cameras/front/event", ended.to_json(), retain=False)
        await until(lambda: there.attributes("event.pi_1_front_door_event").get("event_type") == "end")
        shown = there.attributes("event.pi_1_front_door_event")
        assert {name: shown[name] for name in ("id", "label", "duration_s", "frame")} == {
            "id": ended.id,
            "label": "robin",
            "duration_s": 5.0,
            "frame": None,
        }
        assert there.state("event.pi_1_front_gate_event") == "unknown"
        device.publish("cameras/front/event", an_event("owl", spot=spots[1]).to_json(), retain=False)
        await until(lambda: there.attributes("event.pi_1_front_gate_event").get("label") == "owl")
        assert there.attributes("event.pi_1_front_door_event")["label"] == "robin"
        device.discover(views=[_FRONT], events=True, former=both.payload)
        await until(lambda: "event.pi_1_front_gate_event" not in there.entities())
        device.publish("cameras/front/event", an_event("wren").to_json(), retain=False)
        await until(lambda: there.attributes("event.pi_1_front_event").get("label") == "wren")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_unknown_values_show_none_and_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with _house(tmp_path) as (there, device, _):
        device.discover()
        device.show("robin")
        await _until_state(there, _SCORE, "93.0")
        device.show(None)
        nothing = {"p50": None, "p95": None, "p99": None}
        silent = {"latency_ms": nothing, "temperature_celsius": None, "throttled": None, "frames_per_s": {}}
        device.publish("stats", _STATS | silent, retain=False)
        await _until_state(there, _LABEL, "none")
        await _until_state(there, _SCORE, "unknown")
        for entity in (
            "sensor.pi_1_inference_latency_p95",
            "sensor.pi_1_temperature",
            "sensor.pi_1_front_frame_rate",
            "binary_sensor.pi_1_throttling",
        ):
            await _until_state(there, entity, "unknown")
        await _until_state(there, "sensor.pi_1_memory", "90.0")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_only_the_switch_of_a_lost_camera_and_nothing_of_a_lost_device_is_available(tmp_path: Path) -> None:
    async with _house(tmp_path) as (there, device, _):
        device.show("robin")
        device.discover()
        await _until_state(there, _LABEL, "robin")
        for state in ("lost", "frozen", "disabled", "starting"):
            device.publish("cameras/front/status", state)
            await _until_state(there, _LABEL, "unavailable")
            await _until_state(there, _SCORE, "unavailable")
            await _until_state(there, "image.pi_1_front_snapshot", "unavailable")
            await _until_state(there, "binary_sensor.pi_1_front_connectivity", "off")
            assert there.state("switch.pi_1_front_enabled") == "on"
            device.publish("cameras/front/status", "online")
            await _until_state(there, _LABEL, "robin")
        device.publish("cameras/front/status", "ended")
        await _until_state(there, "binary_sensor.pi_1_front_connectivity", "off")
        assert there.state(_LABEL) == "robin"
        device.publish("status", "offline")
        for entity in there.entities():
            await _until_state(there, entity, "unavailable")


@pytest.mark.anyio
async def test_the_switch_sends_its_command_and_follows_the_state_of_the_device(tmp_path: Path) -> None:
    async with _house(tmp_path) as (there, device, broker):
        device.discover()
        await _until_state(there, "switch.pi_1_front_enabled", "on")
        with Subscriber(broker.port, topics=f"{_BASE}/cameras/front/enabled/set") as agent:
            await there.call("switch.turn_off", "switch.pi_1_front_enabled")
            await until(lambda: agent.payloads("/set") == ["OFF"])
            assert there.state("switch.pi_1_front_enabled") == "on"
            device.publish("cameras/front/enabled", "OFF")
            await _until_state(there, "switch.pi_1_front_enabled", "off")
            await there.call("switch.turn_on", "switch.pi_1_front_enabled")
            await until(lambda: agent.payloads("/set") == ["OFF", "ON"])


@pytest.mark.anyio
async def test_a_profile_is_chosen_and_the_active_one_is_an_attribute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    status = ProfileStatus(None, "auto", ("night", "away"))
    async with _house(tmp_path) as (there, device, broker):
        device.discover(profiles=status.choices)
        device.publish("profile", status.to_json())
        await _until_state(there, _PROFILE, "auto")
        assert there.attributes(_PROFILE)["options"] == ["auto", "none", "night", "away"]
        assert there.attributes(_PROFILE)["active"] is None
        with Subscriber(broker.port, topics=f"{_BASE}/profile/set") as agent:
            await there.call("select.select_option", _PROFILE, option="away")
            await until(lambda: agent.payloads("/set") == ["away"])
        device.publish("profile", ProfileStatus("away", "away", status.names).to_json())
        await _until_state(there, _PROFILE, "away")
        assert there.attributes(_PROFILE)["active"] == "away"
        assert there.categories()[_PROFILE] == "config"
        device.discover(former=_message(profiles=status.choices).payload)
        await _until_state(there, _PROFILE, None)
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_the_options_are_updated_when_the_model_is_swapped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _house(tmp_path) as (there, device, _):
        device.show("robin")
        device.discover()
        await _until_state(there, _LABEL, "robin")
        device.discover(views=[ViewEntities(Spot("front"), ("cat", "dog"), snapshots=True, shown="robin")])
        await until(lambda: there.attributes(_LABEL)["options"] == ["cat", "dog", "robin", "none"])
        assert there.state(_LABEL) == "robin"
        device.show("dog")
        await _until_state(there, _LABEL, "dog")
        device.discover(views=[ViewEntities(Spot("front"), ("cat", "dog"), snapshots=True, shown="dog")])
        await until(lambda: there.attributes(_LABEL)["options"] == ["cat", "dog", "none"])
        # Without a model, any text may arrive.
        device.discover(views=[ViewEntities(Spot("front"), (), snapshots=True, shown="dog")])
        await until(lambda: "options" not in there.attributes(_LABEL))
        device.show("anything")
        await _until_state(there, _LABEL, "anything")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_labels_of_every_kind_are_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "ä" * 300
    shown = {
        long: "ä" * 255,
        " spaced ": "spaced",
        "None": "none",
        "": "none",
        'it\'s "{{ 7 }}" <b>': None,
        "嘴鸟": None,
    }
    labels = (*shown, *(f"bird {number}" for number in range(1001)))
    async with _house(tmp_path) as (there, device, _):
        device.discover(views=[ViewEntities(Spot("front"), labels, snapshots=False)])
        for label, state in shown.items():
            device.show(label)
            await _until_state(there, _LABEL, label if state is None else state)
            await until(partial(lambda label: there.attributes(_LABEL)["label"] == label, label))
            device.show("bird 1000")
            await _until_state(there, _LABEL, "bird 1000")
        assert len(there.attributes(_LABEL)["options"]) == len(labels) - 1
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_removed_components_disappear_and_the_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    back = ViewEntities(Spot("back.yard"), ("robin",), snapshots=True)
    async with _house(tmp_path) as (there, device, broker):
        device.show("robin")
        both = _message(views=[_FRONT, back], models=["birds", "cars"])
        device.send(both)
        await until(lambda: "update.pi_1_model_cars" in there.entities())
        await until(lambda: len(there.entities()) == 2 * len(_OF_THE_CAMERA) + len(_OF_THE_DEVICE) + 2)
        smaller = _message(former=both.payload)
        device.send(smaller)
        await until(lambda: there.entities().keys() == _OF_THE_CAMERA | _OF_THE_DEVICE | {_UPDATE})
        assert len(there.unique_ids()) == len(there.entities())
        await _until_state(there, _LABEL, "robin")
        device.send(_message(former=smaller.payload))  # has nothing more to remove
        device.send(_message(views=[_FRONT, back], former=smaller.payload))
        await until(lambda: "sensor.pi_1_back_yard_label" in there.entities())
        with Subscriber(broker.port, topics="homeassistant/#") as late:
            await until(lambda: topic_of("pi-1") in late.retained())
        device.send(Message(topic_of("pi-1"), b"", retain=True))
        await until(lambda: not there.entities() and not there.devices())
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_health_of_a_camera_is_shown_and_its_button_takes_a_reference_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    health, button = "sensor.pi_1_front_health", "button.pi_1_front_reference_picture"
    async with _house(tmp_path) as (there, device, broker):
        judged = _message(views=[_JUDGED])
        device.send(judged)
        await _until_state(there, health, "unknown")
        for state in ("ok", "covered", "blurred", "moved"):
            device.publish("cameras/front/health", state)
            await _until_state(there, health, state)
        with Subscriber(broker.port) as live:
            await there.call("button.press", button)
            await until(lambda: live.payloads("/cameras/front/reference/set") == ["TAKE"])
        device.publish("cameras/front/status", "lost")
        await _until_state(there, health, "unavailable")
        await _until_state(there, button, "unavailable")
        device.discover(former=judged.payload)
        await until(lambda: not {health, button} & there.entities().keys())
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_entities_of_a_view_go_with_it_and_those_of_other_views_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    door, gate = (ViewEntities(Spot("front", name), ("robin",), snapshots=True) for name in ("door", "gate"))
    yard = ViewEntities(Spot("yard"), ("robin",), snapshots=False)
    of_gate = {"sensor.pi_1_front_gate_label", "sensor.pi_1_front_gate_score", "image.pi_1_front_gate_snapshot"}
    async with _house(tmp_path) as (there, device, _):
        device.publish("cameras/front/views/door/state", _state("robin"))
        device.publish("cameras/front/views/gate/state", _state(None))
        three = _message(views=[door, gate, yard])
        device.send(three)
        await _until_state(there, "sensor.pi_1_front_door_label", "robin")
        await _until_state(there, "sensor.pi_1_front_door_score", "93.0")
        await _until_state(there, "sensor.pi_1_front_gate_label", "none")
        all_of_them = set(there.entities())
        assert of_gate < all_of_them
        assert {"sensor.pi_1_yard_label", "switch.pi_1_yard_enabled", "switch.pi_1_front_enabled"} < all_of_them
        device.send(_message(views=[door, yard], former=three.payload))
        await until(lambda: set(there.entities()) == all_of_them - of_gate)
        await _until_state(there, "sensor.pi_1_front_door_label", "robin")
        device.publish("cameras/front/status", "lost")
        await _until_state(there, "sensor.pi_1_front_door_label", "unavailable")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_models_have_an_update_entity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seven = VersionStatus(7, "0" * 64, "serving", "birds.tflite", admitted_ns=0)
    eight = VersionStatus(8, "1" * 64, "rejected", "birds.tflite", admitted_ns=0, reason="It was too slow.")
    ten = VersionStatus(10, "2" * 64, "admitted", "birds.tflite", admitted_ns=0)
    rejection = Rejection("birds.tflite", "it has 1000 labels for 1001 outputs. " * 10, at_ns=0)
    async with _house(tmp_path) as (there, device, _):
        device.discover()
        device.publish("models/birds", ModelStatus("birds", candidate="birds.tflite", trying=True).to_json())
        await until(lambda: there.attributes(_UPDATE).get("in_progress") is True)
        device.publish(
            "models/birds", ModelStatus("birds", _BIRDS, rejection=rejection, versions=(eight, seven)).to_json()
        )
        await until(lambda: there.attributes(_UPDATE)["installed_version"] == "7")
        assert there.state(_UPDATE) == "off"
        shown = there.attributes(_UPDATE)
        assert (shown["installed_version"], shown["latest_version"], shown["in_progress"]) == ("7", "7", False)
        assert shown["release_summary"] == f"birds.tflite: {rejection.reason}"[:255]
        assert shown["title"] == "birds"
        device.publish("models/birds", ModelStatus("birds", _BIRDS, pinned=7, versions=(ten, eight, seven)).to_json())
        await _until_state(there, _UPDATE, "on")
        shown = there.attributes(_UPDATE)
        assert (shown["installed_version"], shown["latest_version"]) == ("7", "10")
        assert not shown["release_summary"]
        device.publish("models/birds", ModelStatus("birds").to_json())
        await until(lambda: there.attributes(_UPDATE)["installed_version"] == "none")
    assert not _complaints(caplog)


@pytest.mark.anyio
async def test_a_device_is_shown_again_after_the_broker_lost_its_data(tmp_path: Path) -> None:
    async with _house(tmp_path) as (there, device, broker):
        device.show("robin")
        device.discover()
        await _until_state(there, _LABEL, "robin")
        device.close()
        broker.kill()
        await _until_state(there, _LABEL, "unavailable")
        broker.start()
        with Subscriber(broker.port, topics="homeassistant/status") as agent:
            await until(lambda: agent.of("/status"), timeout_s=30)
            birth = agent.of("/status")[-1]
            assert is_birth(birth.topic, birth.payload.encode())
        again = Device(broker.port)
        again.come_online()
        again.show("wren")
        again.discover()
        await _until_state(there, _LABEL, "wren")
        again.close()
