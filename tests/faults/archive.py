"""Archive: the subscriber that must not miss anything: a session that the broker keeps, and every arrival noted."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.running_agent import wait_until
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_AGAIN_AFTER_S = 0.02  # long before an agent comes back
_KEEPALIVE_S = 600  # a broker that is stopped for a minute shall not be given up


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at_s` is of time.time(); `redelivered`: this broker had sent it to this subscriber before.

    What was made before `held_s` may have lain at the broker while the subscriber was away.
    """

    message: dict[str, Any]
    at_s: float
    redelivered: bool
    held_s: float


class Archive:
    """Hears the results and the gaps of the device `test`; back within 20 ms of a broker's return, for ever."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._results: list[Arrival] = []
        self._gaps: list[Arrival] = []
        self._subscriptions = 0
        self._ended_s = 0.0
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id="archive",
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = self._subscribed
        self._client.on_message = self._keep
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_until_subscribed(1)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._client.disconnect()
        self._thread.join()
        # Out of the cycle with this object, paho's client closes its sockets as soon as it is let go.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None

    @property
    def results(self) -> list[Arrival]:
        """In the order of their arrival, duplicates included."""
        return list(self._results)

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [arrival.message for arrival in list(self._gaps)]

    def has(self, boot: str, seq: int) -> bool:
        return any((each.message["boot"], each.message["seq"]) == (boot, seq) for each in reversed(self.results))

    def wait_until_subscribed(self, times: int) -> None:
        """Counted from the beginning: each connection subscribes anew."""
        wait_until(lambda: self._subscriptions >= times, what=f"the archive has subscribed {times} times")

    def _listen(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                self._client.connect("127.0.0.1", self._port, _KEEPALIVE_S)
                self._client.loop_forever()
                self._ended_s = time.time()
            self._over.wait(_AGAIN_AFTER_S)

    def _subscribe(self, *_: object) -> None:
        base = "edge-agent/test"
        self._client.subscribe([(f"{base}/{topic}", 1) for topic in ("cameras/+/result", "uploads/result", "gaps")])

    def _subscribed(self, *_: object) -> None:
        self._subscriptions += 1

    def _keep(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        arrival = Arrival(json.loads(message.payload), time.time(), message.dup, self._ended_s)
        (self._gaps if message.topic.endswith("/gaps") else self._results).append(arrival)
