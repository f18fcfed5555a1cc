"""Restrictions: what the broker does not accept from this agent, in sentences."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.mqtt.link.failure import sentence
from agent.mqtt.message import CLOSED, TOO_LARGE

if TYPE_CHECKING:
    from agent.mqtt.link.endpoint import Endpoint
    from agent.mqtt.link.terms import Terms

_MOST = 3  # sentences in `reason`
_LARGER = "Raise the broker's limit for the size of a message (mosquitto: max_packet_size)"
_logger = logging.getLogger(__name__)


class Restrictions:
    """Logs each kind once, with the first topic it concerns. `reason` describes the current connection."""

    def __init__(self, endpoint: Endpoint, *, base: str) -> None:
        self._endpoint = endpoint
        self._base = base
        self._found: dict[tuple[str, str], str] = {}
        self._logged: set[tuple[str, str]] = set()

    @property
    def reason(self) -> str | None:
        return " ".join(list(self._found.values())[:_MOST]) or None

    def connected(self, terms: Terms) -> None:
        """Forgets those of the previous connection."""
        self._found.clear()
        if terms.qos == 0:
            self._add("qos", "", "supports only QoS 0", "Results can be lost in a broken connection. Allow QoS 1.")
        if not terms.retain:
            self.without_retain()
        if not terms.will:
            topic = self._endpoint.will.topic
            self._add("will", "", f"refuses the last will on {topic}", f"{self._allow(topic)}.")

    def without_retain(self) -> None:
        remedy = "New subscribers do not see the current state. Allow retained messages (mosquitto: retain_available)."
        self._add("retain", "", "does not accept retained messages", remedy)

    def refused(self, topic: str, size: int, failure: str, *, limit: int | None) -> None:
        """A message of `size` bytes was not delivered; `limit` is the largest packet, if the broker announced it."""
        alternative = _alternative(topic)
        if failure == TOO_LARGE and limit is not None:
            self._add(failure, topic, _announced(topic, size, limit), f"It is left out. {_LARGER}{alternative}.")
        elif failure == TOO_LARGE:
            remedy = f"Such messages are left out. {_LARGER}, or allow the agent's MQTT user to publish there"
            self._add(failure, topic, _closes(topic, size), f"{remedy}{alternative}.")
        elif failure == CLOSED:
            self._add(failure, topic, _closes(topic, size), f"It is left out. {self._allow(topic)}{alternative}.")
        else:
            what = f"discards the message on {topic}: {failure}"
            self._add(failure, topic, what, f"{self._allow(topic)}{alternative}.")

    def shortened(self, topic: str, size: int, *, limit: int | None) -> None:
        what = _closes(topic, size) if limit is None else _announced(topic, size, limit)
        self._add("shortened", topic, what, f"It is shortened. {_LARGER}{_alternative(topic)}.")

    def _add(self, kind: str, topic: str, what: str, remedy: str) -> None:
        key = kind, self._family(topic)
        if key not in self._found:
            self._found[key] = sentence(self._endpoint, what, None, remedy)
        if key not in self._logged:
            self._logged.add(key)
            _logger.warning("%s", self._found[key])

    def _family(self, topic: str) -> str:
        """Topics that are reported together: the same of each camera or model."""
        match topic.removeprefix(f"{self._base}/").split("/"):
            case ["models", _]:
                return "models"
            case ["cameras", _, kind, *_]:
                return kind
        return topic

    def _allow(self, topic: str) -> str:
        where = f"below {self._base}" if topic.startswith(f"{self._base}/") else f"to {topic}"
        return f"Allow the agent's MQTT user to publish {where}"


def _announced(topic: str, size: int, limit: int) -> str:
    return f"accepts at most {limit} bytes, and the message on {topic} has {size}"


def _closes(topic: str, size: int) -> str:
    return f"closes the connection after a message of {size} bytes on {topic}"


def _alternative(topic: str) -> str:
    """The setting without which the agent does not publish to the topic."""
    if topic.startswith("homeassistant/"):
        return ", or set mqtt.discovery to false"
    if topic.endswith("/result"):
        return ", or set mqtt.results to off"
    return ", or set snapshots of this camera to false" if topic.endswith("/snapshot") else ""
