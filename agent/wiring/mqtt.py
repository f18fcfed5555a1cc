"""Mqtt: the publisher, built from the configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent.errors import ModelNotFoundError
from agent.host.board import board_name, is_throttled, temperature_celsius
from agent.inference.options import Options
from agent.listeners import Listener
from agent.mqtt.commands import Actions
from agent.mqtt.home_assistant import discovery as home_assistant
from agent.mqtt.outbox.storage import Storage
from agent.mqtt.publisher import MqttPublisher
from agent.runtimes.interpreter import runtime
from agent.wiring.broker import broker_endpoint

if TYPE_CHECKING:
    from agent.cameras.cameras import Cameras
    from agent.classification import Result, StableState
    from agent.config.sections import Config
    from agent.inference.data_plane import DataPlane
    from agent.metrics.stats import Stats
    from agent.models.manager import ModelManager
    from agent.mqtt.message import Message
    from agent.mqtt.session import MqttStatus
    from agent.status import CameraStatus, ModelStatus


class Mqtt(Listener):
    """To be replaced when the publisher itself listens."""

    def __init__(
        self,
        config: Config,
        *,
        version: str,
        boot: str,
        port: int,
        data_plane: DataPlane,
        models: ModelManager,
        cameras: Cameras,
        stats: Stats,
    ) -> None:
        self._config = config
        self._version = version
        self._port = port
        self._data_plane = data_plane
        self._models = models
        self._cameras = cameras
        self._shown: dict[str, str | None] = {}
        mqtt, device = config.mqtt, config.device
        self.publisher = MqttPublisher(
            endpoint=broker_endpoint(config),
            base_topic=mqtt.base_topic,
            device=device.id,
            boot=boot,
            cameras=config.cameras,
            storage=Storage(
                folder=device.state_folder / "outbox",
                durability=mqtt.durability,
                max_bytes=mqtt.outbox.max_bytes,
                max_age_s=mqtt.outbox.max_age_s,
            ),
            actions=Actions(
                classify=self._classify,
                set_enabled=lambda name, on: cameras.switch(name, on=on),
                has_model=lambda: bool(models.served),
                shared=mqtt.shared_classify,
                max_bytes=config.http.max_upload_bytes,
                workers=data_plane.workers,
            ),
            results=mqtt.results,
            info=self._info,
            stats=stats.report,
            discovery=self._discovery if mqtt.discovery else None,
        )

    @property
    def status(self) -> MqttStatus:
        return self.publisher.status

    def classified(self, result: Result) -> None:
        self.publisher.publish_result(result, camera=result.source in self._config.cameras)

    def state_changed(self, camera: str, state: StableState) -> None:
        self.publisher.publish_state(camera, state)
        before, self._shown[camera] = self._shown.get(camera), state.label
        if before is not None and before not in self._labels(self._config.cameras[camera].model):
            self.publisher.publish_discovery()

    def snapshot(self, camera: str, jpeg: bytes) -> None:
        self.publisher.publish_snapshot(camera, jpeg)

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        self.publisher.publish_camera_status(camera, status)
        self.publisher.publish_enabled(camera, enabled=status.state != "disabled")

    def model_changed(self, status: ModelStatus) -> None:
        self.publisher.publish_model(status)
        self.publisher.publish_info()
        self.publisher.publish_discovery()

    async def _classify(self, image: bytes, model: str | None) -> dict[str, Any]:
        result = await self._data_plane.classify(image, Options(model), arrived_ns=time.time_ns())
        return result.to_json()

    def _discovery(self, former: bytes | None) -> Message:
        """What Home Assistant is told of this device."""
        return home_assistant.discovery(
            device=self._config.device.id,
            base=f"{self._config.mqtt.base_topic}/{self._config.device.id}",
            version=self._version,
            cameras=[
                home_assistant.CameraEntities(name, self._labels(camera.model), camera.snapshots, self._shown.get(name))
                for name, camera in self._config.cameras.items()
            ],
            models=[status.name for status in self._models.statuses if status.serving],
            thermometer=temperature_celsius() is not None,
            throttle=is_throttled() is not None,
            url=self._url(),
            former=former,
            hardware=board_name(),
        )

    def _url(self) -> str | None:
        """Where others find the HTTP interface; None where they cannot, or where its address says nothing."""
        host = self._config.http.host
        own = host == "localhost" or host.startswith("127.") or host in ("::1", "::", "0.0.0.0")  # noqa: S104
        return None if own else f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def _labels(self, model: str | None) -> tuple[str, ...]:
        """Of the version that serves; none while none does."""
        try:
            return self._models.get(model).labels
        except ModelNotFoundError:
            return ()

    def _info(self) -> dict[str, Any]:
        workers, threads = self._config.engine.sizes()
        return {
            "version": self._version,
            "runtime": runtime(),
            "delegate": "cpu",
            "workers": workers,
            "threads": threads,
            "cameras": sorted(self._config.cameras),
            "models": [served.identity.to_json() for served in self._models.served.values()],
        }
