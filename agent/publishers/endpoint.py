"""Endpoint: which MQTT broker, how it is reached, and how patiently."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.publishers.message import Message


@dataclass(frozen=True, slots=True)
class Tls:
    """Without `ca_file` the system's authorities count. `cert_file` and `key_file` prove to the broker who we are."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; the broker's certificate and its host name are checked. Raises ConfigError."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"mqtt.ca_file {self.ca_file} cannot be used: {_reason(error)}.") from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                files = f"mqtt.cert_file {self.cert_file} with mqtt.key_file {self.key_file}"
                raise ConfigError(f"{files} cannot be used: {_reason(error)}.") from None
        return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is and who connects. Bounds of what it may send are MQTT 5's.

    After `keepalive_s` of silence it is asked for a sign of life. It sends at most `receive_maximum` messages of QoS 1
    without an acknowledgement.
    """

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    client_id: str
    will: Message
    tls: Tls | None = None
    websocket_path: str | None = None
    receive_maximum: int = 8
    max_packet_bytes: int = 32 << 20
    keepalive_s: int = 30

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def check_host(self) -> None:
        """Raises ConfigError: paho's thread would die of such a name without a word."""
        try:
            usable = bool(self.host.encode("idna"))
        except UnicodeError:
            usable = False
        if not usable:
            raise ConfigError(f"mqtt.host is {self.host!r}, which is no host name: give the broker's name or address.")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the answer to a CONNECT, and before the next try.

    The pauses double from `first_retry_s` to `max_retry_s`, and begin anew after a connection that lasted `proven_s`;
    a broker that said no is left alone for `refused_retry_s`. Each pause is cut by up to a half, so that many devices
    do not come at once. amqtt, asked for MQTT 5 with a last will, neither answers nor hangs up.
    """

    answer_s: float = 10.0
    first_retry_s: float = 1.0
    max_retry_s: float = 15.0
    refused_retry_s: float = 30.0
    proven_s: float = 30.0


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "the key is not the certificate's"}.get(error.reason or "", "it is no PEM file")
    return error.strerror or str(error)
