"""Endpoint: which MQTT broker, how it is reached, and how long the agent waits for it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.mqtt.message import Message


@dataclass(frozen=True, slots=True)
class Tls:
    """Without `ca_file` the system's authorities count. `cert_file` and `key_file` prove to the broker who we are."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; the broker's certificate and its host name are checked. Raises ConfigError."""
        # Not create_default_context(): from Python 3.13 on it refuses many authorities that people made themselves.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _Socket
        self._load_authorities(context)
        self._load_own_certificate(context)
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        if self.ca_file is None:
            context.load_default_certs()
            return
        _check_pem("mqtt.ca_file", self.ca_file, b"CERTIFICATE-----", "certificate")
        try:
            context.load_verify_locations(self.ca_file)
        except ssl.SSLError:
            raise ConfigError(f"mqtt.ca_file {self.ca_file} is damaged: copy it again.") from None

    def _load_own_certificate(self, context: ssl.SSLContext) -> None:
        if self.cert_file is None:
            return
        key_file = self.key_file or self.cert_file
        _check_pem("mqtt.cert_file", self.cert_file, b"CERTIFICATE-----", "certificate")
        _check_pem("mqtt.key_file", key_file, b"PRIVATE KEY-----", "private key")
        try:
            # Without any password OpenSSL would ask for that of an encrypted key on the terminal.
            context.load_cert_chain(self.cert_file, key_file, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError(
                    f"mqtt.key_file {key_file} is not the key of mqtt.cert_file {self.cert_file}: give the two that "
                    "were made together."
                ) from None
            raise ConfigError(
                f"mqtt.cert_file {self.cert_file} or mqtt.key_file {key_file} is damaged or encrypted: copy it again, "
                "and give the key without a passphrase."
            ) from None


class _Socket(ssl.SSLSocket):
    """paho forgets to close one whose handshake fails."""

    def do_handshake(self, *arguments: Any) -> None:
        try:
            super().do_handshake(*arguments)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is and who connects.

    Within one and a half times `keepalive_s` it is known that a broker answers no more. MQTT 5 tells it to send at
    most `receive_maximum` messages of QoS 1 without an acknowledgement, and none above `max_packet_bytes`; MQTT 3.1.1
    cannot.
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
            raise ConfigError(f"mqtt.host is {self.host!r}, which is no host name: give the broker's name or address.")
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


def _check_pem(setting: str, file: Path, mark: bytes, content: str) -> None:
    """OpenSSL does not say which of two files it means."""
    try:
        there = mark in file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} {file} cannot be read: {error.strerror}.") from None
    if not there:
        raise ConfigError(f"{setting} {file} holds no {content} in PEM format.")
