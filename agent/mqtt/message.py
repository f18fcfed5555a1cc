"""Message: a message to the broker. Incoming: a message from it. MqttVersion: the protocol version."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

MqttVersion = Literal[5, 311]

# Valid in a file name but not in a topic: mosquitto disconnects a client that sends a control or non-character.
_UNSAFE_IN_TOPIC = re.compile("[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MAX_TOPIC = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """`correlation` is the MQTT 5 Correlation Data of an answer."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None


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
    return json.dumps(document, separators=(",", ":")).encode()
