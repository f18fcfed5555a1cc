from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from agents.mqtt_device import Device, expect
from peers.certificates import Authority
from peers.mosquitto import Mosquitto, free_port
from peers.subscriber import until

from agent.mqtt.link.endpoint import Timeouts
from agent.mqtt.message import Message
from agent.security.tls import Tls

if TYPE_CHECKING:
    from pathlib import Path


_QUICK = Timeouts(answer_s=2, first_retry_s=0.05, max_retry_s=0.1, refused_retry_s=0.2)
_Device = partial(Device, timeouts=_QUICK)

# paho does not close the socket if the WebSocket handshake fails; it is closed with the last reference.
_LEAKS = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.anyio
@pytest.mark.mosquitto
@pytest.mark.parametrize("tls", [False, True])
async def test_websockets_carry_mqtt_with_and_without_tls(tls: bool, tmp_path: Path) -> None:  # noqa: FBT001
    authority, port = Authority(tmp_path), free_port()
    options = authority.sign("broker").listener() if tls else ""
    with Mosquitto(tmp_path, config=f"listener {port} 127.0.0.1\nprotocol websockets\n{options}"):
        device = _Device(port, Tls(authority.ca_file, section="mqtt") if tls else None, websocket_path="/mqtt")
        async with device as connection:
            await until(lambda: connection.state == "connected")
            assert connection.protocol == "5"
            number = connection.publish(Message("a", b"b" * 100_000))
            await until(lambda: device.acknowledgments == [number])


@pytest.mark.anyio
@pytest.mark.mosquitto
async def test_websockets_lose_no_message_when_the_network_accepts_it_in_parts(tmp_path: Path) -> None:
    port = free_port()
    with Mosquitto(tmp_path, config=f"listener {port} 127.0.0.1\nprotocol websockets") as broker:
        device = _Device(port, None, websocket_path="/mqtt")
        async with device as connection:
            await until(lambda: connection.state == "connected")
            broker.pause()
            numbers = [connection.publish(Message("a", bytes(size))) for size in (3 << 20, 10, 1 << 20, 10)]
            await asyncio.sleep(0.5)  # fills the kernel's buffer for a broker that does not read
            broker.resume()
            await until(lambda: device.acknowledgments == numbers)


@pytest.mark.anyio
@_LEAKS
@pytest.mark.mosquitto
async def test_port_without_websockets_is_reported(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with _Device(broker.port, None, websocket_path="/mqtt") as connection:
            words = "Correct mqtt.websocket_path and mqtt.port, or remove mqtt.websocket_path."
            await expect(
                connection,
                "unreachable",
                f"does not accept WebSockets on this port: WebSocket handshake error. {words}",
            )
