"""Message: a message to the broker. Incoming: a message from it. MqttVersion: the protocol version."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

MqttVersion = Literal[5, 311]

# Why a message was not sent; the first is also MQTT 5's name of this reason.
TOO_LARGE = "Packet too large"
CLOSED = "The broker closes the connection"

# Valid in a file name but not in a topic: mosquitto disconnects a client that sends a control or non-character.
_UNSAFE_IN_TOPIC = re.compile("[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MAX_TOPIC = 1024
_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps() makes an encoder at each call


@dataclass(frozen=True, slots=True)
class Message:
    """`correlation` is the MQTT 5 Correlation Data of an answer.

    `short` is a payload to send instead if the broker does not accept one as large as `payload`.
    """

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    short: bytes | None = None

    def packet_bytes(self, version: MqttVersion, *, qos: int = 1) -> int:
        """The size of the PUBLISH packet (MQTT 5, 3.3), which a broker's Maximum Packet Size limits."""
        correlation = 0 if self.correlation is None else 3 + len(self.correlation)
        properties = _with_length(correlation) if version == 5 else 0  # 3.1.1 has none
        packet_id = 2 if qos else 0
        return 1 + _with_length(2 + len(self.topic.encode()) + packet_id + properties + len(self.payload))


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message received for a subscription. `receipt` is for Connection.acknowledge().

    `retained` is true if the broker had stored the message. `response_topic` and `correlation` are the MQTT 5
    properties of a request.
    """

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None
    receipt: tuple[int, int, int]


def _with_length(size: int) -> int:
    """The bytes of a part and of its length, which has seven bits per byte."""
    return size + max(1, -(-size.bit_length() // 7))


def is_topic(text: str) -> bool:
    """Whether a client can publish to this topic."""
    return 0 < len(text) <= _MAX_TOPIC and not _UNSAFE_IN_TOPIC.search(text.replace("/", ""))


def topic_level(name: str) -> str:
    """Returns a model's name as one level of a topic, the same in every run; a changed name gets a checksum.

    Without the checksum, `a+b` and `a_b` would share a topic. The name that needs no change keeps the plain topic.
    """
    safe = _UNSAFE_IN_TOPIC.sub("_", name)
    return safe if safe == name else f"{safe}_{checksum(name)}"


def checksum(name: str) -> str:
    """Eight hexadecimal digits that tell apart names which look alike after characters were replaced."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def compact_json(document: dict[str, Any]) -> bytes:
    return _TO_JSON(document).encode()
