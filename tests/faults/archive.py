"""Archive: a subscriber with a persistent session, which records every result and gap that arrives."""

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

_RECONNECT_AFTER_S = 0.02  # long before an agent reconnects
_KEEPALIVE_S = 600  # keeps the connection to a broker that is suspended for a minute


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at_s` is a value of time.time(); `redelivered`: the broker had already sent it to this subscriber.

    A message made before `held_s` may have waited at the broker while the subscriber was disconnected.
    """

    message: dict[str, Any]
    at_s: float
    redelivered: bool
    held_s: float


class Archive:
    """Records the results and gaps of the device `test`; reconnects within 20 ms after the broker starts again."""

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
        # Breaks the reference cycle, so paho's client closes its sockets as soon as it is released.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None

    @property
    def results(self) -> list[Arrival]:
        """In order of arrival, including duplicates."""
        return list(self._results)

    @property
    def gaps(self) -> list[dict[str, Any]]:
        return [arrival.message for arrival in list(self._gaps)]

    def has(self, boot: str, seq: int) -> bool:
        return any((each.message["boot"], each.message["seq"]) == (boot, seq) for each in reversed(self.results))

    def wait_until_subscribed(self, times: int) -> None:
        """Waits until `times` connections in total have subscribed."""
        wait_until(lambda: self._subscriptions >= times, what=f"the archive has subscribed {times} times")

    def _listen(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                self._client.connect("127.0.0.1", self._port, _KEEPALIVE_S)
                self._client.loop_forever()
                self._ended_s = time.time()
            self._over.wait(_RECONNECT_AFTER_S)

    def _subscribe(self, *_: object) -> None:
        base = "edge-agent/test"
        self._client.subscribe([(f"{base}/{topic}", 1) for topic in ("cameras/+/result", "uploads/result", "gaps")])

    def _subscribed(self, *_: object) -> None:
        self._subscriptions += 1

    def _keep(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        arrival = Arrival(json.loads(message.payload), time.time(), message.dup, self._ended_s)
        (self._gaps if message.topic.endswith("/gaps") else self._results).append(arrival)
