"""A broker that closes the connection at something it does not accept: everything else must still arrive."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_publisher import NO_ACTIONS, Camera, home_assistant, started, until_connected, until_delivered
from peers.mosquitto import Mosquitto
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import until

from agent.classification import ModelIdentity, Spot, StableState
from agent.mqtt.outbox.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.message import MqttVersion

_BASE = "edge-agent/pi-1"
_DISCOVERY = "homeassistant/device/pi-1/config"
_VERSIONS = pytest.mark.parametrize("version", [5, 311])


@pytest.mark.anyio
@_VERSIONS
@pytest.mark.parametrize("topic", [_DISCOVERY, f"{_BASE}/status", f"{_BASE}/info", f"{_BASE}/cameras/front/state"])
async def test_results_arrive_when_the_broker_closes_the_connection_at_a_topic(
    topic: str, version: MqttVersion
) -> None:
    state = StableState("robin", 0.9, 0, ModelIdentity("birds", 1, "0" * 64))
    async with ScriptedBroker() as broker:
        broker.acknowledges = True
        broker.hangs_up_at = lambda message: message.topic == topic
        discovered = home_assistant() if topic == _DISCOVERY else None  # it is sent two seconds after the connect
        async with started(broker.port, version=version, home_assistant=discovered) as publisher:
            publisher.state_changed(Spot("front"), state)
            await until(lambda: topic in str(publisher.status.reason))
            publisher.classified(Camera().result())
            await until_delivered(publisher)
            await until(lambda: broker.results() and broker.results()[-1].connection == broker.connections)
            others = {f"{_BASE}/status", f"{_BASE}/info", f"{_BASE}/cameras/front/state"} - {topic}
            sent = {message.topic: message for message in broker.published if message.connection == broker.connections}
            await until(lambda: others <= {message.topic for message in broker.published})
            assert all(message.retain for message in sent.values() if message.topic in others)
            assert publisher.status.state == "connected"
            assert "client_id" not in str(publisher.status.reason)


@pytest.mark.anyio
async def test_results_arrive_when_an_mqtt_3_broker_closes_the_connection_at_a_retained_will() -> None:
    async with ScriptedBroker(hangs_up_on={5}) as broker:
        broker.acknowledges = broker.hangs_up_on_retained_will = True
        broker.hangs_up_at = lambda message: message.retain
        async with started(broker.port) as publisher:
            publisher.classified(Camera().result())
            await until_connected(publisher)
            await until_delivered(publisher)
            assert broker.results()
            assert "does not accept retained messages" in str(publisher.status.reason)


@pytest.mark.anyio
async def test_results_arrive_when_the_broker_closes_the_connection_at_any_retained_message() -> None:
    async with ScriptedBroker(hangs_up_on={5}) as broker:
        broker.acknowledges = True
        broker.hangs_up_at = lambda message: message.retain
        async with started(broker.port) as publisher:
            publisher.classified(Camera().result())
            await until(lambda: "does not accept retained messages" in str(publisher.status.reason))
            await until_delivered(publisher)
            await until(lambda: [message.topic for message in broker.published][-1:] != [f"{_BASE}/status"])
            assert broker.results()


@pytest.mark.anyio
async def test_results_arrive_over_qos_0_when_the_broker_closes_the_connection_at_a_topic() -> None:
    async with ScriptedBroker() as broker:
        broker.connack = b"\x24\x00"  # Maximum QoS (MQTT 5, 3.2.2.3.4)
        broker.hangs_up_at = lambda message: message.topic == f"{_BASE}/info"
        async with started(broker.port) as publisher:
            await until(lambda: f"{_BASE}/info" in str(publisher.status.reason))
            connections = broker.connections
            publisher.classified(Camera().result())
            await until(broker.results)
            assert broker.connections == connections


@pytest.mark.anyio
async def test_subscriptions_that_the_broker_does_not_support_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    actions = replace(NO_ACTIONS, shared="$share/workers/edge-agent/classify")
    async with ScriptedBroker() as broker:
        broker.acknowledges = True
        broker.connack = b"\x28\x00\x2a\x00"  # Wildcard and Shared Subscription Available (MQTT 5, 3.2.2.3)
        async with started(broker.port, actions=actions) as publisher:
            publisher.classified(Camera().result())
            await until_connected(publisher)
            await until_delivered(publisher)
            await until(lambda: broker.subscribed)
    assert b"edge-agent/pi-1/classify" in broker.subscribed[0]
    assert b"+" not in b"".join(broker.subscribed)
    assert b"$share" not in b"".join(broker.subscribed)
    assert "refuses the subscription to $share/workers/edge-agent/classify" in caplog.text


@pytest.mark.anyio
@_VERSIONS
async def test_results_arrive_when_the_broker_closes_the_connection_at_a_subscription(
    version: MqttVersion, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedBroker() as broker:
        broker.acknowledges, broker.hangs_up_on_filter = True, f"{_BASE}/classify"
        async with started(broker.port, version=version) as publisher:
            await until(lambda: "refuses the subscription to edge-agent/pi-1/classify" in caplog.text)
            publisher.classified(Camera().result())
            await until_delivered(publisher)
            assert publisher.status.state == "connected"
            await until(lambda: f"{_BASE}/cameras/+/enabled/set".encode() in b"".join(broker.subscribed))


@pytest.mark.anyio
@pytest.mark.mosquitto
@_VERSIONS
async def test_no_result_is_left_out_when_the_broker_is_killed_again_and_again(
    tmp_path: Path, version: MqttVersion
) -> None:
    broker, camera, storage = Mosquitto(tmp_path), Camera(), Storage(tmp_path / "outbox")
    try:
        broker.start()
        async with started(broker.port, version=version, storage=storage) as publisher:
            for number in range(6):
                await until_connected(publisher)
                await until_delivered(publisher)  # and so acknowledged what was sent before, such as info
                for size in range(40):
                    publisher.classified(camera.result("x" * (40 * number + size)))
                    await asyncio.sleep(0)
                broker.kill()
                await until(lambda: publisher.status.state != "connected")
                broker.start()
            await until_connected(publisher)
            await until_delivered(publisher)
            assert publisher.status.outbox.evicted == 0
            assert publisher.status.reason is None
    finally:
        broker.kill()
