"""Outgoing: hands messages and subscriptions to the link, in a form that the broker accepts."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from agent.mqtt.link.blame import Blame, Suspect
from agent.mqtt.message import TOO_LARGE, Message

if TYPE_CHECKING:
    from agent.mqtt.link.link import Link
    from agent.mqtt.link.terms import Terms

_UNSUPPORTED = "The broker does not support it"
_UNANSWERED_S = 0.5  # a QoS 0 message counts as passed if the connection lasts so long


class OutgoingListener(Protocol):
    def published(self, number: int, message: Message, failure: str | None) -> None:
        """The broker has acknowledged the message, or discarded it, or it was not sent at all."""

    def shortened(self, message: Message) -> None:
        """The short payload of the message was sent."""

    def subscription_answered(self, topic_filter: str, failure: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Publish:
    number: int
    message: Message


@dataclass(frozen=True, slots=True)
class _Subscribe:
    filters: tuple[str, ...]


class Outgoing:
    """Sends everything at once, or one message at a time while Blame searches. Belongs to one event loop."""

    def __init__(self, listener: OutgoingListener) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._numbers = 0
        self._link: Link | None = None
        self._terms: Terms
        self._waiting: deque[_Publish | _Subscribe] = deque()
        self._sent: dict[int, tuple[int, Message]] = {}  # by the number that the link gave it
        self._in_flight: dict[int | str, Suspect] = {}  # by number or filter, in the order of sending
        self.blame = Blame()

    def open(self, link: Link, terms: Terms) -> None:
        self._link, self._terms = link, terms
        self.blame.opened(self._loop.time())

    def close(self) -> list[Suspect]:
        """The connection ended. Returns what was in flight, oldest first."""
        suspects = list(self._in_flight.values())
        self._link = None
        self._waiting.clear()
        self._sent.clear()
        self._in_flight.clear()
        return suspects

    def publish(self, message: Message) -> int:
        """Returns the number with which the listener will be called."""
        self._numbers += 1
        self._waiting.append(_Publish(self._numbers, message))
        self._pump()
        return self._numbers

    def subscribe(self, filters: tuple[str, ...]) -> None:
        allowed = tuple(each for each in filters if self._may_subscribe(each))
        if self.blame.searching:
            self._waiting.extend(_Subscribe((each,)) for each in allowed)
        elif allowed:
            self._waiting.append(_Subscribe(allowed))
        self._pump()

    def acknowledged(self, mid: int, failure: str | None) -> None:
        number, message = self._sent.pop(mid, (None, None))
        if number is None or message is None:
            return
        if self._terms.qos == 0:
            self._loop.call_later(_UNANSWERED_S, self._pass, number)
            if self.blame.searching:
                self._loop.call_later(_UNANSWERED_S, self._finish, number, message, failure)
                return
        else:
            self._pass(number)
        self._finish(number, message, failure)

    def subscribed(self, topic_filter: str, failure: str | None) -> None:
        self._pass(topic_filter)
        self._listener.subscription_answered(topic_filter, failure)
        self._pump()

    def _finish(self, number: int, message: Message, failure: str | None) -> None:
        self._listener.published(number, message, failure)
        self._pump()

    def _pass(self, key: int | str) -> None:
        suspect = self._in_flight.pop(key, None)
        if suspect is not None:
            self.blame.passed(suspect, self._loop.time())

    def _pump(self) -> None:
        while self._link is not None and self._waiting and not (self.blame.searching and self._in_flight):
            step = self._waiting.popleft()
            if isinstance(step, _Subscribe):
                self._in_flight.update((each, Suspect(each, 0)) for each in step.filters)
                self._link.subscribe(step.filters)
            else:
                self._send(step.number, step.message, self._link)

    def _send(self, number: int, message: Message, link: Link) -> None:
        fitting, failure = self._fitting(message, link)
        if failure is not None:
            self._loop.call_soon(self._finish, number, message, failure)
            return
        if fitting.payload is not message.payload:
            self._listener.shortened(message)
        self._in_flight[number] = Suspect(message.topic, len(fitting.payload), fitting.retain)
        mid = link.publish(fitting, qos=self._terms.qos)
        self._sent[mid] = number, message

    def _fitting(self, message: Message, link: Link) -> tuple[Message, str | None]:
        """Returns the message as the broker accepts it, and why it cannot be sent if that is so."""
        retain = message.retain and self._terms.retain and self.blame.may_retain(self._loop.time())
        whole = message if retain == message.retain else replace(message, retain=False)
        forms = [whole] if message.short is None else [whole, replace(whole, payload=message.short)]
        failures = [self._failure(form, link) for form in forms]
        if None in failures:
            return forms[failures.index(None)], None
        return whole, failures[-1]

    def _failure(self, message: Message, link: Link) -> str | None:
        limit = self._terms.max_packet_bytes
        if limit is not None and message.packet_bytes(link.version, qos=self._terms.qos) > limit:
            return TOO_LARGE
        return self.blame.refusal(message.topic, len(message.payload), self._loop.time())

    def _may_subscribe(self, topic_filter: str) -> bool:
        failure = self.blame.refusal(topic_filter, 0, self._loop.time())
        if failure is None and not self._terms.may_subscribe(topic_filter):
            failure = _UNSUPPORTED
        if failure is not None:
            self._listener.subscription_answered(topic_filter, failure)
        return failure is None
