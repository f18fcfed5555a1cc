"""MqttPublisher: which topic gets which payload, and what comes back over MQTT."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Literal

import anyio

from agent.mqtt.commands import Commands
from agent.mqtt.home_assistant import discovery as home_assistant
from agent.mqtt.message import Message, topic_level
from agent.mqtt.outbox.blocks import Entry
from agent.mqtt.session import Session
from agent.mqtt.stale_topics import StaleTopics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.classification import Result, StableState
    from agent.mqtt.commands import Actions
    from agent.mqtt.link.endpoint import Endpoint, Timeouts
    from agent.mqtt.message import Incoming
    from agent.mqtt.outbox.storage import Storage
    from agent.mqtt.session import MqttStatus
    from agent.status import CameraStatus, ModelStatus

_STATS_EVERY_S, _FIRST_STATS_AFTER_S = 30.0, 5.0
_SWEEP_S = 2.0
_WELCOME_AGAIN_S = 5.0


class MqttPublisher:
    """Publishes with QoS 1 below `<base_topic>/<device>`, docs/mqtt.md's topics; at most 20 are unacknowledged.

    Made inside a running loop; every method is called on its thread, and none but close() waits. `boot` is this
    run's. `results`: "all"; "changes", a camera's result only if its best label differs from that of the one
    before, and every upload; or "off". `info`, `stats` and `discovery` make their payloads when they are due;
    `discovery` gets what the broker still holds of an earlier run. Without it that is taken away.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        base_topic: str,
        device: str,
        boot: str,
        cameras: Collection[str],
        storage: Storage,
        info: Callable[[], dict[str, Any]],
        stats: Callable[[], dict[str, Any]],
        actions: Actions,
        discovery: Callable[[bytes | None], Message] | None = None,
        results: Literal["all", "changes", "off"] = "all",
        timeouts: Timeouts | None = None,
    ) -> None:
        self._base = f"{base_topic}/{device}"
        self._boot = boot
        self._info = info
        self._stats = stats
        self._discovery = discovery
        self._results = results
        self._last_labels: dict[str, str | None] = {}
        self._swept = self._shares = False
        self._last_stats: Message | None = None
        self._welcomed_s = -_WELCOME_AGAIN_S
        self._session = Session(
            endpoint=endpoint,
            base=self._base,
            boot=boot,
            storage=storage,
            encode_gap=lambda gap: Message(f"{self._base}/gaps", _json(gap.to_json())),
            on_connected=self._connected,
            on_received=self._received,
            timeouts=timeouts,
        )
        self._retained = self._session.retained
        self._stale = StaleTopics(
            base=self._base,
            cameras=cameras,
            discovery_topic=home_assistant.topic_of(device),
            retained=self._retained,
        )
        self._commands = Commands(
            actions,
            base=self._base,
            cameras=cameras,
            answer=self._session.send_now,
            acknowledge=self._session.acknowledge,
        )

    @property
    def status(self) -> MqttStatus:
        return self._session.status

    def start(self) -> None:
        """Begins to connect, for ever. Whatever is published before is kept until the broker is there."""
        self._session.open()

    async def run(self) -> None:
        """What has to go on beside the callers, for ever: the disk and the requests."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._session.outbox.run)
            tasks.start_soon(self._commands.run)

    def publish_result(self, result: Result, *, camera: bool) -> None:
        """`camera` tells a camera's result, which has its own topic, from an upload's."""
        if self._results == "off" or (self._results == "changes" and camera and not self._is_change(result)):
            return
        topic = f"cameras/{result.source}/result" if camera else "uploads/result"
        self._session.outbox.put(Entry(self._boot, result.seq, f"{self._base}/{topic}", _json(result.to_json())))

    def publish_state(self, camera: str, state: StableState) -> None:
        label = "none" if state.label is None else state.label
        topic = f"{self._base}/cameras/{camera}/classification/{topic_level(state.model.name)}"
        self._retain(f"cameras/{camera}/state", _json(state.to_json()))
        self._retained.put(topic, label.encode(errors="replace"))
        self._stale.classified(camera, topic)

    def publish_snapshot(self, camera: str, jpeg: bytes) -> None:
        self._session.send_now(Message(f"{self._base}/cameras/{camera}/snapshot", jpeg), newest_only=True)

    def publish_camera_status(self, camera: str, status: CameraStatus) -> None:
        self._retain(f"cameras/{camera}/status", status.state.encode())

    def publish_enabled(self, camera: str, *, enabled: bool) -> None:
        self._retain(f"cameras/{camera}/enabled", b"ON" if enabled else b"OFF")

    def publish_model(self, status: ModelStatus) -> None:
        """A name of which nothing is left takes its topic with it."""
        topic = f"models/{topic_level(status.name)}"
        there = status.serving or status.candidate or status.rejection or status.versions
        self._retain(topic, _json(status.to_json()) if there else b"")
        self._share_in()

    def publish_info(self) -> None:
        self._retain("info", _json(self._info()))

    def publish_discovery(self) -> None:
        """Home Assistant hears of the cameras, their labels and the models as they are now."""
        if not self._swept:  # which will publish it
            return
        if self._discovery is not None:
            message = self._discovery(self._stale.discovery)
            self._stale.discovery = message.payload
            self._retained.put(message.topic, message.payload)
        elif self._stale.discovery:
            self._retained.remove(self._stale.discovery_topic)

    async def close(self, timeout_s: float) -> None:
        """Says offline and disconnects, in `timeout_s` at most; then what was not acknowledged goes to the disk."""
        await self._session.close(timeout_s)

    def _is_change(self, result: Result) -> bool:
        categories = result.classification.categories
        label = categories[0].label if categories else None
        unchanged = result.source in self._last_labels and self._last_labels[result.source] == label
        self._last_labels[result.source] = label
        return not unchanged

    def _retain(self, topic: str, payload: bytes) -> None:
        self._retained.put(f"{self._base}/{topic}", payload)

    def _connected(self) -> None:
        self._session.subscribe(*self._filters(), *(() if self._swept else self._stale.filters))
        self._shares = False
        self._share_in()
        self.publish_info()
        self._session.call_later(_FIRST_STATS_AFTER_S, self._send_stats)
        if not self._swept:
            self._session.call_later(_SWEEP_S, self._end_sweep)

    def _share_in(self) -> None:
        """Takes part in the shared queue for as long as there is a model: others can answer what this agent cannot."""
        wanted = self._commands.shared is not None and self._commands.has_model()
        if self._commands.shared is None or wanted == self._shares or self._session.status.state != "connected":
            return
        self._shares = wanted
        (self._session.subscribe if wanted else self._session.unsubscribe)(self._commands.shared)

    def _filters(self) -> list[str]:
        birth = [home_assistant.BIRTH_TOPIC] if self._discovery is not None else []
        return birth + self._commands.filters

    def _end_sweep(self) -> None:
        """The broker has sent what it keeps: it does so right after it has taken a subscription."""
        self._swept = True
        self._session.unsubscribe(*self._stale.filters)
        self.publish_discovery()

    def _send_stats(self) -> None:
        outbox = self._session.outbox.status
        waiting = {
            "messages": outbox.messages,
            "bytes": outbox.size,
            "evicted": outbox.evicted,
            "trouble": outbox.trouble,
        }
        self._last_stats = Message(f"{self._base}/stats", _json({**self._stats(), "outbox": waiting}))
        self._session.send_now(self._last_stats)
        self._session.call_later(_STATS_EVERY_S, self._send_stats)

    def _welcome(self) -> None:
        """Home Assistant has started; anybody may say so, and as often as they like."""
        if time.monotonic() - self._welcomed_s < _WELCOME_AGAIN_S:
            return
        self._welcomed_s = time.monotonic()
        self._retained.repeat(self._stale.discovery_topic)
        if self._last_stats is not None:
            self._session.send_now(self._last_stats)

    def _received(self, incoming: Incoming) -> None:
        if self._commands.take(incoming):
            return  # which acknowledges it when it is done
        if home_assistant.is_birth(incoming.topic, incoming.payload):
            self._welcome()
        elif incoming.retained:
            self._stale.take(incoming)
        self._session.acknowledge(incoming)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
