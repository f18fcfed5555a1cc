"""MqttPublisher: which topic gets which payload, and what a broker must hear again when it comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from agent.publishers.attempt import Endpoint
from agent.publishers.connection import Connection
from agent.publishers.outbox import Message, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.classification import Result, StableState
    from agent.publishers.attempt import MqttVersion, Patience
    from agent.publishers.connection import ConnectionState
    from agent.status import CameraStatus, ModelStatus

# A file may be named so; a topic must not, and mosquitto hangs up on a control or non-character in one.
_UNSAFE_IN_TOPIC = re.compile("[+#/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MqttStatus:
    """`queued` results are not acknowledged yet; `dropped` ones were too many while the broker was away."""

    state: ConnectionState
    reason: str | None
    protocol: Literal["5", "3.1.1"] | None
    queued: int
    dropped: int

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "reason": self.reason,
            "protocol": self.protocol,
            "queued": self.queued,
            "dropped": self.dropped,
        }


class MqttPublisher:
    """Publishes with QoS 1 below `<base_topic>/<device>`; the topics are those of docs/mqtt.md.

    Made inside a running loop; every method is called on its thread, and none waits for the network.
    `results`: "all"; "changes", a camera's result only if its best label differs from that of the one
    before, and every upload; or "off". `info` gives the payload of `<base>/info` whenever it is published.
    `on_status` comes when the connection's state or reason changes. `max_queued` results wait at most.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        username: str | None,
        password: str | None,
        client_id: str,
        base_topic: str,
        device: str,
        info: Callable[[], dict[str, Any]],
        protocol: MqttVersion = 5,
        results: Literal["all", "changes", "off"] = "all",
        max_queued: int = 1000,
        on_status: Callable[[MqttStatus], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._base = f"{base_topic}/{device}"
        self._info = info
        self._results = results
        self._on_status = on_status
        self._retained: dict[str, bytes] = {}
        self._last_labels: dict[str, str | None] = {}
        self._farewell: int | None = None
        self._gone = asyncio.Event()
        self._outbox = Outbox(send=self._send, max_waiting=max_queued)
        self._connection = Connection(
            Endpoint(
                host=host,
                port=port,
                username=username,
                password=password,
                client_id=client_id,
                will=self._presence(b"offline"),
            ),
            version=protocol,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_acknowledged=self._acknowledged,
            on_change=self._changed,
            patience=patience,
        )

    @property
    def status(self) -> MqttStatus:
        return MqttStatus(
            state=self._connection.state,
            reason=self._connection.reason,
            protocol=self._connection.protocol,
            queued=len(self._outbox),
            dropped=self._outbox.dropped,
        )

    def start(self) -> None:
        """Begins to connect, for ever. Whatever is published before is kept until the broker is there."""
        self._connection.open()

    def publish_result(self, result: Result, *, camera: bool) -> None:
        """`camera` tells a camera's result, which has its own topic, from an upload's."""
        if self._results == "off" or (self._results == "changes" and camera and not self._is_change(result)):
            return
        topic = f"cameras/{result.source}/result" if camera else "uploads/result"
        self._outbox.put(Message(f"{self._base}/{topic}", _json(result.to_json())))

    def publish_state(self, camera: str, state: StableState) -> None:
        label = "none" if state.label is None else state.label
        model = _topic_level(state.model.name)
        self._retain(f"cameras/{camera}/state", _json(state.to_json()))
        self._retain(f"cameras/{camera}/classification/{model}", label.encode(errors="replace"))

    def publish_camera_status(self, camera: str, status: CameraStatus) -> None:
        self._retain(f"cameras/{camera}/status", status.state.encode())

    def publish_model(self, status: ModelStatus) -> None:
        """A name of which nothing is left takes its topic with it."""
        topic = f"models/{_topic_level(status.name)}"
        if status.serving or status.candidate or status.rejection or status.versions:
            self._retain(topic, _json(status.to_json()))
            return
        self._retain(topic, b"")  # of which the broker keeps nothing
        if self._connection.state == "connected":
            del self._retained[topic]

    def publish_info(self) -> None:
        self._retain("info", _json(self._info()))

    async def close(self, timeout_s: float) -> None:
        """Says offline, waits for its acknowledgement and disconnects; in `timeout_s` whatever happens."""
        deadline = anyio.current_time() + timeout_s
        self._outbox.stop()
        if self._connection.state == "connected":
            self._farewell = self._connection.publish(self._presence(b"offline"), retain=True)
            with anyio.move_on_after(timeout_s):
                await self._gone.wait()
        await self._connection.close(timeout_s=max(0.0, deadline - anyio.current_time()))
        if len(self._outbox):
            _logger.warning("%d results were never acknowledged by the MQTT broker.", len(self._outbox))

    def _is_change(self, result: Result) -> bool:
        categories = result.classification.categories
        label = categories[0].label if categories else None
        unchanged = result.source in self._last_labels and self._last_labels[result.source] == label
        self._last_labels[result.source] = label
        return not unchanged

    def _presence(self, payload: Literal[b"online", b"offline"]) -> Message:
        return Message(f"{self._base}/status", payload)

    def _retain(self, topic: str, payload: bytes) -> None:
        """Keeps the newest payload of each retained topic: the broker may have forgotten it, or missed it."""
        self._retained[topic] = payload
        if self._connection.state == "connected":
            self._send_retained(topic)

    def _send_retained(self, topic: str) -> None:
        self._connection.publish(Message(f"{self._base}/{topic}", self._retained[topic]), retain=True)

    def _send(self, message: Message) -> int:
        return self._connection.publish(message)

    def _connected(self) -> None:
        self._connection.publish(self._presence(b"online"), retain=True)
        self.publish_info()
        for topic in self._retained:
            if topic != "info":
                self._send_retained(topic)
        self._outbox.open()

    def _disconnected(self) -> None:
        self._outbox.pause()
        self._gone.set()

    def _acknowledged(self, number: int) -> None:
        if number == self._farewell:
            self._gone.set()
        self._outbox.acknowledge(number)

    def _changed(self) -> None:
        if self._on_status is not None:
            self._on_status(self.status)


def _topic_level(name: str) -> str:
    return _UNSAFE_IN_TOPIC.sub("_", name)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
