"""Link: one attempt to connect to the MQTT broker, and the connection if it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import anyio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.mqtt.link.in_flight import InFlight
from agent.mqtt.link.paho_client import PahoClient
from agent.mqtt.link.terms import Terms
from agent.mqtt.message import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.mqtt.link.endpoint import Endpoint, Timeouts
    from agent.mqtt.link.paho_client import End
    from agent.mqtt.message import Message, MqttVersion

_MAX_UNDELIVERED = 64  # QoS 0 messages, which nothing else limits
_MAX_UNDELIVERED_BYTES = 32 << 20
_NO_LIMIT = 65535  # MQTT 5 default for unacknowledged messages if the broker sends no Receive Maximum


class LinkListener:
    """Override the events you need; each is called on the loop's thread.

    The last call is exactly one of `failed`, `silent` and `ended`.
    """

    def failed(self, error: BaseException) -> None:
        """No connection that can carry MQTT was established."""

    def accepted(self, *, receive_maximum: int, terms: Terms) -> None:
        """The broker accepts up to `receive_maximum` unacknowledged messages, and what `terms` says."""

    def refused(self, reason: str) -> None:
        """The broker refused the connection; `ended` follows."""

    def acknowledged(self, number: int, failure: str | None) -> None:
        """`failure` is why an MQTT 5 broker discarded the message; None if it accepted it."""

    def subscribed(self, topic_filter: str, failure: str | None) -> None:
        """`failure` is why the broker refused the subscription; None if it accepted it."""

    def received(self, incoming: Incoming) -> None:
        """Acknowledge the message once it was handled."""

    def silent(self) -> None:
        """The broker stopped answering, at the CONNECT or later."""

    def ended(self, reason: str | None) -> None:
        """`reason` is the one that an MQTT 5 broker sent before it closed the connection."""


class Link:
    """One network connection and its unacknowledged messages; created and used on the loop's thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        number: int,
        version: MqttVersion,
        timeouts: Timeouts,
        listener: LinkListener,
        terms: Terms | None = None,
    ) -> None:
        self.number = number
        self.version = version
        self._loop = asyncio.get_running_loop()
        self._terms = terms or Terms()
        self._timeouts = timeouts
        self._keepalive_s = endpoint.keepalive_s
        self._listener = listener
        self._over = self._opened = self._answered = False
        self._gone = asyncio.Event()
        self._filters: dict[int, tuple[str, ...]] = {}
        self._in_flight = InFlight(timeout_s=endpoint.keepalive_s / 2)
        # Two counters with one writer each need no lock: the network thread counts arrivals, the loop deliveries.
        self._taken = self._delivered = 0  # messages
        self._taken_bytes = self._delivered_bytes = 0
        self._paho = PahoClient(endpoint, version=version, terms=self._terms)
        self._client = self._paho.client
        self._listen()
        self._timer = self._loop.call_later(timeouts.network_s, self._no_network)
        self._paho.run(
            on_open=lambda: self._call_in_loop(self._await_answer),
            on_end=lambda end: self._call_in_loop(self._finish, end),
        )

    def publish(self, message: Message, *, qos: int = 1) -> int:
        """Hands a message to paho; returns the number with which `acknowledged` will be called.

        With QoS 0 that means only that the message was written to the socket.
        """
        properties = None
        if message.correlation is not None and self.version == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        number = self._client.publish(message.topic, message.payload, qos, message.retain, properties).mid
        self._expect_answer(number, size=len(message.payload))
        return number

    def subscribe(self, filters: tuple[str, ...]) -> None:
        """Subscribes with QoS 1."""
        _, number = self._client.subscribe([(topic_filter, 1) for topic_filter in filters])
        if number is not None:  # None if the connection has ended
            self._filters[number] = filters
            self._expect_answer(number)

    def unsubscribe(self, filters: tuple[str, ...]) -> None:
        _, number = self._client.unsubscribe(list(filters))
        if number is not None:
            self._expect_answer(number)

    def acknowledge(self, number: int, qos: int) -> None:
        self._client.ack(number, qos)

    async def close(self, *, timeout_s: float) -> None:
        """Disconnects cleanly, so that the broker sends no last will. The listener gets no more calls."""
        self._end()
        self._paho.disconnect()
        with anyio.move_on_after(timeout_s):
            await self._gone.wait()
        self._paho.abandon()

    def _listen(self) -> None:
        """Paho calls these in the network thread, partly while it holds locks: they only hand over to the loop."""

        def on_connect(_c: Client, _u: object, _f: ConnectFlags, reason: ReasonCode, sent: Properties | None) -> None:
            self._call_in_loop(self._answer, _failure(reason), sent)

        def on_publish(_c: Client, _u: object, mid: int, reason: ReasonCode, _p: object) -> None:
            self._call_in_loop(self._acknowledge, mid, _failure(reason))

        def on_subscribe(_c: Client, _u: object, mid: int, reasons: list[ReasonCode], _p: object) -> None:
            self._call_in_loop(self._subscribe, mid, [_failure(reason) for reason in reasons])

        def on_unsubscribe(_c: Client, _u: object, mid: int, _r: object, _p: object) -> None:
            self._call_in_loop(self._subscribe, mid, [])

        def on_message(_c: Client, _u: object, message: MQTTMessage) -> None:
            undelivered, size = self._taken - self._delivered, self._taken_bytes - self._delivered_bytes
            if message.qos > 0 or (undelivered < _MAX_UNDELIVERED and size < _MAX_UNDELIVERED_BYTES):
                self._taken += 1
                self._taken_bytes += len(message.payload)
                self._call_in_loop(self._deliver, message)

        client = self._client
        client.on_connect, client.on_publish, client.on_message = on_connect, on_publish, on_message
        client.on_subscribe, client.on_unsubscribe = on_subscribe, on_unsubscribe

    def _call_in_loop(self, call: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no listener is left
            self._loop.call_soon_threadsafe(call, *arguments)

    def _await_answer(self) -> None:
        if not self._over:
            self._opened = True
            self._timer.cancel()
            self._timer = self._loop.call_later(self._timeouts.answer_s, self._unanswered)

    def _no_network(self) -> None:
        self._give_up()
        self._listener.failed(TimeoutError("the connection attempt timed out"))

    def _unanswered(self) -> None:
        self._give_up()
        self._paho.disconnect()
        self._listener.silent()

    def _fall_silent(self) -> None:
        """Sends no DISCONNECT: if it did reach the broker, it would suppress the last will."""
        self._give_up()
        self._listener.silent()

    def _answer(self, refusal: str | None, sent: Properties | None) -> None:
        if self._over:
            return
        self._answered = True
        self._timer.cancel()
        if refusal is None:
            self._watch()
            receive_maximum = getattr(sent, "ReceiveMaximum", _NO_LIMIT)
            self._listener.accepted(receive_maximum=receive_maximum, terms=self._terms.announced(sent))
        else:
            self._listener.refused(refusal)

    def _expect_answer(self, number: int, *, size: int = 0) -> None:
        self._in_flight.add(number, size=size, now_s=self._loop.time())

    def _watch(self, *, was_overdue: bool = False) -> None:
        """Ends the link if it is overdue twice in a row: after a pause of this process, answers may be unread."""
        is_overdue = self._in_flight.is_overdue(self._loop.time())
        if is_overdue and was_overdue:
            self._fall_silent()
        else:
            self._timer = self._loop.call_later(self._keepalive_s / 16, lambda: self._watch(was_overdue=is_overdue))

    def _acknowledge(self, number: int, failure: str | None) -> None:
        if not self._over:
            self._in_flight.discard(number, now_s=self._loop.time())
            self._listener.acknowledged(number, failure)

    def _subscribe(self, number: int, failures: list[str | None]) -> None:
        if self._over:
            return
        self._in_flight.discard(number, now_s=self._loop.time())
        for topic_filter, failure in zip(self._filters.pop(number, ()), failures, strict=False):
            self._listener.subscribed(topic_filter, failure)

    def _deliver(self, message: MQTTMessage) -> None:
        self._delivered += 1
        self._delivered_bytes += len(message.payload)
        if self._over:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no subscription can match it
            return
        properties = message.properties
        self._listener.received(
            Incoming(
                topic,
                bytes(message.payload),
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                receipt=(self.number, message.mid, message.qos),
            )
        )

    def _finish(self, end: End) -> None:
        self._gone.set()
        if self._over:
            return
        self._end()
        if end.error is not None and not self._answered and (not self._opened or _is_final(end.error)):
            self._listener.failed(end.error)
        elif end.silent:
            self._listener.silent()
        else:
            self._listener.ended(end.reason or _unexpected(end.error))

    def _give_up(self) -> None:
        self._end()
        self._paho.abandon()

    def _end(self) -> None:
        self._over = True
        self._timer.cancel()
        self._paho.forget_callbacks()


def _failure(reason: ReasonCode) -> str | None:
    return str(reason) if reason.is_failure else None


def _is_final(error: BaseException) -> bool:
    """A broker that does not know the MQTT version closes the connection, but not with such an error."""
    return isinstance(error, ssl.SSLError) or not isinstance(error, OSError)


def _unexpected(error: BaseException | None) -> str | None:
    return None if error is None or isinstance(error, OSError) else repr(error)
