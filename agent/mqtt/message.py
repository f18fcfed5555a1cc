"""Message: what goes to the broker; Incoming: what comes from it; MqttVersion: how."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

MqttVersion = Literal[5, 311]

# A file may be named so; a topic must not, and mosquitto hangs up on a control or non-character in one.
_UNSAFE_IN_TOPIC = re.compile("[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MAX_TOPIC = 1024


@dataclass(frozen=True, slots=True)
class Message:
    """`payload` is encoded once, however often it is sent; `correlation` is MQTT 5's Correlation Data of an answer."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of a subscription. `retained`: the broker had kept it. `receipt` is for Connection.acknowledge().

    `response_topic` and `correlation` are MQTT 5's properties of a request.
    """

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None
    receipt: tuple[int, int, int]


def is_topic(text: str) -> bool:
    """Whether a broker lets somebody publish to it."""
    return 0 < len(text) <= _MAX_TOPIC and not _UNSAFE_IN_TOPIC.search(text.replace("/", ""))


def topic_level(name: str) -> str:
    """A model's name as one level of a topic."""
    return _UNSAFE_IN_TOPIC.sub("_", name)


def compact_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
