"""HealthWatch: has the health of each live camera judged, about once per second, while it gives frames."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from agent.cameras.health import HealthJudge
from agent.cameras.reference import ReferenceFile, forget_others
from agent.cameras.scene import SMALLEST_SIDE, small_gray, visible_part
from agent.errors import ImageError
from agent.host.throttling import never

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from agent.config.camera import CameraSection
    from agent.frame import Frame, Polygon
    from agent.image import Pixels
    from agent.listeners import Listener
    from agent.status import CameraHealth


class Source(Protocol):
    @property
    def has_own_pace(self) -> bool: ...


_PERIOD_NS = 1_000_000_000
_SAVE_AGAIN_NS = 60 * _PERIOD_NS


class HealthWatch:
    """Of one camera: takes at most one frame per second and judges it in a thread, one at a time."""

    def __init__(
        self,
        *,
        masks: tuple[Polygon, ...],
        file: ReferenceFile,
        announce: Callable[[CameraHealth], None],
        tasks: TaskGroup,
    ) -> None:
        """`announce` is called on the loop's thread with the first verdict and with each change."""
        self.file = file
        self._masks = masks
        self._announce = announce
        self._tasks = tasks
        self._health: CameraHealth | None = None
        self._judge: HealthJudge | None = None  # made in the thread, because it reads the file
        self._saved: Pixels | None = None
        self._save_due_ns = 0
        self._trouble: str | None = None
        self._due_ns = 0
        self.is_looking = self._is_retaken = self._is_closed = False
        self.is_recording = never  # of what an http:// URL leads to, it is known only once it answers

    def show(self, frame: Frame) -> None:
        is_due = frame.captured_ns >= self._due_ns and not self.is_looking
        if is_due and not self._is_closed and not self.is_recording():
            self.is_looking = True
            self._due_ns = frame.captured_ns + _PERIOD_NS
            self._tasks.start_soon(self._look, frame, name="camera-health")

    def retake(self) -> None:
        """Forgets the reference picture when the next frame arrives; the following minute gives another."""
        self._is_retaken = True

    def close(self) -> None:
        self._is_closed = True

    async def _look(self, frame: Frame) -> None:
        is_retaken, self._is_retaken = self._is_retaken, False
        try:
            health = await asyncio.to_thread(self._judged, frame, is_retaken=is_retaken)
        except ImageError:  # the models say so
            self._is_retaken |= is_retaken
            return
        finally:
            self.is_looking = False
        if health != self._health and not self._is_closed:
            self._health = health
            self._announce(health)

    def _judged(self, frame: Frame, *, is_retaken: bool) -> CameraHealth:
        pixels = small_gray(frame.image(SMALLEST_SIDE))
        if self._judge is None:
            self._saved = self.file.load()
            self._judge = HealthJudge(visible_part(self._masks), reference=self._saved)
        if is_retaken:
            self._judge.retake()
            self.file.forget()
            self._saved = self._trouble = None
        health = self._judge.look(pixels, frame.captured_ns / 1e9)
        reference = self._judge.reference
        if reference is not None and reference is not self._saved and frame.captured_ns >= self._save_due_ns:
            self._save_due_ns = frame.captured_ns + _SAVE_AGAIN_NS
            self._trouble = self.file.save(reference)
            if self._trouble is None:
                self._saved = reference
        return health if health.reason else replace(health, reason=self._trouble)


class HealthWatches:
    """Of all live cameras whose health is judged. On the loop's thread."""

    def __init__(
        self, configured: Mapping[str, CameraSection], *, folder: Path | None, listener: Listener, tasks: TaskGroup
    ) -> None:
        """`folder` keeps the reference pictures; None: no camera is judged."""
        self._configured = configured
        self._folder = folder
        self._listener = listener
        self._tasks = tasks
        self._watches: dict[str, HealthWatch] = {}
        for name in configured:
            self._add(name)

    def announce(self) -> None:
        """Announces the cameras whose health is not judged. Call it once `tasks` has begun."""
        for name in self._configured.keys() - self._watches.keys():
            self._listener.camera_health_changed(name, None)
        self._forget_others()

    def reconfigure(self, configured: Mapping[str, CameraSection]) -> None:
        """Call it before the cameras are opened again."""
        before, self._configured = self._configured, configured
        for name in before.keys() | configured.keys():
            if name in before and name in configured and _is_judged_alike(before[name], configured[name]):
                continue
            if (watch := self._watches.pop(name, None)) is not None:
                watch.close()
            if name in configured and not self._add(name):
                self._listener.camera_health_changed(name, None)
        self._forget_others()

    def watching(self, camera: str, source: Source) -> list[HealthWatch]:
        """The watch of a camera, which from now on gets the frames of `source`; none if it is not judged."""
        watch = self._watches.get(camera)
        if watch is None:
            return []
        watch.is_recording = lambda: source.has_own_pace
        return [watch]

    def retake(self, camera: str) -> bool:
        """False if the health of the camera is not judged."""
        watch = self._watches.get(camera)
        if watch is not None:
            watch.retake()
        return watch is not None

    def _forget_others(self) -> None:
        if self._folder is not None:
            files = [watch.file for watch in self._watches.values()]
            self._tasks.start_soon(asyncio.to_thread, forget_others, self._folder, files, name="references")

    def _add(self, name: str) -> bool:
        camera = self._configured[name]
        if self._folder is None or not camera.has_health:
            return False
        self._watches[name] = HealthWatch(
            masks=camera.polygons,
            file=ReferenceFile(self._folder / f"{name}.json", made_by=camera.made_by),
            announce=lambda health: self._listener.camera_health_changed(name, health),
            tasks=self._tasks,
        )
        return True


def _is_judged_alike(one: CameraSection, other: CameraSection) -> bool:
    return (one.has_health, one.made_by) == (other.has_health, other.made_by)
