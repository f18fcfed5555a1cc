from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_device import QUICK, Device
from peers.mosquitto import Mosquitto, free_port
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import until

from agent.errors import ConfigError
from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message

if TYPE_CHECKING:
    from pathlib import Path


# paho does not close the socket if the WebSocket handshake fails; it is closed with the last reference.
_LEAKS = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_first_connect_is_retried_until_the_broker_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)

    caplog.set_level(logging.INFO)
    device = Device(broker.port)
    async with device as connection:
        assert connection.state == "connecting"
        await until(lambda: connection.state == "unreachable")
        sentence = (
            f"The MQTT broker at 127.0.0.1:{broker.port} cannot be reached: Connection refused. "
            "Start it, or correct mqtt.host and mqtt.port."
        )
        assert [connection.protocol, connection.reason] == [None, sentence]
        with broker:
            await until(lambda: connection.state == "connected")
            assert [connection.protocol, connection.reason] == ["5", None]
    assert device.events == ["on"]
    logged = [record for record in caplog.records if record.name == "agent.mqtt.link.connection"]
    assert [record.levelname for record in logged] == ["WARNING", "INFO"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_wrong_password_is_reported_until_the_broker_accepts_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, users={"pi": "right"}) as broker:
        async with Device(broker.port, username="pi", password="new") as connection:
            await until(lambda: connection.state == "refused")
            assert connection.reason == (
                f"The MQTT broker at 127.0.0.1:{broker.port} refuses this agent: Not authorized. "
                "Correct mqtt.username and mqtt.password_file (for the service: /etc/edge-agent/mqtt_password) "
                "and restart the agent, or give this user access on the broker."
            )
            await until(lambda: broker.log.count("disconnected, not auth") >= 3)
            broker.set_password("pi", "new")
            await until(lambda: connection.state == "connected")
            assert [connection.state, connection.reason] == ["connected", None]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "a refusal is logged once, not at each retry"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_lost_connection_is_restored(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    device = Device(broker.port)
    with broker:
        async with device as connection:
            await until(device.is_connected)
            broker.kill()
            await until(lambda: not device.is_connected())
            broker.start()
            await until(device.is_connected)
            number = connection.publish(Message("a", b"b"))
            await until(lambda: device.acknowledgments == [number])
    assert device.events == ["on", "off", "on"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_broker_that_discards_messages_is_reported(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    with Mosquitto(tmp_path, config=f"acl_file {tmp_path}/acl") as broker:
        device = Device(broker.port)
        async with device as connection:
            await until(device.is_connected)
            connection.publish(Message("edge-agent/pi-1/info", b""))
            await until(lambda: device.acknowledgments)
            assert connection.state == "connected"
            assert connection.reason == (
                f"The MQTT broker at 127.0.0.1:{broker.port} discards the message on edge-agent/pi-1/info: "
                "Not authorized. Allow the agent's MQTT user to publish below edge-agent/pi-1."
            )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            0x8E,
            ": Session taken over. Another client uses the same mqtt.client_id. Give each device its own device.id",
        ),
        (0x8B, ": Server shutting down. If this repeats, check the network"),
        (0x9E, ": Shared subscription not supported. Remove mqtt.shared_classify from the configuration."),
        (None, ". If this repeats, check the network."),
    ],
)
async def test_lost_connection_is_reported_with_the_reason_from_the_broker(code: int | None, words: str) -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=30))
        async with device as connection:
            await until(device.is_connected)
            broker.hang_up(reason=code)
            await until(lambda: not device.is_connected())
            assert f"closed the connection{words}" in str(connection.reason)


@pytest.mark.anyio
async def test_closed_connection_is_not_retried() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        async with device:
            await until(device.is_connected)
            broker.hang_up()
            await until(lambda: not device.is_connected())
        retries_would_be_over = time.monotonic() + 5 * QUICK.max_retry_s
        await until(lambda: time.monotonic() > retries_would_be_over)
        assert broker.connections == 1


@pytest.mark.anyio
async def test_close_returns_quickly_while_the_broker_is_reachable() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        device.connection.open()
        await until(device.is_connected)
        began = time.monotonic()
        await device.connection.close(timeout_s=30)
        assert time.monotonic() - began < 0.8, "without a wake-up, paho checks only once per second"


def test_close_keeps_its_timeout_while_the_network_does_not_answer() -> None:
    """A listener with a full backlog answers no SYN, so connect() waits for paho's timeout of 5 s."""

    async def scenario(port: int) -> float:
        device = Device(port)
        device.connection.open()
        began = time.monotonic()
        await device.connection.close(timeout_s=0.2)
        return time.monotonic() - began

    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)  # noqa: FBT003
            client.connect_ex(listener.getsockname())
        began = time.monotonic()
        assert asyncio.run(scenario(listener.getsockname()[1])) < 0.5
        assert time.monotonic() - began < 1, "closing the loop does not wait either"


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["", "broker..local", "a" * 64])
async def test_invalid_host_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigError, match=r"mqtt.host is .*Give the broker's name or address"):
        Device(free_port(), host=host)


@pytest.mark.anyio
@_LEAKS
async def test_bytes_that_paho_cannot_parse_are_reported_and_do_not_stop_the_retries() -> None:
    """Paho expects a space after the colon; without it, its thread would die of an IndexError."""
    tries = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept:x\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        device = Device(server.sockets[0].getsockname()[1], websocket_path="/mqtt")
        async with device as connection:
            await until(lambda: tries >= 3)
            assert "does not speak MQTT: IndexError" in str(connection.reason)
