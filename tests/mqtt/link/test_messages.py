from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_device import Device
from peers.mosquitto import Mosquitto
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import until

from agent.mqtt.message import Message

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.message import MqttVersion


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("version", [5, 311])
async def test_broker_waits_for_an_acknowledgment_before_the_next_message(tmp_path: Path, version: MqttVersion) -> None:
    with Mosquitto(tmp_path, config="max_inflight_messages 1") as broker:
        device = Device(broker.port, version=version, receive_maximum=1)
        async with device as connection:
            await until(device.is_connected)
            connection.subscribe("a/+", "b")
            for topic in ("a/1", "b", "c", "a/2"):
                connection.publish(Message(topic, topic.encode(), retain=True))
            await until(lambda: len(device.acknowledgments) == 4)
            assert [incoming.topic for incoming in device.incoming] == ["a/1"], "one at a time"
            connection.acknowledge(device.incoming[0])
            await until(lambda: len(device.incoming) == 2)
            connection.acknowledge(device.incoming[1])
            await until(lambda: len(device.incoming) == 3)
            assert [incoming.payload for incoming in device.incoming] == [b"a/1", b"b", b"a/2"]
            assert not device.incoming[0].retained


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_request_and_its_answer_carry_the_properties_of_mqtt_5(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            connection.subscribe("#")
            command = ["-t", "ask", "-m", "x", "-D", "publish", "response-topic", "answer"]
            await _publish(broker.port, *command, "-D", "publish", "correlation-data", "17", "-q", "1")
            await until(lambda: device.incoming)
            request = device.incoming[0]
            assert [request.response_topic, request.correlation] == ["answer", b"17"]
            connection.publish(Message("answer", b"y", correlation=request.correlation))
            await until(lambda: len(device.incoming) == 2)
            assert [device.incoming[1].response_topic, device.incoming[1].correlation] == [None, b"17"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_retained_message_is_marked_and_no_message_arrives_after_unsubscribing(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            connection.publish(Message("a", b"kept", retain=True))
            connection.subscribe("a")
            await until(lambda: device.incoming)
            connection.acknowledge(device.incoming[0])
            connection.unsubscribe("a")
            connection.publish(Message("a", b"new"))
            await until(lambda: len(device.acknowledgments) == 2)
    assert [(incoming.payload, incoming.retained) for incoming in device.incoming] == [(b"kept", True)]


@pytest.mark.anyio
async def test_acknowledgment_is_sent_for_qos_1_and_only_on_the_connection_that_delivered_the_message() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            broker.deliver("a", b"0")
            broker.deliver("a", b"1", number=7)
            await until(lambda: len(device.incoming) == 2)
            for incoming in device.incoming:
                connection.acknowledge(incoming)
            await until(lambda: broker.acknowledged == [7])
            broker.hang_up()
            await until(lambda: not device.is_connected())
            connection.acknowledge(device.incoming[1])
            await until(device.is_connected)
            connection.acknowledge(device.incoming[1])
            connection.subscribe("b")
            await until(lambda: broker.subscribed)
            assert broker.acknowledged == [7]


@pytest.mark.anyio
@pytest.mark.parametrize(("version", "code", "reason"), [(5, 0x87, "Not authorized"), (311, 0x80, "Unspecified error")])
async def test_refused_subscription_is_logged_once_with_its_filter(
    version: MqttVersion, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ScriptedBroker() as broker:
        broker.suback_codes = [code, code]
        device = Device(broker.port, version=version)
        async with device as connection:
            for count in (1, 2, 3):
                await until(device.is_connected)
                connection.subscribe("a/#")
                await until(lambda count=count: len(broker.subscribed) == count)  # type: ignore[misc]
                connection.publish(Message("after", b""))
                await until(lambda: broker.published)
                broker.acknowledge(broker.published.pop())
                await until(lambda count=count: len(device.acknowledgments) == count)  # type: ignore[misc]
                assert [connection.state, connection.reason] == ["connected", None]
                broker.hang_up()
                await until(lambda: not device.is_connected())
    refusals = [line for line in caplog.messages if "subscription" in line]
    words = f"refuses the subscription to a/#: {reason}. Allow the agent's MQTT user to read a/#."
    assert refusals == [f"The MQTT broker at 127.0.0.1:{broker.port} {words}"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_number_of_qos_0_messages_is_bounded_while_the_loop_is_busy(tmp_path: Path) -> None:
    flood = "".join(f"{number}\n" for number in range(500))
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            connection.subscribe("flood", "asked")
            connection.publish(Message("ready", b""))
            await until(lambda: device.acknowledgments)
            command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port)]
            subprocess.run([*command, "-t", "flood", "-l"], input=flood, text=True, check=True)  # noqa: ASYNC221
            subprocess.run([*command, "-t", "asked", "-m", "", "-q", "1"], check=True)  # noqa: ASYNC221
            time.sleep(0.3)  # noqa: ASYNC251  (keeps the loop busy while the broker sends)
            await until(lambda: device.incoming and device.incoming[-1].topic == "asked")
    assert [incoming.payload for incoming in device.incoming[:64]] == [b"%d" % number for number in range(64)]
    assert len(device.incoming) == 65


@pytest.mark.anyio
async def test_connect_states_how_much_the_broker_may_send() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, receive_maximum=3, max_packet_bytes=70000)
        async with device:
            await until(device.is_connected)
    assert b"\x21\x00\x03" in broker.connects[0], "Receive Maximum (MQTT 5, 3.1.2.11.3)"
    assert b"\x27\x00\x01\x11\x70" in broker.connects[0], "Maximum Packet Size (3.1.2.11.4)"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_receive_maximum_of_the_broker_is_kept(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config="max_inflight_messages 5") as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            assert connection.receive_maximum == 5


async def _publish(port: int, *arguments: str) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-V", "mqttv5", *arguments]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
