from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from peers.mosquitto import Mosquitto, free_port
from peers.scripted_broker import ScriptedBroker
from peers.subscriber import until

from agent.errors import ConfigError
from agent.mqtt.link.connection import Connection
from agent.mqtt.link.endpoint import Endpoint, Timeouts
from agent.mqtt.message import Incoming, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.mqtt.link.paho_client import MqttVersion

_QUICK = Timeouts(answer_s=0.3, first_retry_s=0.02, max_retry_s=0.05, refused_retry_s=0.2)

# paho forgets a plain socket on which WebSockets do not come about; it is closed with the last reference.
_LEAKS = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


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
        timeouts: Timeouts = _QUICK,
        fraction: float = 1.0,
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
            timeouts=timeouts,
            fraction=lambda: fraction,
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


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_first_connect_is_retried_until_the_broker_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Mosquitto(tmp_path)

    caplog.set_level(logging.INFO)
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
    logged = [record for record in caplog.records if record.name == "agent.mqtt.link.connection"]
    assert [record.levelname for record in logged] == ["WARNING", "INFO"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_wrong_password_is_told_in_a_sentence_and_recovers_when_the_broker_learns_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, users={"pi": "right"}) as broker:
        async with _opened(Device(broker.port, username="pi", password="new")) as connection:
            await until(lambda: connection.state == "refused")
            assert connection.reason == (
                f"The MQTT broker at 127.0.0.1:{broker.port} refuses this agent: Not authorized. "
                "Correct mqtt.username and mqtt.password_file (of the service /etc/edge-agent/mqtt_password) "
                "and restart, or give this user access at the broker."
            )
            await until(lambda: broker.log.count("not authorised") >= 3)
            broker.set_password("pi", "new")
            await until(lambda: connection.state == "connected")
            assert [connection.state, connection.reason] == ["connected", None]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "a refusal is logged once, not at each retry"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_lost_connection_is_made_again(tmp_path: Path) -> None:
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


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_broker_that_throws_messages_away_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
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


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            0x8E,
            ": Session taken over. Another client has the same mqtt.client_id: give each device a device.id",
        ),
        (0x8B, ": Server shutting down. If this repeats, check the network"),
        (0x9E, ": Shared subscription not supported. Leave mqtt.shared_classify out."),
        (None, ". If this repeats, check the network."),
    ],
)
async def test_lost_connection_is_told_with_what_the_broker_said(code: int | None, words: str) -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=30))
        async with _opened(device) as connection:
            await until(device.is_connected)
            broker.hang_up(reason=code)
            await until(lambda: not device.is_connected())
            assert f"ended the connection{words}" in str(connection.reason)


@pytest.mark.anyio
@pytest.mark.parametrize(("first", "level", "protocol"), [(5, 5, "3.1.1"), (311, 4, "5")])
async def test_other_version_is_tried_at_once_when_the_broker_hangs_up_on_one(
    first: MqttVersion, level: int, protocol: str
) -> None:
    async with ScriptedBroker(hangs_up_on={level}) as broker:
        device = Device(broker.port, version=first)
        async with _opened(device) as connection:
            await until(device.is_connected)
            assert connection.protocol == protocol
            assert broker.levels == [level, 9 - level]
            assert device.told == ["on"]


@pytest.mark.anyio
async def test_no_broker_behind_the_port_is_told_in_a_sentence() -> None:
    async with ScriptedBroker(hangs_up_on={4, 5}) as broker, _opened(Device(broker.port)) as connection:
        await until(lambda: len(broker.levels) >= 6)
        assert connection.state == "unreachable"
        assert "hangs up without an answer. Check that it is running" in str(connection.reason)
    assert broker.levels[:6] == [5, 4, 5, 4, 5, 4]


@pytest.mark.anyio
async def test_version_is_kept_when_the_network_is_gone_for_the_other_one() -> None:
    servers: list[asyncio.Server] = []

    async def hang_up_for_good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers[0].close()
        await reader.read(1)
        writer.close()

    servers.append(await asyncio.start_server(hang_up_for_good, "127.0.0.1", 0))
    async with _opened(Device(servers[0].sockets[0].getsockname()[1])) as connection:
        await until(lambda: "cannot be reached" in str(connection.reason))
        assert connection._version == 5


@pytest.mark.anyio
async def test_version_that_has_served_is_kept_when_the_broker_hangs_up_later() -> None:
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


@pytest.mark.anyio
async def test_closed_connection_is_not_tried_again() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        async with _opened(device):
            await until(device.is_connected)
            broker.hang_up()
            await until(lambda: not device.is_connected())
        retries_would_be_over = time.monotonic() + 5 * _QUICK.max_retry_s
        await until(lambda: time.monotonic() > retries_would_be_over)
        assert broker.connections == 1


@pytest.mark.anyio
async def test_close_is_quick_when_the_broker_is_there() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        device.connection.open()
        await until(device.is_connected)
        began = time.monotonic()
        await device.connection.close(timeout_s=30)
        assert time.monotonic() - began < 0.8, "paho looks up only once a second by itself"


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


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["", "broker..local", "a" * 64])
async def test_host_that_cannot_be_a_name_is_refused_at_once(host: str) -> None:
    with pytest.raises(ConfigError, match=r"mqtt.host is .*give the broker's name or address"):
        Device(free_port(), host=host)


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("version", [5, 311])
async def test_broker_waits_for_an_acknowledgement_before_the_next_message(
    tmp_path: Path, version: MqttVersion
) -> None:
    with Mosquitto(tmp_path, config="max_inflight_messages 1") as broker:
        device = Device(broker.port, version=version, receive_maximum=1)
        async with _opened(device) as connection:
            await until(device.is_connected)
            connection.subscribe("a/+", "b")
            for topic in ("a/1", "b", "c", "a/2"):
                connection.publish(Message(topic, topic.encode(), retain=True))
            await until(lambda: len(device.acknowledged) == 4)
            assert [incoming.topic for incoming in device.received] == ["a/1"], "one at a time"
            connection.acknowledge(device.received[0])
            await until(lambda: len(device.received) == 2)
            connection.acknowledge(device.received[1])
            await until(lambda: len(device.received) == 3)
            assert [incoming.payload for incoming in device.received] == [b"a/1", b"b", b"a/2"]
            assert not device.received[0].retained


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_request_and_its_answer_carry_the_properties_of_mqtt_5(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with _opened(device) as connection:
            await until(device.is_connected)
            connection.subscribe("#")
            command = ["-t", "ask", "-m", "x", "-D", "publish", "response-topic", "answer"]
            await _publish(broker.port, *command, "-D", "publish", "correlation-data", "17", "-q", "1")
            await until(lambda: device.received)
            request = device.received[0]
            assert [request.response_topic, request.correlation] == ["answer", b"17"]
            connection.publish(Message("answer", b"y", correlation=request.correlation))
            await until(lambda: len(device.received) == 2)
            assert [device.received[1].response_topic, device.received[1].correlation] == [None, b"17"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_retained_message_is_told_from_a_new_one_and_nothing_comes_after_unsubscribing(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with _opened(device) as connection:
            await until(device.is_connected)
            connection.publish(Message("a", b"kept", retain=True))
            connection.subscribe("a")
            await until(lambda: device.received)
            connection.acknowledge(device.received[0])
            connection.unsubscribe("a")
            connection.publish(Message("a", b"new"))
            await until(lambda: len(device.acknowledged) == 2)
    assert [(incoming.payload, incoming.retained) for incoming in device.received] == [(b"kept", True)]


@pytest.mark.anyio
async def test_acknowledgement_is_sent_for_qos_1_and_only_on_the_connection_that_brought_the_message() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port)
        async with _opened(device) as connection:
            await until(device.is_connected)
            broker.deliver("a", b"0")
            broker.deliver("a", b"1", number=7)
            await until(lambda: len(device.received) == 2)
            for incoming in device.received:
                connection.acknowledge(incoming)
            await until(lambda: broker.acknowledged == [7])
            broker.hang_up()
            await until(lambda: not device.is_connected())
            connection.acknowledge(device.received[1])
            await until(device.is_connected)
            connection.acknowledge(device.received[1])
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
        async with _opened(device) as connection:
            for count in (1, 2, 3):
                await until(device.is_connected)
                connection.subscribe("a/#")
                await until(lambda count=count: len(broker.subscribed) == count)  # type: ignore[misc]
                connection.publish(Message("after", b""))
                await until(lambda: broker.published)
                broker.acknowledge(broker.published.pop())
                await until(lambda count=count: len(device.acknowledged) == count)  # type: ignore[misc]
                assert [connection.state, connection.reason] == ["connected", None]
                broker.hang_up()
                await until(lambda: not device.is_connected())
    refusals = [line for line in caplog.messages if "subscription" in line]
    words = f"refuses the subscription to a/#: {reason}. Allow its user to read a/#."
    assert refusals == [f"The MQTT broker at 127.0.0.1:{broker.port} {words}"]


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_flood_of_qos_0_is_cut_down_while_the_loop_is_busy(tmp_path: Path) -> None:
    flood = "".join(f"{number}\n" for number in range(500))
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port)
        async with _opened(device) as connection:
            await until(device.is_connected)
            connection.subscribe("flood", "asked")
            connection.publish(Message("ready", b""))
            await until(lambda: device.acknowledged)
            command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port)]
            subprocess.run([*command, "-t", "flood", "-l"], input=flood, text=True, check=True)  # noqa: ASYNC221
            subprocess.run([*command, "-t", "asked", "-m", "", "-q", "1"], check=True)  # noqa: ASYNC221
            time.sleep(0.3)  # noqa: ASYNC251  (the loop is to be busy while the broker sends)
            await until(lambda: device.received and device.received[-1].topic == "asked")
    assert [incoming.payload for incoming in device.received[:64]] == [b"%d" % number for number in range(64)]
    assert len(device.received) == 65


@pytest.mark.anyio
async def test_broker_is_told_how_much_it_may_send() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, receive_maximum=3, max_packet_bytes=70000)
        async with _opened(device):
            await until(device.is_connected)
    assert b"\x21\x00\x03" in broker.connects[0], "Receive Maximum (MQTT 5, 3.1.2.11.3)"
    assert b"\x27\x00\x01\x11\x70" in broker.connects[0], "Maximum Packet Size (3.1.2.11.4)"


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_broker_tells_how_much_it_takes_at_once(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, config="max_inflight_messages 5") as broker:
        device = Device(broker.port)
        async with _opened(device) as connection:
            await until(device.is_connected)
            assert connection.receive_maximum == 5


@pytest.mark.anyio
@pytest.mark.parametrize("idle", [True, False])
async def test_link_that_swallows_is_found_out_within_one_and_a_half_keep_alives(idle: bool) -> None:  # noqa: FBT001
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=30), keepalive_s=2)
        async with _opened(device) as connection:
            await until(device.is_connected)
            broker.swallows = True
            swallowed_s = time.monotonic()
            if not idle:
                connection.publish(Message("a", b"b"))
            await until(lambda: not device.is_connected())
            assert time.monotonic() - swallowed_s < (3 if idle else 1.5)
            assert device.told == ["on", "off"]
            assert "does not answer any more. If this repeats, check the network." in str(connection.reason)


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_stopped_broker_is_found_out_and_gets_everything_when_it_goes_on(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        device = Device(broker.port, keepalive_s=2)
        async with _opened(device) as connection:
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
            await until(lambda: device.acknowledged == [number])


@pytest.mark.anyio
async def test_slow_broker_keeps_its_connection_as_long_as_it_acknowledges() -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, keepalive_s=1)
        async with _opened(device) as connection:
            await until(device.is_connected)
            for _ in range(5):
                connection.publish(Message("a", b"b"))
            await until(lambda: len(broker.published) == 5)
            for message in broker.published:
                await asyncio.sleep(0.3)
                broker.acknowledge(message)
            await until(lambda: len(device.acknowledged) == 5)
            assert device.told == ["on"]


@pytest.mark.anyio
@pytest.mark.parametrize("fraction", [0.0, 1.0])
async def test_pauses_double_and_are_cut_by_up_to_a_half(fraction: float, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedBroker() as broker:
        device = Device(
            broker.port, timeouts=Timeouts(first_retry_s=0.02, max_retry_s=0.1, proven_s=60), fraction=fraction
        )
        pauses = _record_pauses(monkeypatch)
        async with _opened(device):
            for _ in range(5):
                await until(device.is_connected)
                broker.hang_up()
                await until(lambda: not device.is_connected())
    nominal = [0.02, 0.04, 0.08, 0.1, 0.1]
    assert pauses == pytest.approx([pause * (0.5 + 0.5 * fraction) for pause in nominal], abs=0.002)


@pytest.mark.anyio
async def test_pauses_begin_anew_after_a_connection_that_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedBroker() as broker:
        device = Device(broker.port, timeouts=Timeouts(first_retry_s=0.02, max_retry_s=1, proven_s=0.2))
        pauses = _record_pauses(monkeypatch)
        async with _opened(device):
            for lasts_s in (0.0, 0.0, 0.25, 0.0):
                await until(device.is_connected)
                await asyncio.sleep(lasts_s)
                broker.hang_up()
                await until(lambda: not device.is_connected())
    assert pauses == pytest.approx([0.02, 0.04, 0.02, 0.04], abs=0.002)


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("version", [5, 311])
async def test_second_client_with_the_same_id_is_recognised(tmp_path: Path, version: MqttVersion) -> None:
    """Mosquitto 2.0.11 tells neither version that a session was taken over."""
    told = "ended the connection. It goes on so: another client probably has the same mqtt.client_id."
    with Mosquitto(tmp_path) as broker:
        devices = [Device(broker.port, version=version), Device(broker.port, version=version)]
        async with _opened(devices[0]), _opened(devices[1]):
            for device in devices:
                await until(lambda device=device: told in str(device.connection.reason))  # type: ignore[misc]
                assert device.told[:6] == ["on", "off"] * 3


@pytest.mark.anyio
@_LEAKS
async def test_bytes_that_paho_cannot_read_are_told_and_do_not_stop_the_retries() -> None:
    """Paho looks for a blank after the colon, and its thread would die of an IndexError."""
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
        async with _opened(device) as connection:
            await until(lambda: tries >= 3)
            assert "does not speak MQTT: IndexError" in str(connection.reason)


async def _publish(port: int, *arguments: str) -> None:
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-V", "mqttv5", *arguments]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


def _record_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    retry_in = Connection._retry_in

    def record(connection: Connection, pause_s: float) -> None:
        retry_in(connection, pause_s)
        assert connection._retry is not None
        pauses.append(connection._retry.when() - asyncio.get_running_loop().time())

    monkeypatch.setattr(Connection, "_retry_in", record)
    return pauses
