"""MqttPublisher: publishes the agent's events to their topics and handles incoming messages."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio

from agent.classification import UPLOAD
from agent.listeners import Listener
from agent.mqtt.commands import Commands
from agent.mqtt.former_topics import FormerTopics
from agent.mqtt.home_assistant.discovery import BIRTH_TOPIC, is_birth
from agent.mqtt.message import Message, compact_json, topic_level
from agent.mqtt.outbox.blocks import Entry
from agent.mqtt.session import Session, SessionListener
from agent.mqtt.stale_topics import StaleTopics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.classification import Result, Spot, StableState
    from agent.event import Event
    from agent.mqtt.commands import Actions
    from agent.mqtt.home_assistant.device import DiscoveredDevice
    from agent.mqtt.identity import Identity
    from agent.mqtt.link.endpoint import Endpoint, Timeouts
    from agent.mqtt.message import Incoming
    from agent.mqtt.outbox.storage import Storage
    from agent.mqtt.session import MqttStatus
    from agent.status import CameraHealth, CameraStatus, ModelStatus, ProfileStatus

_STATS_EVERY_S, _FIRST_STATS_AFTER_S = 30.0, 5.0
_SWEEP_S = 2.0
_ANSWER_BIRTH_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Reports:
    """Called to build the payloads of `<base>/info` and `<base>/stats`."""

    info: Callable[[], dict[str, Any]]
    stats: Callable[[], dict[str, Any]]


class MqttPublisher(Listener, SessionListener):
    """Publishes the topics of docs/reference/mqtt.md with QoS 1; at most 20 messages are in flight.

    Create it inside a running loop and call every method on that loop's thread; only close() waits. `results` is
    "all", "off" or "changes": with "changes", a camera's result is published only if its best label differs from the
    camera's previous result; uploads are always published. Without `home_assistant`, the discovery message of an
    earlier run is removed. `base_file` keeps the base of the topics, so that those of a former name are removed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        identity: Identity,
        *,
        storage: Storage,
        actions: Actions,
        reports: Reports,
        home_assistant: DiscoveredDevice | None = None,
        results: Literal["all", "changes", "off"] = "all",
        base_file: Path | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._identity = identity
        self._base = identity.base
        self._reports = reports
        self._home_assistant = home_assistant
        self._results = results
        self._last_labels: dict[Spot, str | None] = {}
        self._swept = self._shares = False
        self._last_stats: Message | None = None
        self._answered_birth_s = -_ANSWER_BIRTH_EVERY_S
        self._session = Session(endpoint, identity, storage=storage, listener=self, timeouts=timeouts)
        self._retained = self._session.retained
        self._cameras = dict(identity.cameras)
        self._stale = StaleTopics(identity, cameras=self._cameras, retained=self._retained)
        self._former = FormerTopics(base_file, identity, retained=self._retained)
        self._commands = Commands(
            actions,
            identity,
            cameras=self._cameras,
            answer=self._session.send_now,
            acknowledge=self._session.acknowledge,
        )

    @property
    def status(self) -> MqttStatus:
        return self._session.status

    def start(self) -> None:
        """Connects in the background and retries until close(). Earlier messages are kept for the broker."""
        self._session.open()

    async def run(self) -> None:
        """Writes the outbox to disk and handles requests. Never returns."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._session.outbox.run, name="mqtt-outbox")
            tasks.start_soon(self._commands.run, name="mqtt-requests")

    async def close(self, timeout_s: float) -> None:
        """Publishes `offline` and disconnects within `timeout_s`, then saves unacknowledged results to disk."""
        await self._session.close(timeout_s)

    def classified(self, result: Result) -> None:
        from_camera = result.source != UPLOAD.camera
        if self._results == "off" or (self._results == "changes" and from_camera and not self._is_change(result)):
            return
        topic = f"{result.spot.topic}/result" if from_camera else "uploads/result"
        payload = compact_json(result.to_json())
        self._session.outbox.put(Entry(self._identity.boot, result.seq, f"{self._base}/{topic}", payload))

    def state_changed(self, spot: Spot, state: StableState) -> None:
        """Does nothing for the last frame of a view that was removed: its topics would stay."""
        if spot not in self._cameras.get(spot.camera, ()):
            return
        label = "none" if state.label is None else state.label
        topic = f"{self._base}/{spot.topic}/classification/{topic_level(state.model.name)}"
        self._retain(f"{spot.topic}/state", compact_json(state.to_json()))
        self._retained.put(topic, label.encode(errors="replace"))
        self._stale.classified(spot, topic)
        if self._home_assistant is not None and self._home_assistant.shows(spot, state.label):
            self._publish_discovery()

    def event(self, event: Event) -> None:
        """Is not queued, like a snapshot: the device keeps the events, and old ones must not start automations."""
        topic = f"{self._base}/cameras/{event.spot.camera}/event"
        self._session.send_now(Message(topic, compact_json(event.to_json())))

    def snapshot(self, spot: Spot, jpeg: bytes) -> None:
        self._session.send_now(Message(f"{self._base}/{spot.topic}/snapshot", jpeg), newest_only=True)

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        before = dict(self._cameras)
        self._cameras.clear()
        self._cameras.update(spots)
        self._stale.forget(before)
        self._publish_info()
        self._publish_discovery()

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        self._retain(f"cameras/{camera}/status", status.state.encode())
        self._retain(f"cameras/{camera}/enabled", b"ON" if status.is_enabled else b"OFF")

    def profile_changed(self, status: ProfileStatus) -> None:
        """The topic exists only if the configuration has profiles."""
        if status.names:
            self._retain("profile", compact_json(status.to_json()))
        elif f"{self._base}/profile" in self._retained:
            self._retained.remove(f"{self._base}/profile")
        self._publish_discovery()

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        self._stale.health_judged(camera, is_judged=health is not None)
        if health is not None:
            self._retain(f"cameras/{camera}/health", health.state.encode())

    def model_changed(self, status: ModelStatus) -> None:
        """Removes the topic if nothing is known about the model any more."""
        topic = f"models/{topic_level(status.name)}"
        is_known = status.serving or status.candidate or status.rejection or status.versions
        document = status.to_json()
        payload = compact_json(document) if is_known else b""
        short = compact_json({**document, "versions": []}) if status.versions else None
        self._retained.put(f"{self._base}/{topic}", payload, short=short)
        self._update_share()
        self._publish_info()
        self._publish_discovery()

    def connected(self) -> None:
        self._session.subscribe(*self._filters(), *(() if self._swept else self._sweep_filters()))
        self._shares = False
        self._update_share()
        self._publish_info()
        self._session.call_later(_FIRST_STATS_AFTER_S, self._send_stats)
        if not self._swept:
            self._session.call_later(_SWEEP_S, self._end_sweep)

    def received(self, incoming: Incoming) -> None:
        if self._commands.take(incoming):
            return  # the command acknowledges the message once it is done
        if is_birth(incoming.topic, incoming.payload):
            self._answer_birth()
        elif incoming.retained and not self._former.take(incoming):
            self._stale.take(incoming)
        self._session.acknowledge(incoming)

    def _is_change(self, result: Result) -> bool:
        categories = result.classification.categories
        label = categories[0].label if categories else None
        unchanged = result.spot in self._last_labels and self._last_labels[result.spot] == label
        self._last_labels[result.spot] = label
        return not unchanged

    def _retain(self, topic: str, payload: bytes) -> None:
        self._retained.put(f"{self._base}/{topic}", payload)

    def _publish_info(self) -> None:
        info = self._reports.info()
        short = {key: value for key, value in info.items() if key not in {"cameras", "models"}}
        self._retained.put(f"{self._base}/info", compact_json(info), short=compact_json(short))

    def _publish_discovery(self) -> None:
        """Does nothing before the sweep has found the topics that the broker retains from an earlier run."""
        if not self._swept:
            return
        if self._home_assistant is not None:
            message = self._home_assistant.message(self._stale.discovery)
            self._stale.discovery = message.payload
            self._retained.put(message.topic, message.payload, short=message.short)
        elif self._stale.discovery:
            self._retained.remove(self._stale.discovery_topic)

    def _update_share(self) -> None:
        """Joins the shared queue only while a model serves: until then, other agents answer."""
        wanted = self._commands.shared is not None and self._commands.has_model()
        if self._commands.shared is None or wanted == self._shares or self._session.status.state != "connected":
            return
        self._shares = wanted
        (self._session.subscribe if wanted else self._session.unsubscribe)(self._commands.shared)

    def _filters(self) -> list[str]:
        birth = [BIRTH_TOPIC] if self._home_assistant is not None else []
        return birth + self._commands.filters

    def _sweep_filters(self) -> tuple[str, ...]:
        return *self._stale.filters, *self._former.filters

    def _end_sweep(self) -> None:
        """By now the broker has sent its retained messages: it does so right after a subscription."""
        self._swept = True
        self._session.unsubscribe(*self._sweep_filters())
        self._former.end()
        self._publish_discovery()

    def _send_stats(self) -> None:
        outbox = self._session.outbox.status
        waiting = {
            "messages": outbox.messages,
            "bytes": outbox.size,
            "evicted": outbox.evicted,
            "trouble": outbox.trouble,
        }
        document = {**self._reports.stats(), "outbox": waiting}
        self._last_stats = Message(f"{self._base}/stats", compact_json(document))
        self._session.send_now(self._last_stats)
        self._session.call_later(_STATS_EVERY_S, self._send_stats)

    def _answer_birth(self) -> None:
        """Handles the start of Home Assistant. Any client can send that message, so the rate is limited."""
        if time.monotonic() - self._answered_birth_s < _ANSWER_BIRTH_EVERY_S:
            return
        self._answered_birth_s = time.monotonic()
        self._retained.repeat(self._stale.discovery_topic)
        if self._last_stats is not None:
            self._session.send_now(self._last_stats)
