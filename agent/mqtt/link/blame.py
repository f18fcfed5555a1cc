"""Blame: finds the messages after which the broker closes the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.mqtt.message import CLOSED, TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Sequence

_STRIKES = 3
_AGAIN_AFTER_S = 3600.0
_SEARCH_S = 10.0
_MAX_TOPICS = 1000


@dataclass(frozen=True, slots=True)
class Suspect:
    """A message or subscription that was not acknowledged when the connection ended; `size` is the payload's."""

    topic: str
    size: int
    retain: bool = False


@dataclass(slots=True)
class _Topic:
    """`accepted` and `struck` are sizes: the largest that passed, and the largest in flight when a link broke."""

    accepted: int = -1
    struck: int = -1
    strikes: int = 0
    refusals: int = 0
    refused_from: int | None = None
    since_s: float = 0.0


class Blame:
    """An MQTT 3.1.1 broker announces no limit and names no reason: it only closes the connection.

    A message that is not larger than one which passed on its topic is innocent. If several suspects are in flight at
    two breaks, `searching` asks for one message at a time. A message in flight at three breaks, alone at the last one,
    is refused: first from its size on, and the whole topic if a smaller one breaks the link too and none ever passed.
    A refusal ends after an hour, as someone may have changed the broker.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._largest = -1
        self._retained_passed = False
        self._doubted: str | None = None  # the topic whose message is now sent without the retain flag
        self._opened_s = 0.0
        self.searching = False
        self._unretained_s: float | None = None

    def opened(self, now_s: float) -> None:
        self._opened_s = now_s

    def passed(self, suspect: Suspect, now_s: float) -> None:
        """The broker acknowledged it."""
        topic = self._topic(suspect.topic)
        topic.accepted = max(topic.accepted, suspect.size)
        self._largest = max(self._largest, suspect.size)
        self._retained_passed = self._retained_passed or suspect.retain
        if suspect.topic == self._doubted:
            self._doubted = None
        if suspect.size >= topic.struck:
            topic.strikes, topic.struck = 0, -1
        if now_s - self._opened_s > _SEARCH_S:
            self.searching = False

    def broke(self, in_flight: Sequence[Suspect], now_s: float) -> bool:
        """The broker closed the connection; returns whether one of these may be the reason."""
        suspects = [each for each in in_flight if each.size > self._topic(each.topic).accepted]
        for name in {each.topic for each in suspects}:
            self._topic(name).strikes += 1
        for each in suspects:
            topic = self._topic(each.topic)
            topic.struck = max(topic.struck, each.size)
        if len(suspects) > 1 and any(self._topic(each.topic).strikes > 1 for each in suspects):
            self.searching = True
        if len(suspects) == 1 and self._topic(suspects[0].topic).strikes >= _STRIKES:
            self._refuse(suspects[0], now_s)
        return bool(suspects)

    def may_retain(self, now_s: float) -> bool:
        """False if the broker seems to close the connection after any retained message."""
        if self._unretained_s is not None and now_s - self._unretained_s > _AGAIN_AFTER_S:
            self._unretained_s = self._doubted = None
        return self._unretained_s is None

    def refusal(self, topic_name: str, size: int, now_s: float) -> str | None:
        """Why a message must not be sent; None if it may be."""
        topic = self._topics.get(topic_name)
        if topic is None or topic.refused_from is None or size < topic.refused_from:
            return None
        if now_s - topic.since_s > _AGAIN_AFTER_S:
            topic.refused_from = None
            return None
        return TOO_LARGE if size > self._largest else CLOSED

    def _refuse(self, suspect: Suspect, now_s: float) -> None:
        topic = self._topic(suspect.topic)
        topic.strikes = _STRIKES - 1  # one more break is enough for a smaller message on this topic
        if suspect.retain and not self._retained_passed:
            self._unretained_s, self._doubted = now_s, suspect.topic
            return
        if suspect.topic == self._doubted:  # the flag was not the reason
            self._unretained_s = self._doubted = None
        topic.refusals += 1
        topic.refused_from = suspect.size if topic.refusals == 1 or topic.accepted >= 0 else 0
        topic.since_s = now_s

    def _topic(self, name: str) -> _Topic:
        """Forgets the topic that was used least recently: clients choose the topics of answers."""
        self._topics[name] = topic = self._topics.pop(name, None) or _Topic()
        if len(self._topics) > _MAX_TOPICS:
            del self._topics[next(iter(self._topics))]
        return topic
