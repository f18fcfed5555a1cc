"""Session: sends messages to the broker in their order of priority and tracks acknowledgments."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from agent.mqtt.link.connection import Connection, ConnectionListener
from agent.mqtt.message import Message
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.retained import Retained
from agent.mqtt.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.mqtt.identity import Identity
    from agent.mqtt.link.connection import ConnectionState
    from agent.mqtt.link.endpoint import Endpoint, Timeouts
    from agent.mqtt.message import Incoming
    from agent.mqtt.outbox.outbox import OutboxStatus
    from agent.mqtt.outbox.storage import Storage

_MAX_TRANSIENT = 64
_DRAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class MqttStatus:
    state: ConnectionState
    reason: str | None
    protocol: Literal["5", "3.1.1"] | None
    outbox: OutboxStatus

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "reason": self.reason,
            "protocol": self.protocol,
            "queued": self.outbox.messages,
            "dropped": self.outbox.evicted,
            "outbox_trouble": self.outbox.trouble,
        }


class SessionListener:
    """Override the events you need; each is called on the loop's thread."""

    def connected(self) -> None:
        """The device was announced as online; retained topics and results follow."""

    def received(self, incoming: Incoming) -> None:
        """Pass the message to acknowledge() once it was handled."""


class Session(ConnectionListener):
    """Continues across connections. At most 20 messages are in flight, or fewer if the broker asks for it."""

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        *,
        storage: Storage,
        listener: SessionListener,
        timeouts: Timeouts | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._base = identity.base
        self._listener = listener
        self._transient: deque[Message] = deque(maxlen=_MAX_TRANSIENT)
        self._timers: list[asyncio.TimerHandle] = []
        self._offline_number: int | None = None
        self._offline_or_lost = asyncio.Event()
        self._acknowledgment = asyncio.Event()
        self._connection = Connection(endpoint, listener=self, timeouts=timeouts)
        self._window = Window(self._connection, base=identity.base)
        self.retained = Retained(self._window)
        self.outbox = Outbox(storage, boot=identity.boot, window=self._window)

    @property
    def status(self) -> MqttStatus:
        connection = self._connection
        return MqttStatus(connection.state, connection.reason, connection.protocol, self.outbox.status)

    def open(self) -> None:
        """Connects in the background and retries until close()."""
        self._connection.open()

    def subscribe(self, *filters: str) -> None:
        """Call it only while connected; it is valid for this connection."""
        self._connection.subscribe(*filters)

    def unsubscribe(self, *filters: str) -> None:
        self._connection.unsubscribe(*filters)

    def acknowledge(self, incoming: Incoming) -> None:
        self._connection.acknowledge(incoming)

    def send_now(self, message: Message, *, newest_only: bool = False) -> None:
        """Sends over this connection or not at all; `newest_only` replaces waiting messages of the same topic."""
        if self._connection.state == "connected":
            if newest_only:
                waiting = (each for each in self._transient if each.topic != message.topic)
                self._transient = deque(waiting, maxlen=_MAX_TRANSIENT)
            self._transient.append(message)
            self._pump()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        """The call is canceled if this connection ends before."""
        now_s = self._loop.time()
        self._timers = [timer for timer in self._timers if timer.when() > now_s]
        self._timers.append(self._loop.call_later(delay_s, call))

    async def close(self, timeout_s: float) -> None:
        """Publishes `offline`, waits for its acknowledgment and disconnects, all within `timeout_s`.

        Then saves unacknowledged results to disk.
        """
        deadline_s = anyio.current_time() + timeout_s
        if self._connection.state == "connected":
            await self.outbox.drain(min(timeout_s / 3, _DRAIN_S))
        self.outbox.stop()
        with anyio.move_on_after((deadline_s - anyio.current_time()) / 2):
            while self._connection.state == "connected" and self._window.room() <= 0:
                self._acknowledgment.clear()
                await self._acknowledgment.wait()
        if self._connection.state == "connected":
            self._offline_number = self._window.send(presence(self._base, "offline"))
            with anyio.move_on_after(deadline_s - anyio.current_time()):
                await self._offline_or_lost.wait()
        await self._connection.close(timeout_s=max(0.0, deadline_s - anyio.current_time()))
        await self.outbox.close()

    def _pump(self) -> None:
        """Retained state first, then transient messages, then results."""
        self.retained.pump()
        while self._transient and self._window.room() > 0:
            self._window.send(self._transient.popleft())
        self.outbox.pump()

    def connected(self) -> None:
        self._offline_or_lost.clear()
        self._window.send(presence(self._base, "online"))
        self._listener.connected()
        self.retained.open()
        self.outbox.open()

    def disconnected(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._window.clear()
        self._transient.clear()
        self.retained.pause()
        self.outbox.pause()
        self._offline_or_lost.set()
        self._acknowledgment.set()

    def acknowledged(self, number: int, failure: str | None) -> None:
        self._window.acknowledge(number)
        self._acknowledgment.set()
        if number == self._offline_number:
            self._offline_or_lost.set()
        self.retained.acknowledge(number)
        self.outbox.acknowledge(number, failure)
        self._pump()

    def received(self, incoming: Incoming) -> None:
        self._listener.received(incoming)


def presence(base: str, state: Literal["online", "offline"]) -> Message:
    """`offline` is also the last will."""
    return Message(f"{base}/status", state.encode(), retain=True)
