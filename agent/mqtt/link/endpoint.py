"""Endpoint: which MQTT broker, how it is reached, and how long the agent waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.mqtt.message import Message, MqttVersion
    from agent.security.tls import Tls


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is and who connects.

    `version` is the MQTT version to try first. A broker that stops answering is noticed within one and a half times
    `keepalive_s`. With MQTT 5 the broker sends at most `receive_maximum` messages of QoS 1 without an acknowledgement,
    and none above `max_packet_bytes`; MQTT 3.1.1 has no such limits.
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
        """Raises ConfigError for a host that cannot be one, and for certificates that cannot be used."""
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
    """How long to wait for the network and the answer to a CONNECT, and before the next try.

    The pauses double from `first_retry_s` to `max_retry_s`, and start at `first_retry_s` again after a connection that
    lasted `proven_s`. After a refusal the pause is `refused_retry_s`. Each pause is shortened by up to a half at
    random, so that many devices do not connect at the same moment. amqtt needs `answer_s`: asked for MQTT 5 with a
    last will, it neither answers nor hangs up.
    """

    answer_s: float = 10.0
    first_retry_s: float = 1.0
    max_retry_s: float = 15.0
    refused_retry_s: float = 30.0
    proven_s: float = 30.0
    network_s: float = 60.0
