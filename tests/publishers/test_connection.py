from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mosquitto import Mosquitto, free_port
from scripted_broker import ScriptedBroker
from subscriber import until

from agent.errors import ConfigError
from agent.publishers.connection import Connection
from agent.publishers.endpoint import Endpoint, Patience
from agent.publishers.message import Incoming, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.publishers.attempt import MqttVersion

_QUICK = Patience(answer_s=0.3, first_retry_s=0.02, max_retry_s=0.05, refused_retry_s=0.2)


class Device:
    """A connection with a record of what it told."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        username: str | None = None,
        password: str | None = None,
        version: MqttVersion = 5,
        patience: Patience = _QUICK,
        **endpoint: Any,
    ) -> None:
        self.told: list[str] = []
        self.acknowledged: list[int] = []
        self.received: list[Incoming] = []
        will = Message("edge-agent/pi-1/status", b"offline")
        self.connection = Connection(
            Endpoint(host, port, username=username, password=password, client_id="pi-1", will=will, **endpoint),
            version=version,
            on_connected=lambda: self.told.append("on"),
            on_disconnected=lambda: self.told.append("off"),
            on_acknowledged=lambda number, _: self.acknowledged.append(number),
            on_received=self.received.append,
            patience=patience,
        )

    def is_connected(self) -> bool:
        return self.connection.state == "connected"


@asynccontextmanager
async def _opened(device: Device) -> AsyncIterator[Connection]:
    device.connection.open()
    try:
        yield device.connection
    finally:
        await device.connection.close(timeout_s=5)


@pytest.mark.mosquitto
def test_first_connect_is_retried_until_the_broker_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Mosquitto(tmp_path)

    async def scenario() -> None:
        device = Device(broker.port)
        async with _opened(device) as connection:
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
        assert device.told == ["on"]

    caplog.set_level(logging.INFO)
    asyncio.run(scenario())
    logged = [record for record in caplog.records if record.name == "agent.publishers.connection"]
    assert [record.levelname for record in logged] == ["WARNING", "INFO"]


@pytest.mark.mosquitto
def test_wrong_password_is_told_in_a_sentence_and_recovers_when_the_broker_learns_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with Mosquitto(tmp_path, users={"pi": "right"}) as broker:
            async with _opened(Device(broker.port, username="pi", password="new")) as connection:
                await until(lambda: connection.state == "refused")
                assert connection.reason == (
                    f"The MQTT broker at 127.0.0.1:{broker.port} refuses this agent: Not authorized. "
                    "Correct mqtt.username and mqtt.password_file, or give this user access at the broker."
                )
                await until(lambda: broker.log.count("not authorised") >= 3)
                broker.set_password("pi", "new")
                await until(lambda: connection.state == "connected")
                assert connection.reason is None

    asyncio.run(scenario())
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "a refusal is logged once, not at each retry"


@pytest.mark.mosquitto
def test_lost_connection_is_made_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Mosquitto(tmp_path)
        device = Device(broker.port)
        with broker:
            async with _opened(device) as connection:
                await until(device.is_connected)
                broker.kill()
                await until(lambda: not device.is_connected())
                broker.start()
                await until(device.is_connected)
                number = connection.publish(Message("a", b"b"))
                await until(lambda: device.acknowledged == [number])
        assert device.told == ["on", "off", "on"]

    asyncio.run(scenario())


@pytest.mark.mosquitto
def test_broker_that_throws_messages_away_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")

    async def scenario() -> None:
        with Mosquitto(tmp_path, config=f"acl_file {tmp_path}/acl") as broker:
            device = Device(broker.port)
            async with _opened(device) as connection:
                await until(device.is_connected)
                connection.publish(Message("edge-agent/pi-1/info", b""))
                await until(lambda: device.acknowledged)
                assert connection.state == "connected"
                assert connection.reason == (
                    f"The MQTT broker at 127.0.0.1:{broker.port} discards what it gets: Not authorized. "
                    "Allow its user to write below edge-agent/pi-1."
                )

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x8E, ": Session taken over. Another client has the same mqtt.client_id: give each device its own."),
        (0x8B, ": Server shutting down. If this repeats, check the network"),
        (None, ". If this repeats, check the network."),
    ],
)
def test_lost_connection_is_told_with_what_the_broker_said(code: int | None, words: str) -> None:
    async def scenario() -> None:
        async with ScriptedBroker() as broker:
            device = Device(broker.port, patience=Patience(first_retry_s=30))
            async with _opened(device) as connection:
                await until(device.is_connected)
                broker.hang_up(reason=code)
                await until(lambda: not device.is_connected())
                assert f"ended the connection{words}" in str(connection.reason)

    asyncio.run(scenario())


@pytest.mark.parametrize(("first", "level", "protocol"), [(5, 5, "3.1.1"), (311, 4, "5")])
def test_other_version_is_tried_at_once_when_the_broker_hangs_up_on_one(
    first: MqttVersion, level: int, protocol: str
) -> None:
    async def scenario() -> None:
        async with ScriptedBroker(hangs_up_on={level}) as broker:
            device = Device(broker.port, version=first)
            async with _opened(device) as connection:
                await until(device.is_connected)
                assert connection.protocol == protocol
                assert broker.levels == [level, 9 - level]
                assert device.told == ["on"]

    asyncio.run(scenario())


def test_no_broker_behind_the_port_is_told_in_a_sentence() -> None:
    async def scenario() -> None:
        async with ScriptedBroker(hangs_up_on={4, 5}) as broker, _opened(Device(broker.port)) as connection:
            await until(lambda: len(broker.levels) >= 6)
            assert connection.state == "unreachable"
            assert "hangs up without an answer. Check that it is running" in str(connection.reason)
        assert broker.levels[:6] == [5, 4, 5, 4, 5, 4]

    asyncio.run(scenario())


def test_version_that_has_served_is_kept_when_the_broker_hangs_up_later() -> None:
    async def scenario() -> None:
        async with ScriptedBroker() as broker:
            device = Device(broker.port)
            async with _opened(device):
                await until(device.is_connected)
                broker.hangs_up_on = {4, 5}
                broker.hang_up()
                await until(lambda: broker.connections >= 4)
                broker.hangs_up_on = set()
                await until(device.is_connected)
        assert set(broker.levels) == {5}

    asyncio.run(scenario())


def test_closed_connection_is_not_tried_again() -> None:
    async def scenario() -> None:
        async with ScriptedBroker() as broker:
            device = Device(broker.port)
            async with _opened(device):
                await until(device.is_connected)
                broker.hang_up()
                await until(lambda: not device.is_connected())
            retries_would_be_over = time.monotonic() + 5 * _QUICK.max_retry_s
            await until(lambda: time.monotonic() > retries_would_be_over)
            assert broker.connections == 1

    asyncio.run(scenario())


def test_close_is_quick_when_the_broker_is_there() -> None:
    async def scenario() -> None:
        async with ScriptedBroker() as broker:
            device = Device(broker.port)
            device.connection.open()
            await until(device.is_connected)
            began = time.monotonic()
            await device.connection.close(timeout_s=30)
            assert time.monotonic() - began < 0.8, "paho looks up only once a second by itself"

    asyncio.run(scenario())


def test_close_keeps_its_time_while_the_network_does_not_answer() -> None:
    """A listener whose backlog is full answers no SYN: connect() waits for paho's five seconds."""

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
        assert time.monotonic() - began < 1, "the loop's end waits for nothing either"


@pytest.mark.parametrize("host", ["", "broker..local", "a" * 64])
def test_host_that_cannot_be_a_name_is_refused_at_once(host: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match=r"mqtt.host is .*give the broker's name or address"):
            Device(free_port(), host=host)

    asyncio.run(scenario())
