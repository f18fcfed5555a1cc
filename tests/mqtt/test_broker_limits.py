"""A broker that does not accept one kind of message: everything else must still arrive."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from agents.mqtt_publisher import (
    NO_ACTIONS,
    Camera,
    home_assistant,
    mqtt_publisher,
    started,
    until_connected,
    until_delivered,
)
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber, until

from agent.classification import ModelIdentity, Spot, StableState
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.publisher import Reports
from agent.status import CameraStatus, ModelStatus, VersionStatus

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.message import MqttVersion
    from agent.mqtt.publisher import MqttPublisher

_BASE = "edge-agent/pi-1"
_DISCOVERY = "homeassistant/device/pi-1/config"
_LIMIT = 6000
_LARGE = "x" * _LIMIT
_LATER_BOOT = "01M8BBBBBBBBBBBBBBBBBBBBBB"

_VERSIONS = pytest.mark.parametrize("version", [5, 311])


def _limited(folder: Path) -> Mosquitto:
    return Mosquitto(folder, config=f"max_packet_size {_LIMIT}")


def _model(*, versions: int) -> ModelStatus:
    history = tuple(VersionStatus(number, "0" * 64, "admitted", "birds.tflite", 0) for number in range(versions, 0, -1))
    return ModelStatus("birds", serving=ModelIdentity("birds", versions, "0" * 64), since_ns=0, versions=history)


async def _until_results_arrive(publisher: MqttPublisher, live: Subscriber) -> None:
    """Publishes Results until the newest has arrived: an earlier one may be lost with a message beside it."""
    camera = Camera("door")
    while not live.of("/door/result"):
        publisher.classified(camera.result())
        await asyncio.sleep(0.05)
    await until_delivered(publisher)


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_discovery_is_sent_without_its_options_when_it_is_too_large(tmp_path: Path, version: MqttVersion) -> None:
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version, home_assistant=home_assistant()) as publisher:
            await until(lambda: live.of(_DISCOVERY))
            components = live.of(_DISCOVERY)[0].json["components"]
            label = components["camera_front_label"]
            assert label["state_topic"] == f"{_BASE}/cameras/front/state"
            assert not {"options", "device_class"} & set(label)
            assert components["camera_front_fps"]["unit_of_measurement"] == "fps"
            await until(lambda: _DISCOVERY in str(publisher.status.reason))
            assert "It is shortened." in str(publisher.status.reason)
            assert "or set mqtt.discovery to false" in str(publisher.status.reason)
            if version == 5:
                assert f"accepts at most {_LIMIT} bytes" in str(publisher.status.reason)
            await _until_results_arrive(publisher, live)
            assert publisher.status.state == "connected"


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_info_and_model_status_are_shortened_when_they_are_too_large(
    tmp_path: Path, version: MqttVersion
) -> None:
    reports = Reports(info=lambda: {"version": "0.1.0", "models": [_LARGE]}, stats=lambda: {"uptime_s": 1.0})
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version, reports=reports) as publisher:
            publisher.model_changed(_model(versions=100))
            await until(lambda: live.of("/info") and live.of("/models/birds"))
            assert live.of("/info")[0].json == {"version": "0.1.0"}
            status = live.of("/models/birds")[0].json
            assert (status["serving"]["version"], status["versions"]) == ("100", [])
            await _until_results_arrive(publisher, live)


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_result_that_is_too_large_becomes_a_gap_and_the_others_arrive(
    tmp_path: Path, version: MqttVersion
) -> None:
    camera = Camera()
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version) as publisher:
            for label in ("robin", "wren", _LARGE, "robin", "wren"):
                publisher.classified(camera.result(label))
            await until(lambda: live.of("/gaps"))
            await until_delivered(publisher)
            gap = {"boot": publisher._identity.boot, "first_seq": 3, "last_seq": 3, "count": 1, "cause": "too_large"}
            assert live.of("/gaps")[0].json == gap
            assert {message.json["seq"] for message in live.of("/result")} == {1, 2, 4, 5}
            assert f"{_BASE}/cameras/front/result" in str(publisher.status.reason)


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_result_of_an_earlier_run_that_is_too_large_becomes_a_gap(tmp_path: Path, version: MqttVersion) -> None:
    camera, storage = Camera(), Storage(tmp_path / "outbox")
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        earlier = mqtt_publisher(broker.port, storage=storage)
        for label in ("robin", _LARGE, "wren"):
            earlier.classified(camera.result(label))
        await earlier.close(0.1)
        async with started(broker.port, version=version, storage=storage, boot=_LATER_BOOT) as publisher:
            await until(lambda: live.of("/gaps"))
            await until_delivered(publisher)
            assert [live.of("/gaps")[0].json[key] for key in ("first_seq", "last_seq", "cause")] == [2, 2, "too_large"]
            assert {message.json["seq"] for message in live.of("/result")} == {1, 3}


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_snapshot_that_is_too_large_is_left_out_and_named(tmp_path: Path, version: MqttVersion) -> None:
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version) as publisher:
            publisher.camera_changed("front", CameraStatus("online"))
            while f"{_BASE}/cameras/front/snapshot" not in str(publisher.status.reason):
                publisher.snapshot(Spot("front"), _LARGE.encode())
                await asyncio.sleep(0.05)
            await _until_results_arrive(publisher, live)
            assert "set snapshots of this camera to false" in str(publisher.status.reason)
            publisher.snapshot(Spot("front"), b"small")
            await until(lambda: live.payloads("/snapshot") == ["small"])


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_answer_that_is_too_large_becomes_an_error(tmp_path: Path, version: MqttVersion) -> None:
    async def classify(image: bytes, model: str | None) -> dict[str, Any]:
        return {"label": _LARGE}

    actions = replace(NO_ACTIONS, classify=classify)
    request = json.dumps({"image": "", "reply_to": "my/answer", "correlation": 7}).encode()
    with _limited(tmp_path) as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version, actions=actions) as publisher:
            await until_connected(publisher)
            while not live.of("my/answer"):  # over MQTT 3.1.1 the first answer costs the connection
                live.publish(f"{_BASE}/classify", request)
                await asyncio.sleep(0.05)
            answer = live.of("my/answer")[0].json
            assert "larger than the MQTT broker accepts" in answer["error"]
            assert answer["correlation"] == 7
            await _until_results_arrive(publisher, live)
            assert publisher.status.reason is None, "the requester chose the topic"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_discovery_is_shortened_when_the_broker_refuses_its_size_only_in_a_puback(tmp_path: Path) -> None:
    """Over MQTT 3.1.1 mosquitto acknowledges a message above message_size_limit and discards it."""
    with Mosquitto(tmp_path, config=f"message_size_limit {_LIMIT}") as broker, Subscriber(broker.port) as live:
        async with started(broker.port, home_assistant=home_assistant()) as publisher:
            await until(lambda: live.of(_DISCOVERY))
            await until(lambda: "It is shortened." in str(publisher.status.reason))
            await _until_results_arrive(publisher, live)


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_results_and_states_arrive_when_the_broker_does_not_retain(tmp_path: Path, version: MqttVersion) -> None:
    with Mosquitto(tmp_path, config="retain_available false") as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version) as publisher:
            await until_connected(publisher)
            publisher.state_changed(Spot("front"), StableState("robin", 0.9, 0, ModelIdentity("birds", 1, "0" * 64)))
            await until(lambda: live.payloads("/classification/birds") == ["robin"])
            await _until_results_arrive(publisher, live)
            assert live.payloads("/status") == ["online"]
            assert "does not accept retained messages" in str(publisher.status.reason)
        await until(lambda: live.payloads("/status") == ["online", "offline"])


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_results_arrive_when_the_broker_supports_only_qos_0(tmp_path: Path, version: MqttVersion) -> None:
    with Mosquitto(tmp_path, config="max_qos 0") as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version) as publisher:
            await _until_results_arrive(publisher, live)
            assert "supports only QoS 0" in str(publisher.status.reason)
            assert live.payloads("/status") == ["online"]
        await until(lambda: live.payloads("/status") == ["online", "offline"])


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("mode", ["retain_available false", "max_qos 0"])
async def test_reconnect_to_a_broker_without_a_feature_takes_one_more_try(tmp_path: Path, mode: str) -> None:
    broker = Mosquitto(tmp_path, config=mode)
    with broker:
        async with started(broker.port) as publisher:
            await until_connected(publisher)
            broker.kill()
            await until(lambda: publisher.status.state == "unreachable")
            broker.start()
            await until_connected(publisher)
            assert publisher.status.reason is not None


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_topic_that_the_acl_forbids_is_named_over_mqtt_5_and_results_arrive(
    tmp_path: Path, version: MqttVersion
) -> None:
    """Over MQTT 3.1.1 mosquitto acknowledges such a message and discards it, so the agent cannot notice."""
    (tmp_path / "acl").write_text(f"topic readwrite {_BASE}/#\ntopic read #\n")
    with Mosquitto(tmp_path, config=f"acl_file {tmp_path}/acl") as broker, Subscriber(broker.port) as live:
        async with started(broker.port, version=version, home_assistant=home_assistant()) as publisher:
            await until(lambda: "Denied PUBLISH" in broker.log)
            await _until_results_arrive(publisher, live)
            expected = (
                None
                if version == 311
                else f"The MQTT broker at 127.0.0.1:{broker.port} discards the message on {_DISCOVERY}: Not "
                f"authorized. Allow the agent's MQTT user to publish to {_DISCOVERY}, or set mqtt.discovery to false."
            )
            assert publisher.status.reason == expected


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_no_message_is_blamed_when_two_agents_with_the_same_client_id_disconnect_each_other(
    tmp_path: Path, version: MqttVersion, caplog: pytest.LogCaptureFixture
) -> None:
    camera = Camera()
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        one, other = (started(broker.port, version=version, boot=boot) for boot in (camera.boot, _LATER_BOOT))
        async with one as publisher, other:
            while "another client probably uses the same mqtt.client_id" not in caplog.text:
                publisher.classified(camera.result())
                await asyncio.sleep(0.01)
        async with started(broker.port, version=version) as publisher:
            publisher.classified(camera.result())
            await until_delivered(publisher)
    assert live.of("/gaps") == []
    assert "left out" not in caplog.text
