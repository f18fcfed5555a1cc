"""Attempt: one try to reach the MQTT broker, and the connection if it succeeds."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.client import ConnectFlags, DisconnectFlags
    from paho.mqtt.reasoncodes import ReasonCode

    from agent.publishers.outbox import Message

MqttVersion = Literal[5, 311]

_PAHO_VERSIONS = {5: MQTTProtocolVersion.MQTTv5, 311: MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the broker is and who connects. After `keepalive_s` of silence it is asked for a sign of life."""

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    client_id: str
    will: Message
    keepalive_s: int = 30

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the answer to a CONNECT, and before the next try.

    The pauses double from `first_retry_s` to `max_retry_s`; a broker that said no is left alone for
    `refused_retry_s`. amqtt, asked for MQTT 5 with a last will, neither answers nor hangs up.
    """

    answer_s: float = 10.0
    first_retry_s: float = 1.0
    max_retry_s: float = 30.0
    refused_retry_s: float = 30.0


class Listener(Protocol):
    """Hears of an attempt on the loop's thread. Either `failed` or `ended` comes once, as the last of all."""

    def failed(self, error: BaseException | None) -> None:
        """No network connection came about."""

    def accepted(self) -> None: ...

    def refused(self, reason: str) -> None:
        """The broker answered no; `ended` follows."""

    def acknowledged(self, number: int, failure: str | None) -> None:
        """`failure` is why an MQTT 5 broker throws the message away, None if it took it."""

    def ended(self, reason: str | None) -> None:
        """`reason` is what an MQTT 5 broker said before it hung up."""


class Attempt:
    """A paho client and its thread, for one network connection only; made and used on the loop's thread.

    paho's own reconnecting can neither change the MQTT version nor wait longer after a refusal, and it would
    send again what the outbox sends again as well.
    """

    def __init__(
        self, endpoint: Endpoint, *, version: MqttVersion, answer_timeout_s: float, listener: Listener
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._over = False
        self._answer_timeout_s = answer_timeout_s
        self._answer_timer: asyncio.TimerHandle | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            protocol=_PAHO_VERSIONS[version],
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(endpoint.username, endpoint.password)
        self._client.will_set(endpoint.will.topic, endpoint.will.payload, qos=1, retain=True)
        self._listen()
        self._client.connect_async(endpoint.host, endpoint.port, endpoint.keepalive_s)
        self._client.loop_start()

    def publish(self, message: Message, *, retain: bool) -> int:
        """Hands a message to paho with QoS 1 and returns the number that `acknowledged` will tell."""
        return self._client.publish(message.topic, message.payload, qos=1, retain=retain).mid

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

        def on_connect_fail(_c: Client, _u: object) -> None:
            self._hop(self._finish, listener.failed, sys.exc_info()[1])  # paho is in its except clause

        def on_disconnect(_c: Client, _u: object, flags: DisconnectFlags, reason: ReasonCode, _p: object) -> None:
            told = flags.is_disconnect_packet_from_server
            self._hop(self._finish, listener.ended, str(reason) if told else None)

        self._client.on_socket_open = on_socket_open
        self._client.on_connect = on_connect
        self._client.on_publish = on_publish
        self._client.on_connect_fail = on_connect_fail
        self._client.on_disconnect = on_disconnect

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
        client.on_connect_fail = client.on_disconnect = None

    def _stop_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
