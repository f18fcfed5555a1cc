"""Cameras: opens every configured camera with its pipeline, switches it off and on, changes it, and closes it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio

from agent.cameras.health_watch import HealthWatches
from agent.cameras.motion import MotionGate
from agent.cameras.pictures import Pictures
from agent.cameras.pipeline import Pipeline
from agent.cameras.state import StableLabel
from agent.cameras.view import View
from agent.classification import Spot
from agent.framing import Framing
from agent.host.clock import Clock
from agent.host.throttling import never
from agent.inference.options import Options
from agent.sources.source import open_source
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from agent.cameras.view import DataPlane
    from agent.config.camera import CameraSection
    from agent.config.profiles import ProfileCameraSection
    from agent.config.view import ViewSection
    from agent.listeners import Listener
    from agent.sources.capture_options import Command
    from agent.sources.source import Source

_STOP_S = 0.5


class Released(NamedTuple):
    """Whose source is closing: neither the camera nor its device may be opened before that is over."""

    camera: str
    origin: str | Command


class Cameras:
    """Create and use it on the event loop's thread; its pipelines run in `tasks`."""

    def __init__(
        self,
        configured: Mapping[str, CameraSection],
        *,
        data_plane: DataPlane,
        listener: Listener,
        tasks: TaskGroup,
        is_throttled: Callable[[], bool] = never,
        reference_folder: Path | None = None,
    ) -> None:
        """`reference_folder` keeps the pictures with which the health of cameras is judged; None: it is not judged."""
        self.configured = configured
        self._data_plane = data_plane
        self._listener = listener
        self._tasks = tasks
        self._is_throttled = is_throttled
        self._profile: Mapping[str, ProfileCameraSection] = {}
        self._healths = HealthWatches(configured, folder=reference_folder, listener=listener, tasks=tasks)
        self._enabled = {name for name, camera in configured.items() if camera.enabled}
        self._pipelines: dict[str, Pipeline] = {}
        self._opened: dict[str, Pipeline] = {}  # the latest pipeline of each camera, even if the camera is off now
        self._pictures: dict[str, dict[Spot, Pictures]] = {}  # of each open camera and of its views
        self._sources: dict[str, Source] = {}
        self._closing: dict[Source, Released] = {}
        self._switching: set[str] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._is_started = self._is_closed = False
        self.statuses = {
            name: CameraStatus("starting" if camera.enabled else "disabled") for name, camera in configured.items()
        }

    def announce(self) -> None:
        """Announces the cameras and their status."""
        self._listener.cameras_configured(self.spots)
        for name, status in self.statuses.items():
            self._listener.camera_changed(name, status)
        self._healths.announce()

    def start(self) -> None:
        """Opens the enabled cameras. Returns at once; the listener gets their status."""
        self._is_started = True
        for name in self.configured:
            if name in self._enabled:
                self._open(name)

    async def close(self) -> None:
        """Also waits a moment for the frames in flight, so that their results are saved too."""
        self._is_closed = True
        for source in self._sources.values():
            source.close()
        for of_camera in self._pictures.values():
            for pictures in of_camera.values():
                pictures.close()
        with anyio.move_on_after(_STOP_S):
            for ended in self._ended.values():
                await ended.wait()

    def switch(self, name: str, *, on: bool) -> None:
        """Lasts until the next start, which follows the configuration."""
        if on:
            self._enabled.add(name)
            if name not in self._sources:
                self._changed(name, CameraStatus("starting"))
                if self._is_started and name not in self._switching:
                    self._switching.add(name)
                    self._tasks.start_soon(self._open_again, name, name=f"open-{name}")
            return
        self._enabled.discard(name)
        self._close(name)
        self._changed(name, CameraStatus("disabled"))

    def reconfigure(self, configured: Mapping[str, CameraSection]) -> None:
        """Closes the cameras that are gone, opens new ones, and opens those again that have changed.

        The others notice nothing; one that a command switched on or off stays so.
        """
        before, self.configured = self.configured, configured
        self._healths.reconfigure(configured)
        for name in before.keys() - configured.keys():
            self._close(name, before[name].origin)
            self._enabled.discard(name)
            self.statuses.pop(name)
            self._opened.pop(name, None)
        changed = [name for name, camera in configured.items() if before.get(name) != camera]
        for name in changed:  # closed before any is opened: a device may have moved from one camera to another
            if name in before:
                self._close(name, before[name].origin)
            is_enabled = self._adjusted(name).enabled
            (self._enabled.add if is_enabled else self._enabled.discard)(name)
            self.statuses[name] = CameraStatus("starting" if is_enabled else "disabled")
        self._listener.cameras_configured(self.spots)
        for name in changed:
            if name in self._enabled:
                self.switch(name, on=True)
            else:
                self._changed(name, CameraStatus("disabled"))

    def retake_reference(self, name: str) -> bool:
        """Has the health of the camera judged by its next minute; False if its health is not judged."""
        return self._healths.retake(name)

    def views(self) -> dict[Spot, ViewSection]:
        """The configuration of every view of every camera."""
        return {
            Spot(name, view): keys
            for name, camera in self.configured.items()
            for view, keys in camera.all_views.items()
        }

    def adjust(self, profile: Mapping[str, ProfileCameraSection]) -> None:
        """Uses the settings of `profile` instead of those of the configuration, without opening a camera again.

        A camera that a command switched on or off stays so until a profile changes its `enabled`.
        """
        before = {name: self._adjusted(name) for name in self.configured}
        self._profile = profile
        for name, old in before.items():
            new = self._adjusted(name)
            if new != old and name in self._pipelines:
                self._pipelines[name].pace.max_fps = new.max_fps
                of_views = new.all_views
                for view in self._pipelines[name].views:
                    keys = of_views[view.spot.view]
                    view.adjust(score_threshold=keys.threshold, leave_threshold=keys.leave_threshold)
            if new.enabled != old.enabled:
                self.switch(name, on=new.enabled)

    @property
    def spots(self) -> dict[str, tuple[Spot, ...]]:
        """The views of each camera."""
        return {name: tuple(Spot(name, view) for view in camera.all_views) for name, camera in self.configured.items()}

    def pictures(self, spot: Spot) -> Pictures | None:
        """What the view shows; the whole picture of a camera with views, if `spot` names none of them.

        None while the camera is switched off, and for a view that does not exist.
        """
        return self._pictures.get(spot.camera, {}).get(spot)

    def has_picture(self, name: str) -> bool:
        return (pictures := self.pictures(Spot(name))) is not None and pictures.has_one

    def troubles(self) -> list[str]:
        """One sentence for each camera that gives no frames or waits for its model."""
        troubles = []
        for name, status in self.statuses.items():
            if status.state not in ("online", "disabled", "ended"):
                troubles.append(f"Camera {name} is {status.state}: {status.reason or 'no frame yet.'}")
            elif status.state == "online" and (trouble := self._pipelines[name].trouble):
                troubles.append(f"Camera {name} is waiting: {trouble}")
        return troubles

    def stuck(self, *, after_s: float) -> str | None:
        """A sentence about an enabled camera that gives no frame and whose status does not say why."""
        for name, pipeline in self._pipelines.items():
            silent_s = time.monotonic() - pipeline.last_read_s
            slowest_s = after_s + 2 / self._adjusted(name).max_fps + self._sources[name].silence_s
            status = self.statuses[name]
            may_be_silent = status.reason is not None or status.state == "ended" or pipeline.is_idle
            if silent_s > slowest_s and not may_be_silent:
                return f"Camera {name} is {status.state} and has given no frame for {silent_s:.0f} s."
        return None

    def last_frames_s(self) -> dict[str, float]:
        """Unix time of the last frame of each camera that was opened; 0 before its first frame."""
        frames_ns = {name: pipeline.last_frame_ns for name, pipeline in self._opened.items()}
        return {name: Clock.unix_ns(at) / 1e9 if at is not None else 0.0 for name, at in frames_ns.items()}

    def _adjusted(self, name: str) -> CameraSection:
        """The configuration of a camera with the settings of the profile."""
        camera = self.configured[name]
        return self._profile[name].applied_to(camera) if name in self._profile else camera

    def _close(self, name: str, where: str | Command | None = None) -> None:
        """`where` is the origin of the camera, if its configuration has changed since."""
        if (source := self._sources.pop(name, None)) is not None:
            source.close()
            self._closing[source] = Released(name, where or self.configured[name].origin)
            self._pipelines.pop(name).close()
            for pictures in self._pictures.pop(name).values():
                pictures.close()
            self._tasks.start_soon(self._wait_closed, source, name=f"close-{name}")

    async def _wait_closed(self, source: Source) -> None:
        await source.wait_closed()
        self._closing.pop(source, None)

    def _open(self, name: str) -> None:
        camera = self._adjusted(name)
        source = open_source(
            camera.origin,
            loop=camera.loop,
            on_status=lambda status: self._changed(name, status),
            username=camera.username,
            password_file=camera.password_file,
            options=camera.capture_options,
            after=camera.after,
        )
        self._sources[name] = source
        whole = Pictures(Framing(rotate=camera.rotate, mirror=camera.mirror)) if camera.views else None
        keys = {Spot(name, view): of_view for view, of_view in camera.all_views.items()}
        pictures = {spot: Pictures(camera.framing(of_view)) for spot, of_view in keys.items()}
        self._pictures[name] = pictures if whole is None else {Spot(name): whole, **pictures}
        self._pipelines[name] = pipeline = Pipeline(
            source=source,
            views=[self._view(spot, keys[spot], camera.framing(keys[spot]), shown) for spot, shown in pictures.items()],
            max_fps=camera.max_fps,
            is_throttled=self._is_throttled,
            masks=camera.polygons,
            watchers=[*filter(None, [whole]), *self._healths.watching(name, source)],
        )
        self._opened[name] = pipeline
        self._ended[name] = asyncio.Event()
        self._tasks.start_soon(self._follow, pipeline, self._ended[name], name=f"camera-{name}")

    def _view(self, spot: Spot, view: ViewSection, framing: Framing, pictures: Pictures) -> View:
        return View(
            spot,
            Options(view.model, view.max_results, view.threshold, framing),
            data_plane=self._data_plane,
            listener=self._listener,
            stable=StableLabel(
                frames=view.stable_frames,
                score_threshold=view.threshold,
                leave_threshold=view.leave_threshold,
                hold_s=view.hold_s,
                mean_frames=view.mean_frames,
            ),
            pictures=pictures,
            gate=MotionGate(framing, forced_every_s=view.motion.forced_every_s) if view.motion.enabled else None,
            snapshots=view.snapshots,
        )

    async def _follow(self, pipeline: Pipeline, ended: asyncio.Event) -> None:
        try:
            await pipeline.run()
        finally:
            ended.set()

    async def _open_again(self, name: str) -> None:
        """Waits until the old source is released: a device opens only once, and each hanging stream holds a thread."""
        while name in self._enabled and (closing := self._closing_of(name)):
            await self._wait_closed(closing[0])
        self._switching.discard(name)
        if name in self._enabled and not self._is_closed:
            self._open(name)

    def _closing_of(self, name: str) -> list[Source]:
        where = self.configured[name].origin
        return [source for source, of in self._closing.items() if of.camera == name or of.origin == where]

    def _changed(self, name: str, status: CameraStatus) -> None:
        self.statuses[name] = status
        self._listener.camera_changed(name, status)
