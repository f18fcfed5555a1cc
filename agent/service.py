"""Service: builds every part from the configuration, runs them, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import anyio

from agent.cameras.cameras import Cameras
from agent.cameras.collector import Collector
from agent.cameras.profiles import Profiles
from agent.collection.folder import CollectionFolder
from agent.config.differences import keys_that_need_a_restart
from agent.config.load import model_settings
from agent.errors import AgentError
from agent.health import Health
from agent.host import process, systemd
from agent.host.board import board_name
from agent.host.clock import Clock
from agent.host.throttling import Throttling
from agent.inference.data_plane import DataPlane
from agent.inference.engine import InferenceEngine
from agent.inference.results import Results
from agent.inference.share import places_for_uploads
from agent.listeners import Listeners
from agent.logs import EventLog
from agent.metrics.registry import Metrics
from agent.metrics.stats import Stats
from agent.mqtt.embedded_broker import EmbeddedBroker
from agent.overview import Overview
from agent.rest.app import Limits, create_app
from agent.rest.server import Server, listen
from agent.runtimes.interpreter import runtime
from agent.security.server_tls import ServerTls
from agent.wiring.access import build_access, build_reach, server_files, why_closed
from agent.wiring.broker import broker_endpoint
from agent.wiring.events import build_events
from agent.wiring.models import build_models, check_folder
from agent.wiring.mqtt import build_mqtt
from agent.wiring.rpc import build_rpc

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from agent.config.sections import Config
    from agent.events.recorder import EventRecorder
    from agent.mqtt.publisher import MqttPublisher

log = logging.getLogger(__name__)

_FIRST_LOOK_S = 10.0
_STOP_MQTT_S = 1.5


def run(config: Config, *, load: Callable[[], Config]) -> None:
    """Runs the service until SIGTERM or SIGINT. At SIGHUP, `load` gives the configuration with other cameras.

    Raises AgentError if it cannot start.
    """
    # Checked before creating the state folder and opening the port: a wrong configuration leaves nothing behind.
    _checked(config)
    process.keep_freed_memory()
    anyio.run(_run, config, lambda: _checked(load()), backend_options={"use_uvloop": True})


def _checked(config: Config) -> Config:
    model_settings(config)
    broker_endpoint(config)
    check_folder(config)
    return config


async def _run(config: Config, load: Callable[[], Config]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    with anyio.CancelScope() as starting:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, starting.cancel)
        with process.claimed(config.device.state_folder), listen(config.http.host, config.http.port) as socket:
            async with Service(config, socket) as service:
                process.freeze_startup_objects()
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, stop.set)
                if not os.isatty(0):  # a terminal that is closed sends it too, and ends the agent
                    loop.add_signal_handler(signal.SIGHUP, service.reload, load)
                systemd.notify("READY=1", f"STATUS={service.status_line()}")
                log.info("Ready. %s", service.where_to_look())
                await stop.wait()
                log.info("Stopping.")
                systemd.notify("STOPPING=1")
    # Everything is stopped and logged. A thread may hang in OpenCV, in an inference or while it loads a model;
    # neither the event loop nor the interpreter must wait for it.
    logging.shutdown()
    os._exit(0)


class Service:
    """`async with` starts every part: models, MQTT, HTTP, gRPC, cameras; and stops them in reverse order."""

    def __init__(self, config: Config, socket: socket.socket) -> None:
        """Construct it inside a running loop. `socket` already listens; the HTTP server uses it.

        Raises ConfigError or StartError for problems that can be detected before any part runs.
        """
        self._config = config
        self._socket = socket
        self.port: int = socket.getsockname()[1]  # the kernel chose it if the configuration says 0
        version = importlib.metadata.version("edge-agent")
        workers, _ = config.engine.sizes()
        clock, throttling = Clock(), Throttling()
        results, stats = Results(device=config.device.id, clock=clock), Stats()
        metrics = Metrics(version=version, runtime=runtime())
        listeners = Listeners([*metrics.listeners, stats, EventLog()])
        self._tasks = anyio.create_task_group()
        self._parts = contextlib.AsyncExitStack()
        self._reloading = asyncio.Lock()
        self._models = build_models(config, listeners, is_throttled=throttling)
        self._engine = InferenceEngine(
            workers=workers,
            max_waiting=config.engine.max_waiting,
            max_pixels=config.http.max_pixels,
            batch_threads=config.engine.batching.num_batch_threads,
            batch_timeout_s=config.engine.batching.batch_timeout_micros / 1e6,
            on_batch=listeners.batched,
        )
        data_plane = DataPlane(engine=self._engine, models=self._models, results=results, listener=listeners)
        self._cameras = Cameras(
            config.cameras,
            data_plane=data_plane,
            listener=listeners,
            tasks=self._tasks,
            is_throttled=throttling,
            reference_folder=config.device.state_folder / "references",
        )
        collection = CollectionFolder(config.device.state_folder / "collection")
        collector = Collector(collection, views=self._cameras.views, tasks=self._tasks)
        listeners.add(collector)
        self._profiles = Profiles(config.profiles, cameras=self._cameras, listener=listeners)
        self._mqtt: MqttPublisher | None = None
        if config.mqtt.enabled:
            self._mqtt = mqtt = build_mqtt(
                config,
                version=version,
                boot=results.boot,
                http_port=self.port,
                data_plane=data_plane,
                models=self._models,
                cameras=self._cameras,
                profiles=self._profiles,
                stats=stats,
                clock=clock,
            )
            listeners.add(mqtt)
            metrics.watch_mqtt(lambda: mqtt.status)
        self._recorder: EventRecorder | None
        events, self._recorder = build_events(config, listeners)
        self._health = Health(
            engine=self._engine,
            models=self._models,
            cameras=self._cameras,
            mqtt=self._mqtt,
            others=[collector, *([] if events is None else [events])],
        )
        metrics.watch(health=self._health, models=self._models, cameras=self._cameras)
        overview = Overview(
            {"id": config.device.id, "version": version, "hardware": board_name()},
            view_models=lambda: {spot: view.model for spot, view in self._cameras.views().items()},
            cameras=self._cameras,
            models=self._models,
            health=self._health,
            records_events=events is not None,
        )
        listeners.add(overview)
        access = build_access(config)
        places = places_for_uploads(workers + config.engine.max_waiting, per_client=config.http.per_client)
        self._app = create_app(
            version=version,
            data_plane=data_plane,
            models=self._models,
            cameras=self._cameras,
            profiles=self._profiles,
            collection=collection,
            overview=overview,
            health=self._health,
            metrics=metrics,
            limits=Limits(max_upload_bytes=config.http.max_upload_bytes, per_client=config.http.per_client),
            places=places,
            access=access,
            reach=build_reach(config),
            events=events,
        )
        self._rpc = build_rpc(
            config,
            version=version,
            data_plane=data_plane,
            places=places,
            models=self._models,
            health=self._health,
            metrics=metrics.rpc,
            access=access,
        )
        if (trouble := why_closed(config, access)) is not None:
            log.warning("%s", trouble)
        files = server_files(config)
        self._tls = ServerTls(files, on_refused=lambda: metrics.http.auth_failed("certificate")) if files else None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            self._cameras.announce()
            self._profiles.apply()
            await self._start_models()
            await self._start_mqtt()
            await self._start_http()
            await self._start_rpc()
            self._start_events()
            self._parts.push_async_callback(self._cameras.close)
            self._cameras.start()
            self._tasks.start_soon(self._profiles.run, name="profiles")
            if (period_s := systemd.watchdog_period_s()) is not None:
                self._tasks.start_soon(self._feed_watchdog, period_s, name="watchdog")
        except BaseException as error:
            await self._stop(cleanly=isinstance(error, anyio.get_cancelled_exc_class()))
            await self._tasks.__aexit__(None, None, None)  # with the error, it would wrap it in an exception group
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Also runs when a task of the service failed: the broker still receives `offline`."""
        await self._stop(cleanly=kind is None)
        await self._tasks.__aexit__(kind, error, trace)

    def status_line(self) -> str:
        """The line that `systemctl status` shows."""
        reasons = [*self._health.why_not_ready(), *filter(None, [self._health.configuration_trouble])]
        return f"{' '.join(reasons) or 'Ready.'} {self.where_to_look()}"

    def reload(self, load: Callable[[], Config]) -> None:
        """Uses the cameras and profiles that `load` returns; if it raises ConfigError, nothing changes."""
        self._tasks.start_soon(self._reload, load, name="reload")

    def where_to_look(self) -> str:
        http, mqtt = self._config.http, self._config.mqtt
        topic = f"MQTT {mqtt.base_topic}/{self._config.device.id}/# at {mqtt.host}:{mqtt.port}"
        host = f"[{http.host}]" if ":" in http.host else http.host
        page = f"{http.scheme}://{host}:{self.port}{http.base_path or ''}/"
        grpc = f"gRPC {self._rpc.address}, " if self._rpc else ""
        return (
            f"HTTP {page}, {grpc}{topic if mqtt.enabled else 'MQTT off'}, "
            f"models {', '.join(self._models.served) or 'none yet'} from {self._config.models.folder}."
        )

    async def _start_models(self) -> None:
        self._parts.callback(self._engine.close)
        await self._models.start()
        self._tasks.start_soon(self._models.run, name="models")
        self._tasks.start_soon(self._models.accelerate, name="accelerators")
        if not self._models.served:
            with anyio.move_on_after(_FIRST_LOOK_S):  # files that hang must not prevent the start
                await self._models.has_looked.wait()

    async def _start_mqtt(self) -> None:
        if self._mqtt is None:
            return
        if self._config.mqtt.embedded_broker:
            broker = EmbeddedBroker(host=self._config.mqtt.host, port=self._config.mqtt.port)
            await broker.start()
            self._parts.push_async_callback(broker.stop)
        self._parts.push_async_callback(self._mqtt.close, _STOP_MQTT_S)
        self._tasks.start_soon(self._mqtt.run, name="mqtt")
        self._mqtt.start()

    async def _start_http(self) -> None:
        http = self._config.http
        server = Server(
            self._app,
            header_timeout_s=http.header_timeout_s,
            body_timeout_s=http.body_timeout_s,
            trusted_proxies=http.trusted_proxies,
            tls=self._tls,
        )
        self._tasks.start_soon(server.answer, self._socket, name="http")
        await server.answering.wait()
        self._parts.push_async_callback(server.stop)

    async def _start_rpc(self) -> None:
        if self._rpc is not None:
            await self._rpc.start()
            self._parts.push_async_callback(self._rpc.stop)

    def _start_events(self) -> None:
        """Stopped before MQTT, so that the ends of the last events are announced. Does not wait for the disk."""
        if self._recorder is not None:
            self._tasks.start_soon(self._recorder.start, name="events")
            self._parts.push_async_callback(self._recorder.close)

    async def _reload(self, load: Callable[[], Config]) -> None:
        async with self._reloading:
            systemd.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            trouble = None
            try:
                self._use_cameras_of(await asyncio.to_thread(load))
            except AgentError as error:
                trouble = f"The changed configuration is not used: {error}"
            self._health.configuration_trouble = trouble
            if trouble is not None:
                log.error("%s", trouble)
            systemd.notify("READY=1", f"STATUS={self.status_line()}")

    def _use_cameras_of(self, changed: Config) -> None:
        before, after = self._cameras.configured, changed.cameras
        edited = {name for name in before.keys() & after.keys() if before[name] != after[name]}
        kinds = {"added": after.keys() - before.keys(), "removed": before.keys() - after.keys(), "changed": edited}
        said = "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names)
        log.info("The configuration was loaded again. Cameras: %s.", said or "no change")
        if keys := keys_that_need_a_restart(self._config, changed):
            log.warning("Changes of %s take effect only after a restart.", ", ".join(keys))
        self._cameras.reconfigure(after)
        self._profiles.reconfigure(changed.profiles)

    async def _feed_watchdog(self, period_s: float) -> None:
        """Feeds it only while no part is stuck: that this loop runs does not show that the workers run."""
        while True:
            if (stuck := self._health.stuck()) is None:
                systemd.notify("WATCHDOG=1", f"STATUS={self.status_line()}")
            else:
                log.error("%s systemd will restart the service.", stuck)
            await asyncio.sleep(period_s)

    async def _stop(self, *, cleanly: bool) -> None:
        """The models are closed only after a clean run: if a model caused the failure, the next start must know."""
        with anyio.CancelScope(shield=True):
            await self._parts.aclose()
            if cleanly:
                await self._models.close()
        self._tasks.cancel_scope.cancel()
