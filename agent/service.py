"""Service: builds every part from the configuration, runs them, and stops them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import importlib.metadata
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import anyio

from agent.cameras.cameras import Cameras
from agent.classification import ResultLog
from agent.config.sections import model_settings
from agent.errors import ModelNotFoundError, StartError
from agent.host import systemd
from agent.host.board import board_name, is_throttled, temperature_celsius
from agent.inference.engine import UPLOAD, InferenceEngine, View
from agent.metrics.registry import Metrics
from agent.metrics.stats import Stats
from agent.models.admission import Admission
from agent.models.folder import ModelFolder
from agent.models.history import History
from agent.models.loader import Loader
from agent.models.manager import ModelManager
from agent.models.serving import Serving
from agent.models.store import Store, copies_of
from agent.models.trial import Trial
from agent.mqtt.commands import Actions
from agent.mqtt.embedded_broker import EmbeddedBroker
from agent.mqtt.home_assistant import discovery as home_assistant
from agent.mqtt.publisher import MqttPublisher
from agent.mqtt.session import Storage
from agent.rest.app import create_app
from agent.rest.server import Server, listen
from agent.runtimes.interpreter import runtime
from agent.security.minisign import TrustedKeys
from agent.status import ModelStatus
from agent.wiring.broker import broker_endpoint

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from agent.cameras.pipeline import Pipeline
    from agent.classification import Result, StableState
    from agent.config.sections import Config
    from agent.mqtt.message import Message
    from agent.status import CameraStatus

log = logging.getLogger(__name__)

_STUCK_AFTER_S = 60.0
_FIRST_LOOK_S = 10.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_STOP_MQTT_S = 1.5


def run(config: Config) -> None:
    """Runs the service until SIGTERM or SIGINT. Raises AgentError when it cannot start."""
    _keep_freed_memory()
    anyio.run(_run, config, backend_options={"use_uvloop": True})


async def _run(config: Config) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    with anyio.CancelScope() as starting:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, starting.cancel)
        async with Service(config) as service:
            _spare_the_collector()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            systemd.notify("READY=1", f"STATUS={service.status_line()}")
            log.info("Ready. %s", service.where_to_look())
            await stop.wait()
            log.info("Stopping.")
            systemd.notify("STOPPING=1")
    # Everything is stopped and said. A thread may hang in OpenCV, in an inference or while it loads a model:
    # neither the event loop nor the interpreter shall wait for it.
    logging.shutdown()
    os._exit(0)


class Service:
    """Every part, started by `async with`: models, publishers, HTTP, cameras; stopped the other way round."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError or StartError for what can be known before anything runs."""
        self._config = config
        self._shown: dict[str, str | None] = {}
        self._version = importlib.metadata.version("edge-agent")
        self._stats = Stats(cameras=config.cameras)
        self._results = ResultLog(device=config.device.id, on_result=self._stats.observe)
        self._metrics = Metrics(version=self._version, runtime=runtime(), cameras=config.cameras)
        self._metrics.watch_ready(lambda: float(not self.why_not_ready()))
        workers, threads = config.engine.sizes()
        self._models = self._manager(workers, threads)
        self._engine = InferenceEngine(
            models=self._models,
            workers=workers,
            max_waiting=config.engine.max_waiting,
            max_pixels=config.http.max_pixels,
            on_outcome=self._metrics.observe_inference,
        )
        self._broker = broker_endpoint(config)
        self._mqtt: MqttPublisher | None = None
        self._tasks = anyio.create_task_group()
        self._cameras = Cameras(
            config.cameras,
            engine=self._engine,
            publisher=self,
            results=self._results,
            listener=self,
            tasks=self._tasks,
        )
        for name, status in self._cameras.statuses.items():
            self._metrics.set_camera_state(name, status.state)
        self._claim = contextlib.ExitStack()
        self._parts = contextlib.AsyncExitStack()

    def _manager(self, workers: int, threads: int) -> ModelManager:
        config, settings = self._config.models, model_settings(self._config)
        store = Store(copies_of(self._config.device.state_folder), max_bytes=config.max_mb << 20)
        history = History(self._config.device.state_folder / "models/history.json")
        unloads_first = config.swap == "resource"
        keys = TrustedKeys(config.trusted_keys) if config.trusted_keys else None
        admission = Admission(
            store=store,
            trial=Trial(threads=threads),
            workers=workers,
            unloads_first=unloads_first,
            settings=settings,
            signatures=config.signatures,
            keys=keys,
        )
        serving = Serving(
            history=history,
            store=store,
            loader=Loader(
                store=store,
                workers=workers,
                threads=threads,
                settings=settings,
                signers=keys if config.signatures == "required" else None,
            ),
            on_change=lambda name: self._models.refresh(name),  # noqa: PLW0108  (which is made of this)
            on_version=self._metrics.observe_version,
            on_rollback=self._metrics.observe_rollback,
            on_gap=self._metrics.observe_gap,
            canary_shares=config.canary,
            unloads_first=unloads_first,
        )
        return ModelManager(
            folder=ModelFolder(_existing_folder(config.folder)),
            store=store,
            history=history,
            admission=admission,
            serving=serving,
            retire_after_s=config.retire_after_s,
            keep_versions=config.keep_versions,
            on_change=self._model_changed,
            on_load=self._metrics.observe_load,
        )

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            self._claim.enter_context(_claimed(self._config.device.state_folder))
            listener = listen(self._config.http.host, self._config.http.port)
            self.port: int = listener.getsockname()[1]
            await self._start_models()
            await self._start_mqtt()
            await self._start_http(listener)
            self._parts.push_async_callback(self._cameras.close)
            self._cameras.start()
            if (period_s := systemd.watchdog_period_s()) is not None:
                self._tasks.start_soon(self._feed_watchdog, period_s)
        except BaseException as error:
            await self._stop(cleanly=isinstance(error, anyio.get_cancelled_exc_class()))
            await self._tasks.__aexit__(None, None, None)  # told of the error, it would wrap it in a group
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Also when a task of the service failed: the broker still hears `offline`."""
        await self._stop(cleanly=kind is None)
        await self._tasks.__aexit__(kind, error, trace)

    async def _stop(self, *, cleanly: bool) -> None:
        """A model may be what the service failed of: then the next start shall know."""
        with anyio.CancelScope(shield=True):
            await self._parts.aclose()
            if cleanly:
                await self._models.close()
            self._claim.close()
        self._tasks.cancel_scope.cancel()

    def status_line(self) -> str:
        """What `systemctl status` shows."""
        return f"{' '.join(self.why_not_ready()) or 'Ready.'} {self.where_to_look()}"

    def where_to_look(self) -> str:
        http, mqtt = self._config.http, self._config.mqtt
        topic = f"MQTT {mqtt.base_topic}/{self._config.device.id}/# at {mqtt.host}:{mqtt.port}"
        return (
            f"HTTP http://{http.host}:{self.port}/docs, {topic if mqtt.enabled else 'MQTT off'}, "
            f"models {', '.join(self._models.served) or 'none yet'} from {self._config.models.folder}."
        )

    def publish_result(self, result: Result, *, camera: bool) -> None:
        if self._mqtt is not None:
            self._mqtt.publish_result(result, camera=camera)

    def publish_state(self, camera: str, state: StableState) -> None:
        if self._mqtt is None:
            return
        self._mqtt.publish_state(camera, state)
        before, self._shown[camera] = self._shown.get(camera), state.label
        if before is not None and before not in self._labels(self._config.cameras[camera].model):
            self._mqtt.publish_discovery()  # which had to name a label of the model before as long as it stood there

    def publish_snapshot(self, camera: str, jpeg: bytes) -> None:
        if self._mqtt is not None:
            self._mqtt.publish_snapshot(camera, jpeg)

    def camera_changed(self, name: str, status: CameraStatus) -> None:
        self._metrics.set_camera_state(name, status.state)
        log.log(
            logging.WARNING if status.state in ("lost", "frozen") else logging.INFO,
            "Camera %s is %s. %s",
            name,
            status.state,
            status.reason or "",
            extra={"camera": name},
        )
        if self._mqtt is not None:
            self._mqtt.publish_camera_status(name, status)

    def camera_lost(self, name: str) -> None:
        self._metrics.observe_lost_camera(name)

    def camera_opened(self, name: str, pipeline: Pipeline) -> None:
        self._metrics.watch_last_frame(name, lambda: (pipeline.last_frame_ns or 0) / 1e9)

    def why_not_ready(self) -> list[str]:
        """What keeps the device from its work: no model at all, or a camera without frames or without its model."""
        reasons = [] if self._models.served else ["No model is served yet.", *self.warnings()]
        return [*reasons, *self._cameras.troubles()]

    def warnings(self) -> list[str]:
        """What a person should mend, while the device works on: a folder that is away, files that were rejected."""
        rejections = [(status.name, status.rejection) for status in self._models.statuses if status.rejection]
        return [*self._models.troubles, *(f"Model {name}: {why.reason}" for name, why in rejections)]

    async def _start_models(self) -> None:
        self._parts.callback(self._engine.close)
        self._metrics.watch_store(lambda: float(self._models.store_trouble is not None))
        await self._models.start()
        self._tasks.start_soon(self._models.run)
        if not self._models.served:
            with anyio.move_on_after(_FIRST_LOOK_S):  # a folder full of files that hang must not keep us from starting
                await self._models.has_looked.wait()

    async def _start_mqtt(self) -> None:
        config = self._config.mqtt
        if not config.enabled:
            return
        if config.embedded_broker:
            broker = EmbeddedBroker(host=config.host, port=config.port)
            await broker.start()
            self._parts.push_async_callback(broker.stop)
        self._mqtt = mqtt = self._publisher()
        self._parts.push_async_callback(mqtt.close, _STOP_MQTT_S)
        self._metrics.watch_mqtt(lambda: mqtt.status)
        for status in self._models.statuses:
            mqtt.publish_model(status)
        for name, camera in self._cameras.statuses.items():
            mqtt.publish_camera_status(name, camera)
            mqtt.publish_enabled(name, enabled=camera.state != "disabled")
        self._tasks.start_soon(mqtt.run)
        mqtt.start()

    def _publisher(self) -> MqttPublisher:
        config, device = self._config.mqtt, self._config.device
        return MqttPublisher(
            endpoint=self._broker,
            base_topic=config.base_topic,
            device=device.id,
            boot=self._results.boot,
            cameras=self._config.cameras,
            storage=Storage(
                folder=device.state_folder / "outbox",
                durability=config.durability,
                max_bytes=config.outbox.max_bytes,
                max_age_s=config.outbox.max_age_s,
            ),
            actions=Actions(
                classify=self._classify,
                set_enabled=self._set_enabled,
                has_model=lambda: bool(self._models.served),
                shared=config.shared_classify,
                max_bytes=self._config.http.max_upload_bytes,
                workers=self._engine.workers,
            ),
            protocol=311 if config.embedded_broker else config.protocol,  # amqtt lets MQTT 5 wait for ever
            results=config.results,
            info=self._info,
            stats=self._stats.tell,
            discovery=self._discovery if config.discovery else None,
        )

    async def _start_http(self, listener: socket.socket) -> None:
        app = create_app(
            version=self._version,
            engine=self._engine,
            models=self._models,
            results=self._results,
            publish=lambda result: self.publish_result(result, camera=False),
            stuck=self._stuck,
            why_not_ready=self.why_not_ready,
            warnings=self.warnings,
            mqtt=lambda: self._mqtt.status.to_json() if self._mqtt else None,
            metrics=self._metrics.render,
            on_request=self._metrics.observe_request,
            in_flight=self._metrics.request_in_flight,
            max_upload_bytes=self._config.http.max_upload_bytes,
        )
        server = Server(app)
        self._tasks.start_soon(server.answer, listener)
        await server.answering.wait()
        self._parts.push_async_callback(server.stop)

    def _set_enabled(self, name: str, enabled: bool) -> None:  # noqa: FBT001  (a command's value)
        self._cameras.switch(name, on=enabled)
        if self._mqtt is not None:
            self._mqtt.publish_enabled(name, enabled=enabled)

    async def _classify(self, image: bytes, model: str | None) -> dict[str, Any]:
        arrived_ns = time.time_ns()
        classification = await self._engine.classify_upload(image, View(model))
        result = self._results.record(classification, source=UPLOAD, captured_ns=arrived_ns)
        self.publish_result(result, camera=False)
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
        return None if own else f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def _labels(self, model: str | None) -> tuple[str, ...]:
        """Of the version that serves; none while none does."""
        try:
            return self._models.get(model).labels
        except ModelNotFoundError:
            return ()

    def _model_changed(self, status: ModelStatus) -> None:
        served = (*self._models.served.values(), *self._models.canaries.values())
        self._metrics.set_served(model.identity for model in served)
        if status == ModelStatus(status.name):
            self._metrics.forget_model(status.name)
        else:
            self._metrics.set_rejected(status.name, status.rejection is not None)
        if self._mqtt is not None:
            self._mqtt.publish_model(status)
            self._mqtt.publish_info()
            self._mqtt.publish_discovery()

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

    async def _feed_watchdog(self, period_s: float) -> None:
        """Only while everything advances or says why not: a loop that runs says nothing of a worker that hangs."""
        while True:
            if (stuck := self._stuck()) is None:
                systemd.notify("WATCHDOG=1", f"STATUS={self.status_line()}")
            else:
                log.error("%s systemd will restart the service.", stuck)
            await asyncio.sleep(period_s)

    def _stuck(self) -> str | None:
        if self._engine.oldest_call_s > _STUCK_AFTER_S:
            return f"An inference has been running for {self._engine.oldest_call_s:.0f} s."
        return self._cameras.stuck(after_s=_STUCK_AFTER_S)


def _keep_freed_memory() -> None:
    """Lets glibc keep up to 16 MB a thread that it would give back to the kernel after every image.

    The next image of the same size took 330 page faults to get it again, a tenth of the time of an upload.
    mallopt(3); the musl library has no such call and no such habit.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def _spare_the_collector() -> None:
    """What start-up made stays for good: Python's garbage collector need not look at it again and again.

    It took a tenth of the time of a request, all of it with the interpreter's lock held.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)


@contextlib.contextmanager
def _claimed(state_folder: Path) -> Generator[None]:
    """Two agents with one state folder would each remove the other's models."""
    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        lock = (state_folder / "lock").open("wb")
    except OSError as error:  # read-only: the store will say so, and be tried again
        log.warning(
            "device.state_folder %s cannot be written: %s. Nothing will outlast a restart.",
            state_folder,
            error.strerror,
        )
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"device.state_folder {state_folder} is used by another agent that runs. Stop that one, or give this "
                "one a folder of its own."
            ) from None
        yield


def _existing_folder(path: Path) -> Path:
    if not os.path.isdir(path):  # noqa: PTH112  (Path raises for a closed folder)
        raise StartError(f"models.folder {path} is no folder. Make it (mkdir -p {path}) or correct models.folder.")
    return path
