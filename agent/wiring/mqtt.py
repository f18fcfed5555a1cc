"""MQTT: builds the publisher from the configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent.errors import ModelNotFoundError
from agent.host.board import board_name, is_throttled, temperature_celsius
from agent.inference.options import Options
from agent.mqtt.commands import Actions
from agent.mqtt.home_assistant.device import DiscoveredDevice, ViewFacts, page_url
from agent.mqtt.home_assistant.discovery import DeviceFacts
from agent.mqtt.identity import Identity
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.publisher import MqttPublisher, Reports
from agent.runtimes.interpreter import runtime
from agent.wiring.broker import broker_endpoint

if TYPE_CHECKING:
    from agent.cameras.cameras import Cameras
    from agent.cameras.profiles import Profiles
    from agent.config.sections import Config
    from agent.host.clock import Clock
    from agent.inference.data_plane import DataPlane
    from agent.metrics.stats import Stats
    from agent.models.manager import ModelManager
    from agent.models.serving import ServedModel
    from agent.status import ProfileStatus


def build_mqtt(
    config: Config,
    *,
    version: str,
    boot: str,
    http_port: int,
    models: ModelManager,
    data_plane: DataPlane,
    cameras: Cameras,
    profiles: Profiles,
    stats: Stats,
    clock: Clock,
) -> MqttPublisher:
    """Call it inside the running loop. Raises ConfigError for credentials and certificates that cannot be used.

    `version` is the agent's, `boot` identifies this run, `http_port` is the port on which HTTP listens.
    """

    async def classify(image: bytes, model: str | None) -> dict[str, Any]:
        return (await data_plane.classify(image, Options(model), arrived_ns=time.monotonic_ns())).to_json()

    mqtt = config.mqtt
    identity = Identity(config.device.id, mqtt.base_topic, boot, cameras.spots)
    discovered = DiscoveredDevice(
        lambda: _facts(config, identity, version=version, http_port=http_port, profiles=profiles.status),
        views=lambda: {
            spot: ViewFacts(view.model, view.snapshots, is_judged=cameras.configured[spot.camera].has_health)
            for spot, view in cameras.views().items()
        },
        models=_Models(models),
    )
    return MqttPublisher(
        broker_endpoint(config),
        identity,
        storage=Storage(
            folder=config.device.state_folder / "outbox",
            durability=mqtt.durability,
            max_bytes=mqtt.outbox.max_bytes,
            max_age_s=mqtt.outbox.max_age_s,
            clock=clock,
        ),
        actions=Actions(
            classify=classify,
            set_enabled=lambda camera, on: cameras.switch(camera, on=on),
            choose_profile=profiles.choose,
            has_model=lambda: bool(models.served),
            shared=mqtt.shared_classify,
            max_bytes=config.http.max_upload_bytes,
            workers=data_plane.workers,
            retake_reference=cameras.retake_reference,
        ),
        reports=Reports(info=lambda: _info(config, models, version=version, cameras=cameras), stats=stats.report),
        home_assistant=discovered if mqtt.discovery else None,
        results=mqtt.results,
        base_file=config.device.state_folder / "base_topic",
    )


class _Models:
    """What Home Assistant shows about the models."""

    def __init__(self, models: ModelManager) -> None:
        self._models = models

    def labels(self, model: str | None) -> tuple[str, ...]:
        try:
            return self._models.get(model).labels
        except ModelNotFoundError:
            return ()

    def serving(self) -> list[str]:
        return [status.name for status in self._models.statuses if status.serving]


def _facts(config: Config, identity: Identity, *, version: str, http_port: int, profiles: ProfileStatus) -> DeviceFacts:
    http = config.http
    return DeviceFacts(
        identity.device,
        identity.base,
        version,
        thermometer=temperature_celsius() is not None,
        throttle=is_throttled() is not None,
        events=config.events.enabled,
        url=page_url(http.host, http_port, scheme=http.scheme, base_path=http.base_path or ""),
        hardware=board_name(),
        profiles=profiles.choices if profiles.names else (),
    )


def _info(config: Config, models: ModelManager, *, version: str, cameras: Cameras) -> dict[str, Any]:
    workers, threads = config.engine.sizes()
    used = {served.runs_on.accelerator for served in models.served.values()}
    return {
        "version": version,
        "runtime": runtime(),
        "delegate": ", ".join(sorted(used)) or "cpu",
        "workers": workers,
        "threads": threads,
        "cameras": sorted(cameras.configured),
        "models": [_served_info(served) for served in models.served.values()],
    }


def _served_info(served: ServedModel) -> dict[str, Any]:
    runs_on = served.runs_on
    return {**served.identity.to_json(), "runtime": runs_on.runtime, "accelerator": runs_on.accelerator}
