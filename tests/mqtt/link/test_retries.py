from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_device import Device
from peers.mosquitto import Mosquitto
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import until

from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.message import MqttVersion


@pytest.mark.anyio
@pytest.mark.parametrize(("first", "level", "protocol"), [(5, 5, "3.1.1"), (311, 4, "5")])
async def test_other_version_is_tried_immediately_when_the_broker_disconnects_one(
    first: MqttVersion, level: int, protocol: str
) -> None:
    async with ScriptedBroker(hangs_up_on={level}) as broker:
        device = Device(broker.port, version=first)
        async with device as connection:
            await until(device.is_connected)
            assert connection.protocol == protocol
            assert broker.levels == [level, 9 - level]
            assert device.events == ["on"]


@pytest.mark.anyio
async def test_port_without_a_broker_is_reported() -> None:
    async with ScriptedBroker(hangs_up_on={4, 5}) as broker, Device(broker.port) as connection:
        await until(lambda: connection.state == "unreachable")
        assert "closes the connection without an answer. Check that it is running" in str(connection.reason)
    assert broker.levels[:8] == [5, 4, 5, 4, 5, 4, 5, 4]


@pytest.mark.anyio
async def test_version_is_kept_when_the_network_fails_during_the_other_one() -> None:
    servers: list[asyncio.Server] = []

    async def hang_up_for_good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers[0].close()
        await reader.read(1)
        writer.close()

    servers.append(await asyncio.start_server(hang_up_for_good, "127.0.0.1", 0))
    async with Device(servers[0].sockets[0].getsockname()[1]) as connection:
        await until(lambda: "cannot be reached" in str(connection.reason))
        assert connection.version == 5


@pytest.mark.anyio
async def test_proven_version_is_kept_when_the_broker_disconnects_later() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        async with device:
            await until(device.is_connected)
            broker.hangs_up_on = {4, 5}
            broker.hang_up()
            await until(lambda: broker.connections >= 4)
            broker.hangs_up_on = set()
            await until(device.is_connected)
    assert set(broker.levels) == {5}


@pytest.mark.anyio
@pytest.mark.parametrize("idle", [True, False])
async def test_silent_link_is_detected_within_one_and_a_half_keep_alives(idle: bool) -> None:  # noqa: FBT001
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=30), keepalive_s=2)
        async with device as connection:
            await until(device.is_connected)
            broker.swallows = True
            swallowed_s = time.monotonic()
            if not idle:
                connection.publish(Message("a", b"b"))
            await until(lambda: not device.is_connected())
            assert time.monotonic() - swallowed_s < (3 if idle else 1.5)
            assert device.events == ["on", "off"]
            assert "no longer answers. If this repeats, check the network." in str(connection.reason)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_stopped_broker_is_detected_and_gets_messages_again_when_it_resumes(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port, keepalive_s=2)
        async with device as connection:
            await until(device.is_connected)
            broker.pause()
            paused_s = time.monotonic()
            connection.publish(Message("a", b"b"))
            await until(lambda: not device.is_connected())
            assert time.monotonic() - paused_s < 3
            await until(lambda: "does not answer. Check that it is running" in str(connection.reason))
            broker.resume()
            await until(device.is_connected)
            number = connection.publish(Message("a", b"b"))
            await until(lambda: device.acknowledgments == [number])


@pytest.mark.anyio
async def test_slow_broker_keeps_its_connection_while_it_acknowledges() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, keepalive_s=1)
        async with device as connection:
            await until(device.is_connected)
            for _ in range(5):
                connection.publish(Message("a", b"b"))
            await until(lambda: len(broker.published) == 5)
            for message in broker.published:
                await asyncio.sleep(0.3)
                broker.acknowledge(message)
            await until(lambda: len(device.acknowledgments) == 5)
            assert device.events == ["on"]


@pytest.mark.anyio
@pytest.mark.parametrize("fraction", [0.0, 1.0])
async def test_pauses_double_and_are_shortened_by_up_to_a_half(fraction: float) -> None:
    async with ScriptedBroker() as broker:
        device = Device(
            broker.port, timeouts=Timeouts(first_retry_s=0.02, max_retry_s=0.1, proven_s=60), fraction=fraction
        )
        pauses = []
        async with device as connection:
            for count in range(1, 6):
                await until(device.is_connected)
                broker.hang_up()
                await until(lambda count=count: device.events.count("off") == count)  # type: ignore[misc]
                pauses.append(connection.pause_s)
    nominal = [0.02, 0.04, 0.08, 0.1, 0.1]
    assert pauses == pytest.approx([pause * (0.5 + 0.5 * fraction) for pause in nominal], abs=0.002)


@pytest.mark.anyio
async def test_pauses_start_short_again_after_a_long_connection() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=0.02, max_retry_s=1, proven_s=0.2))
        pauses: list[float] = []
        async with device as connection:
            for lasts_s in (0.0, 0.0, 0.25, 0.0):
                await until(device.is_connected)
                await asyncio.sleep(lasts_s)
                broker.hang_up()
                await until(lambda: device.events.count("off") > len(pauses))
                pauses.append(connection.pause_s)
    assert pauses == pytest.approx([0.02, 0.04, 0.02, 0.04], abs=0.002)


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("version", [5, 311])
async def test_second_client_with_the_same_id_is_reported(tmp_path: Path, version: MqttVersion) -> None:
    """Mosquitto 2.0.11 reports a taken-over session in neither version."""
    words = "closed the connection. This keeps happening: another client probably uses the same mqtt.client_id."
    with Mosquitto(tmp_path) as broker:
        devices = [Device(broker.port, version=version), Device(broker.port, version=version)]
        async with devices[0], devices[1]:
            for device in devices:
                await until(lambda device=device: words in str(device.connection.reason))  # type: ignore[misc]
                assert device.events[:6] == ["on", "off"] * 3
