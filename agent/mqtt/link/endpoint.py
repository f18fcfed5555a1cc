"""Endpoint: the address of the MQTT broker and how to connect. Timeouts: how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.mqtt.message import Message, MqttVersion
    from agent.security.tls import Tls


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The broker's address and the client's credentials.

    `version` is the MQTT version to try first. A broker that stops answering is detected within one and a half times
    `keepalive_s`. With MQTT 5 the broker sends at most `receive_maximum` unacknowledged QoS 1 messages, and none
    larger than `max_packet_bytes`; MQTT 3.1.1 has no such limits.
    """

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    client_id: str
    will: Message
    version: MqttVersion = 5
    tls: Tls | None = None
    websocket_path: str | None = None
    receive_maximum: int = 8
    max_packet_bytes: int | None = 32 << 20
    keepalive_s: int = 30

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def check(self) -> None:
        """Raises ConfigError for an invalid host name and for unusable certificates."""
        try:
            usable = bool(self.host.encode("idna"))
        except UnicodeError:
            usable = False
        if not usable:
            raise ConfigError(
                f"mqtt.host is {self.host!r}, which is not a valid host name. Give the broker's name or address."
            )
        if self.tls is not None:
            self.tls.context()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the network, for the answer to a CONNECT, and before the next try.

    The pauses double from `first_retry_s` to `max_retry_s`, and start at `first_retry_s` again after a connection that
    lasted `proven_s`. After a refusal the pause is `refused_retry_s`. Each pause is shortened at random by up to a
    half, so that many devices do not connect at the same moment. `answer_s` is necessary for amqtt, which neither
    answers an MQTT 5 CONNECT with a last will nor closes the connection.
    """

    answer_s: float = 10.0
    first_retry_s: float = 1.0
    max_retry_s: float = 15.0
    refused_retry_s: float = 30.0
    proven_s: float = 30.0
    network_s: float = 60.0
