"""MqttPublisher: which topic gets which payload, and what comes back over MQTT."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from agent.publishers import home_assistant
from agent.publishers.commands import Commands
from agent.publishers.connection import Connection
from agent.publishers.frames import Entry
from agent.publishers.leftovers import Leftovers
from agent.publishers.message import Message, topic_level
from agent.publishers.outbox import Outbox
from agent.publishers.retained import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from agent.classification import Result, StableState
    from agent.publishers.attempt import MqttVersion
    from agent.publishers.commands import Actions
    from agent.publishers.connection import ConnectionState
    from agent.publishers.endpoint import Endpoint, Patience
    from agent.publishers.gaps import Gap
    from agent.publishers.message import Incoming
    from agent.publishers.outbox import OutboxStatus
    from agent.publishers.saver import Durability
    from agent.status import CameraStatus, ModelStatus

_WINDOW = 20
_PASSING = 64
_STATS_EVERY_S, _FIRST_STATS_AFTER_S = 30.0, 5.0
_SWEEP_S = 1.0
_SETTLE_S = 0.5


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


@dataclass(frozen=True, slots=True)
class Storage:
    """Where and how results wait; told in Outbox."""

    folder: Path
    durability: Durability = "spill"
    max_bytes: int = 64 << 20
    max_age_s: float = 7 * 24 * 3600.0


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
        protocol: MqttVersion = 5,
        results: Literal["all", "changes", "off"] = "all",
        patience: Patience | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._base = f"{base_topic}/{device}"
        self._boot = boot
        self._info = info
        self._stats = stats
        self._discovery = discovery
        self._results = results
        self._last_labels: dict[str, str | None] = {}
        self._unacknowledged: set[int] = set()
        self._passing: deque[Message] = deque(maxlen=_PASSING)
        self._timers: list[asyncio.TimerHandle] = []
        self._swept = False
        self._farewell: int | None = None
        self._gone = asyncio.Event()
        self._connection = Connection(
            endpoint,
            version=protocol,
            on_connected=self._connected,
            on_disconnected=self._disconnected,
            on_acknowledged=self._acknowledged,
            on_received=self._received,
            patience=patience,
        )
        self._retained = Retained(send=self._send, room=self._room)
        self._outbox = Outbox(
            folder=storage.folder,
            boot=boot,
            send=self._send_result,
            announce=self._announce,
            room=self._room,
            durability=storage.durability,
            max_bytes=storage.max_bytes,
            max_age_s=storage.max_age_s,
        )
        self._leftovers = Leftovers(
            base=self._base,
            cameras=cameras,
            discovery_topic=home_assistant.topic_of(device),
            retained=self._retained,
        )
        self._commands = Commands(
            actions,
            base=self._base,
            cameras=cameras,
            answer=self._pass,
            acknowledge=self._connection.acknowledge,
        )

    @property
    def status(self) -> MqttStatus:
        connection = self._connection
        return MqttStatus(connection.state, connection.reason, connection.protocol, self._outbox.status)

    def start(self) -> None:
        """Begins to connect, for ever. Whatever is published before is kept until the broker is there."""
        self._connection.open()

    async def run(self) -> None:
        """What has to go on beside the callers, for ever: the disk and the requests."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._outbox.run)
            tasks.start_soon(self._commands.run)

    def publish_result(self, result: Result, *, camera: bool) -> None:
        """`camera` tells a camera's result, which has its own topic, from an upload's."""
        if self._results == "off" or (self._results == "changes" and camera and not self._is_change(result)):
            return
        topic = f"cameras/{result.source}/result" if camera else "uploads/result"
        self._outbox.put(Entry(self._boot, result.seq, f"{self._base}/{topic}", _json(result.to_json())))

    def publish_state(self, camera: str, state: StableState) -> None:
        label = "none" if state.label is None else state.label
        topic = f"{self._base}/cameras/{camera}/classification/{topic_level(state.model.name)}"
        self._retain(f"cameras/{camera}/state", _json(state.to_json()))
        self._retained.put(topic, label.encode(errors="replace"))
        self._leftovers.classified(camera, topic)

    def publish_snapshot(self, camera: str, jpeg: bytes) -> None:
        self._pass(Message(f"{self._base}/cameras/{camera}/snapshot", jpeg))

    def publish_camera_status(self, camera: str, status: CameraStatus) -> None:
        self._retain(f"cameras/{camera}/status", status.state.encode())

    def publish_enabled(self, camera: str, *, enabled: bool) -> None:
        self._retain(f"cameras/{camera}/enabled", b"ON" if enabled else b"OFF")

    def publish_model(self, status: ModelStatus) -> None:
        """A name of which nothing is left takes its topic with it."""
        topic = f"models/{topic_level(status.name)}"
        there = status.serving or status.candidate or status.rejection or status.versions
        self._retain(topic, _json(status.to_json()) if there else b"")

    def publish_info(self) -> None:
        self._retain("info", _json(self._info()))

    def publish_discovery(self) -> None:
        """Home Assistant hears of the cameras, their labels and the models as they are now."""
        if not self._swept:  # which will publish it
            return
        if self._discovery is not None:
            message = self._discovery(self._leftovers.discovery)
            self._leftovers.discovery = message.payload
            self._retained.put(message.topic, message.payload)
        elif self._leftovers.discovery:
            self._retained.remove(self._leftovers.discovery_topic)

    async def close(self, timeout_s: float) -> None:
        """Says offline, waits for its acknowledgement and disconnects; in `timeout_s` whatever the broker does.

        Then what was not acknowledged goes to the disk.
        """
        deadline_s = anyio.current_time() + timeout_s
        if self._connection.state == "connected":
            await self._outbox.settle(min(timeout_s / 3, _SETTLE_S))
        self._outbox.stop()
        if self._connection.state == "connected":
            self._farewell = self._send(presence(self._base, "offline"))
            with anyio.move_on_after(deadline_s - anyio.current_time()):
                await self._gone.wait()
        await self._connection.close(timeout_s=max(0.0, deadline_s - anyio.current_time()))
        await self._outbox.close()

    def _is_change(self, result: Result) -> bool:
        categories = result.classification.categories
        label = categories[0].label if categories else None
        unchanged = result.source in self._last_labels and self._last_labels[result.source] == label
        self._last_labels[result.source] = label
        return not unchanged

    def _retain(self, topic: str, payload: bytes) -> None:
        self._retained.put(f"{self._base}/{topic}", payload)

    def _pass(self, message: Message) -> None:
        """What is of no use later is not kept for later."""
        if self._connection.state == "connected":
            self._passing.append(message)
            self._pump()

    def _room(self) -> int:
        return min(_WINDOW, self._connection.receive_maximum) - len(self._unacknowledged)

    def _send(self, message: Message) -> int:
        number = self._connection.publish(message)
        self._unacknowledged.add(number)
        return number

    def _send_result(self, entry: Entry, late: bool) -> int:  # noqa: FBT001  (the outbox calls it)
        payload = entry.payload[:-1] + b',"replayed":true}' if late else entry.payload
        return self._send(Message(entry.topic, payload))

    def _announce(self, gap: Gap) -> int:
        return self._send(Message(f"{self._base}/gaps", _json(gap.to_json())))

    def _pump(self) -> None:
        """State first, then what passes, then results."""
        self._retained.pump()
        while self._passing and self._room() > 0:
            self._send(self._passing.popleft())
        self._outbox.pump()

    def _connected(self) -> None:
        self._send(presence(self._base, "online"))
        self._connection.subscribe(*self._filters(), *(() if self._swept else self._leftovers.filters))
        self.publish_info()
        self._retained.open()
        self._outbox.open()
        self._later(_FIRST_STATS_AFTER_S, self._tell_stats)
        if not self._swept:
            self._later(_SWEEP_S, self._end_sweep)

    def _filters(self) -> list[str]:
        birth = [home_assistant.BIRTH_TOPIC] if self._discovery is not None else []
        return birth + self._commands.filters

    def _end_sweep(self) -> None:
        """The broker has sent what it keeps: it does so right after it has taken a subscription."""
        self._swept = True
        self._connection.unsubscribe(*self._leftovers.filters)
        self.publish_discovery()

    def _tell_stats(self) -> None:
        self._pass_stats()
        self._later(_STATS_EVERY_S, self._tell_stats)

    def _pass_stats(self) -> None:
        outbox = self._outbox.status
        told = {"messages": outbox.messages, "bytes": outbox.size, "evicted": outbox.evicted, "trouble": outbox.trouble}
        self._pass(Message(f"{self._base}/stats", _json({**self._stats(), "outbox": told})))

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Unless the connection ends before."""
        now_s = self._loop.time()
        self._timers = [timer for timer in self._timers if timer.when() > now_s]
        self._timers.append(self._loop.call_later(delay_s, call))

    def _received(self, incoming: Incoming) -> None:
        if self._commands.take(incoming):
            return  # which acknowledges it when it is done
        if home_assistant.is_birth(incoming.topic, incoming.payload):
            self._retained.repeat(self._leftovers.discovery_topic)
            self._pass_stats()
        elif incoming.retained:
            self._leftovers.take(incoming)
        self._connection.acknowledge(incoming)

    def _disconnected(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._unacknowledged.clear()
        self._passing.clear()
        self._retained.pause()
        self._outbox.pause()
        self._gone.set()

    def _acknowledged(self, number: int, failure: str | None) -> None:
        self._unacknowledged.discard(number)
        if number == self._farewell:
            self._gone.set()
        self._retained.acknowledge(number)
        self._outbox.acknowledge(number, failure)
        self._pump()


def presence(base: str, word: Literal["online", "offline"]) -> Message:
    """`offline` is the last will, too."""
    return Message(f"{base}/status", word.encode(), retain=True)


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
