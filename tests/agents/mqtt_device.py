"""Device: a connection to a broker that records its events and retries quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peers.subscriber import until

from agent.mqtt.link.connection import Connection, ConnectionListener
from agent.mqtt.link.endpoint import Endpoint, Timeouts
from agent.mqtt.message import Incoming, Message

if TYPE_CHECKING:
    from agent.security.tls import Tls

QUICK = Timeouts(answer_s=0.3, first_retry_s=0.02, max_retry_s=0.05, refused_retry_s=0.2)


class Device(ConnectionListener):
    """`async with` opens, yields and closes the connection. `fraction` replaces the random number."""

    def __init__(
        self, port: int, tls: Tls | None = None, *, timeouts: Timeouts = QUICK, fraction: float = 1.0, **options: Any
    ) -> None:
        self.events: list[str] = []
        self.acknowledgments: list[int] = []
        self.incoming: list[Incoming] = []
        will = Message("edge-agent/pi-1/status", b"offline")
        values = {"host": "127.0.0.1", "username": None, "password": None, "client_id": "pi-1"} | options
        endpoint = Endpoint(port=port, will=will, tls=tls, **values)
        self.connection = Connection(endpoint, listener=self, timeouts=timeouts, fraction=lambda: fraction)

    async def __aenter__(self) -> Connection:
        self.connection.open()
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close(timeout_s=5)

    def is_connected(self) -> bool:
        return self.connection.state == "connected"

    def connected(self) -> None:
        self.events.append("on")

    def disconnected(self) -> None:
        self.events.append("off")

    def acknowledged(self, number: int, failure: str | None) -> None:
        self.acknowledgments.append(number)

    def received(self, incoming: Incoming) -> None:
        self.incoming.append(incoming)


async def expect(connection: Connection, state: str, words: str) -> None:
    """`words` is the part of the reason after the broker's address."""
    await until(lambda: connection.state != "connecting")
    address = connection.endpoint.address
    assert [connection.state, connection.reason] == [state, f"The MQTT broker at {address} {words}"]
