"""Attempt: one try to reach the MQTT broker, and the connection if it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.publishers.message import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.publishers.endpoint import Endpoint
    from agent.publishers.message import Message

MqttVersion = Literal[5, 311]

_PAHO_VERSIONS = {5: MQTTProtocolVersion.MQTTv5, 311: MQTTProtocolVersion.MQTTv311}


_MAX_UNDELIVERED = 64  # messages of QoS 0, whose flood nothing else stops
_TLS_TROUBLE = re.compile(r"failed to receive on socket: .*\[SSL: \w+\] (.+?) \(")


class Listener(Protocol):
    """Hears of an attempt on the loop's thread. Either `failed` or `ended` comes once, as the last of all."""

    def failed(self, error: BaseException | None) -> None:
        """No network connection came about."""

    def accepted(self) -> None: ...

    def refused(self, reason: str) -> None:
        """The broker answered no; `ended` follows."""

    def acknowledged(self, number: int, failure: str | None) -> None:
        """`failure` is why an MQTT 5 broker throws the message away, None if it took it."""

    def received(self, incoming: Incoming) -> None:
        """To be acknowledged by acknowledge() when it is done."""

    def subscription_refused(self, topic: str, reason: str) -> None: ...

    def ended(self, reason: str | None) -> None:
        """`reason` is what an MQTT 5 broker said before it hung up."""


class Attempt:
    """A paho client and its thread, for one network connection only; made and used on the loop's thread.

    paho's own reconnecting can neither change the MQTT version nor wait longer after a refusal, and it would
    send again what the outbox sends again as well.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tls: ssl.SSLContext | None,
        version: MqttVersion,
        answer_timeout_s: float,
        listener: Listener,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._version = version
        self._over = False
        self._accepted = False
        self._answer_timeout_s = answer_timeout_s
        self._answer_timer: asyncio.TimerHandle | None = None
        self._undelivered = 0
        self._subscriptions: dict[int, tuple[str, ...]] = {}
        self._tls_trouble: str | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=_PAHO_VERSIONS[version],
            transport="websockets" if endpoint.websocket_path else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.max_inflight_messages_set(100)  # ours is smaller: paho shall hold nothing back
        self._client.username_pw_set(endpoint.username, endpoint.password)
        self._client.will_set(endpoint.will.topic, endpoint.will.payload, qos=1, retain=True)
        if endpoint.websocket_path:
            self._client.ws_set_options(path=endpoint.websocket_path)
        if tls is not None:
            self._client.tls_set_context(tls)
            self._client.on_log = self._log
        self._listen()
        self._client.connect_async(
            endpoint.host,
            endpoint.port,
            endpoint.keepalive_s,
            properties=_bounds(endpoint) if version == 5 else None,
        )
        self._client.loop_start()

    def publish(self, message: Message) -> int:
        """Hands a message to paho with QoS 1 and returns the number that `acknowledged` will tell."""
        properties = None
        if message.correlation is not None and self._version == 5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        return self._client.publish(
            message.topic, message.payload, qos=1, retain=message.retain, properties=properties
        ).mid

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """With QoS 1."""
        if self._version == 5:
            _, number = self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        else:
            _, number = self._client.subscribe([(topic, 1) for topic in topics])
        if number is not None:
            self._subscriptions[number] = topics

    def unsubscribe(self, topics: tuple[str, ...]) -> None:
        self._client.unsubscribe(list(topics))

    def acknowledge(self, number: int, qos: int) -> None:
        if qos and not self._over:
            self._client.ack(number, qos)

    def abandon(self) -> None:
        """The link is dead: tells the listener nothing more."""
        self._give_up()

    async def close(self, *, timeout_s: float) -> None:
        """Disconnects cleanly, so that no last will follows, and tells the listener nothing more."""
        gone = self._give_up()
        with anyio.move_on_after(timeout_s):
            await gone.wait()

    def _give_up(self) -> asyncio.Event:
        """The event is set once paho's thread has ended."""
        self._end()
        self._client.disconnect()
        gone = asyncio.Event()
        # A daemon, not asyncio.to_thread: a host that does not answer may hold paho's thread for seconds, and
        # the default executor would make the whole process wait for it.
        threading.Thread(target=self._join, args=(gone,), name="mqtt-close", daemon=True).start()
        return gone

    def _join(self, gone: asyncio.Event) -> None:
        self._client.loop_stop()
        self._client.disconnect()  # paho forgets the first one while it waits for the network
        self._hop(gone.set)

    def _listen(self) -> None:
        """Paho calls these in its own thread, partly under its locks: they only hand over to the loop."""
        listener = self._listener

        def on_socket_open(_c: Client, _u: object, _s: object) -> None:
            self._hop(self._await_answer)

        def on_connect(_c: Client, _u: object, _f: ConnectFlags, reason: ReasonCode, _p: object) -> None:
            self._hop(self._answered, str(reason) if reason.is_failure else None)

        def on_publish(_c: Client, _u: object, mid: int, reason: ReasonCode, _p: object) -> None:
            self._hop(self._acknowledged, mid, str(reason) if reason.is_failure else None)

        def on_message(_c: Client, _u: object, message: MQTTMessage) -> None:
            if message.qos == 0 and self._undelivered >= _MAX_UNDELIVERED:
                return
            self._undelivered += 1
            self._hop(self._deliver, message)

        def on_subscribe(_c: Client, _u: object, mid: int, reasons: list[ReasonCode], _p: object) -> None:
            self._hop(self._subscribed, mid, [str(reason) if reason.is_failure else None for reason in reasons])

        def on_connect_fail(_c: Client, _u: object) -> None:
            self._hop(self._finish, listener.failed, sys.exc_info()[1])  # paho is in its except clause

        def on_disconnect(_c: Client, _u: object, flags: DisconnectFlags, reason: ReasonCode, _p: object) -> None:
            told = flags.is_disconnect_packet_from_server
            if self._tls_trouble is not None:
                self._hop(self._finish, listener.failed, ssl.SSLError(self._tls_trouble))
            else:
                self._hop(self._finish, listener.ended, str(reason) if told else None)

        self._client.on_socket_open = on_socket_open
        self._client.on_connect = on_connect
        self._client.on_publish = on_publish
        self._client.on_message = on_message
        self._client.on_subscribe = on_subscribe
        self._client.on_connect_fail = on_connect_fail
        self._client.on_disconnect = on_disconnect

    def _log(self, _client: Client, _userdata: object, _level: int, line: str) -> None:
        """With TLS 1.3 a broker refuses a certificate after the handshake, which paho tells to its log only."""
        if self._accepted:
            self._client.on_log = None
        elif (found := _TLS_TROUBLE.search(line)) is not None:
            self._tls_trouble = found[1]

    def _deliver(self, message: MQTTMessage) -> None:
        self._undelivered -= 1
        if self._over:
            return
        properties = message.properties
        self._listener.received(
            Incoming(
                message.topic,
                bytes(message.payload),
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                receipt=(id(self), message.mid, message.qos),
            )
        )

    def _subscribed(self, number: int, failures: list[str | None]) -> None:
        topics = self._subscriptions.pop(number, ())
        for topic, failure in zip(topics, failures, strict=False):
            if failure is not None and not self._over:
                self._listener.subscription_refused(topic, failure)

    def _hop(self, call: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *arguments)

    def _await_answer(self) -> None:
        if not self._over:
            self._answer_timer = self._loop.call_later(self._answer_timeout_s, self._unanswered)

    def _unanswered(self) -> None:
        self._give_up()
        self._listener.ended(None)

    def _answered(self, refusal: str | None) -> None:
        if self._over:
            return
        self._stop_timer()
        self._accepted = refusal is None
        if refusal is None:
            self._listener.accepted()
        else:
            self._listener.refused(refusal)

    def _acknowledged(self, number: int, failure: str | None) -> None:
        if not self._over:
            self._listener.acknowledged(number, failure)

    def _finish(self, event: Callable[..., None], told: object) -> None:
        """Paho may report the end of a connection twice."""
        if not self._over:
            self._end()
            event(told)

    def _end(self) -> None:
        """Without its way back to here the paho client is freed, and closes its sockets, with its thread."""
        self._over = True
        self._stop_timer()
        client = self._client
        client.on_socket_open = client.on_connect = client.on_publish = None
        client.on_connect_fail = client.on_disconnect = client.on_message = client.on_subscribe = client.on_log = None

    def _stop_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()


def _bounds(endpoint: Endpoint) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = endpoint.receive_maximum
    properties.MaximumPacketSize = endpoint.max_packet_bytes
    return properties
