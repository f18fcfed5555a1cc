"""Subscriber: a real MQTT client that records the messages it receives."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


@dataclass(frozen=True)
class Received:
    topic: str
    content: bytes
    retained: bool
    arrived_ns: int  # Unix time

    @property
    def payload(self) -> str:
        return self.content.decode(errors="replace")

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def age_s(self) -> float:
        """From the capture of a Result, in whole milliseconds, to its arrival."""
        captured = datetime.fromisoformat(self.json["captured_at"].replace("Z", "+00:00"))  # for Python 3.10
        return self.arrived_ns / 1e9 - captured.timestamp()


class Subscriber:
    """Subscribes to `topics` with QoS 1 before __enter__ returns. Uses MQTT 3.1.1, which every broker supports.

    With a `client_id`, the broker keeps the subscription and queues messages while the client is disconnected.
    """

    def __init__(
        self,
        port: int,
        *,
        topics: str = "#",
        client_id: str = "",
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self._port = port
        self._topics = topics
        self._subscribed = threading.Event()
        self._received: list[Received] = []
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=not client_id,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(username, password)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._keep

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._subscribed.wait(10), "the broker did not confirm the subscription"
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Without this reference cycle, paho's client closes its sockets as soon as it is released.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publishes with QoS 1."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    def of(self, topic: str) -> list[Received]:
        """The messages whose topic ends with `topic`, in the order of arrival."""
        return [message for message in list(self._received) if message.topic.endswith(topic)]

    def payloads(self, topic: str) -> list[str]:
        return [message.payload for message in self.of(topic)]

    def topics(self) -> set[str]:
        return {message.topic for message in list(self._received)}

    def retained(self) -> dict[str, str]:
        """The payloads that the broker retained at the time of the subscription, by topic."""
        return {message.topic: message.payload for message in list(self._received) if message.retained}

    def _subscribe(self, *_: object) -> None:
        self._client.subscribe(self._topics, qos=1)

    def _keep(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload), message.retain, time.time_ns()))


async def until(condition: Callable[[], object], *, timeout_s: float = 30) -> None:
    """Runs the loop until the condition is true; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not true within {timeout_s:.0f} s"
        await asyncio.sleep(0.005)
