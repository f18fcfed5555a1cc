"""What a profile changes of cameras that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import cv2
import numpy as np
import pytest

from agent.cameras.cameras import Cameras
from agent.classification import Classification, ModelIdentity, Spot, Timing
from agent.config.camera import CameraSection
from agent.config.profiles import ProfileCameraSection
from agent.config.view import ViewSection
from agent.inference.results import Results
from agent.listeners import Listener
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    from pathlib import Path

    from agent.classification import Result
    from agent.frame import Frame
    from agent.inference.options import Options
    from agent.status import CameraStatus

_SCORES = Scores(np.zeros(0, np.float32), (), scale=0.0, zero_point=0, are_logits=False)


class Watched(Listener):
    """Records the states of the cameras and the threshold of each classification; acts as a data plane."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.thresholds: list[tuple[str | None, float | None]] = []
        self._something = anyio.Event()
        self._results = Results(device="d")

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        self.states.append((camera, status.state))
        self._something.set()

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        self.thresholds.append((spot.view, options.score_threshold))
        self._something.set()
        answer = Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, 0))
        return self._results.record(answer, spot=spot, captured_ns=frame.captured_ns), _SCORES

    async def until(self, state: str, camera: str = "front") -> None:
        with anyio.fail_after(10):
            while dict(self.states).get(camera) != state:
                await self._next()

    async def until_threshold(self, threshold: float | None, view: str | None = None) -> None:
        with anyio.fail_after(10):
            while (view, threshold) not in self.thresholds[-4:]:
                await self._next()

    async def _next(self) -> None:
        self._something = anyio.Event()
        await self._something.wait()


@pytest.fixture
def photos(tmp_path: Path) -> CameraSection:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    return CameraSection(source=str(tmp_path), loop=True, max_fps=1000)


def profile(**settings: object) -> ProfileCameraSection:
    return ProfileCameraSection.model_validate(settings)


@pytest.mark.anyio
async def test_profile_changes_thresholds_and_pace_without_opening_the_camera_again(photos: CameraSection) -> None:
    watched = Watched()
    slow = photos.model_copy(update={"max_fps": 0.01})
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": slow}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        await watched.until_threshold(0.5)
        cameras.adjust({"front": profile(score_threshold=0.7, max_fps=1000)})
        await watched.until_threshold(0.7)
        cameras.adjust({"other": profile(score_threshold=0.9)})
        cameras.adjust({"front": profile(max_fps=1000)})
        await watched.until_threshold(0.5)
        await cameras.close()
    assert watched.states == [("front", "online")]


@pytest.mark.anyio
async def test_profile_changes_one_view_and_leaves_a_view_with_a_threshold_of_its_own(photos: CameraSection) -> None:
    watched = Watched()
    views = {"door": ViewSection(), "gate": ViewSection(score_threshold=0.2)}
    camera = photos.model_copy(update={"views": views})
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.adjust({"front": profile(score_threshold=0.7)})
        cameras.start()
        await watched.until_threshold(0.7, "door")
        await watched.until_threshold(0.2, "gate")
        cameras.adjust({"front": profile(views={"gate": {"score_threshold": 0.9}})})
        await watched.until_threshold(0.5, "door")
        await watched.until_threshold(0.9, "gate")
        await cameras.close()


@pytest.mark.anyio
@pytest.mark.parametrize("is_reload", [False, True])
async def test_view_gets_a_default_instead_of_the_value_of_its_camera(
    photos: CameraSection, *, is_reload: bool
) -> None:
    watched = Watched()
    camera = photos.model_copy(update={"score_threshold": 0.7, "views": {"door": ViewSection()}})
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": camera}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        await watched.until_threshold(0.7, "door")
        if is_reload:
            given = camera.model_copy(update={"views": {"door": ViewSection(score_threshold=0.5)}})
            cameras.reconfigure({"front": given})
        else:
            cameras.adjust({"front": profile(views={"door": {"score_threshold": 0.5}})})
        await watched.until_threshold(0.5, "door")
        await cameras.close()


@pytest.mark.anyio
async def test_profile_switches_a_camera_and_its_end_switches_it_back(photos: CameraSection) -> None:
    watched = Watched()
    off = photos.model_copy(update={"enabled": False})
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": off}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        cameras.adjust({"front": profile(enabled=True)})
        await watched.until("online")
        cameras.adjust({})
        await watched.until("disabled")
        await cameras.close()


@pytest.mark.anyio
async def test_camera_that_a_person_switched_stays_so_until_a_profile_changes_its_enabled(
    photos: CameraSection,
) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        cameras.switch("front", on=False)
        cameras.adjust({"front": profile(enabled=True, score_threshold=0.9)})
        cameras.adjust({})
        assert cameras.statuses["front"].state == "disabled"
        cameras.adjust({"front": profile(enabled=False)})
        cameras.switch("front", on=True)
        cameras.adjust({"front": profile(enabled=False, max_fps=5)})
        await watched.until("online")
        cameras.adjust({})
        await watched.until("online")
        await cameras.close()


@pytest.mark.anyio
async def test_camera_that_is_switched_before_the_start_is_opened_at_the_start(photos: CameraSection) -> None:
    watched = Watched()
    off = photos.model_copy(update={"enabled": False})
    async with anyio.create_task_group() as tasks:
        configured = {"on": photos, "off": off}
        cameras = Cameras(configured, data_plane=watched, listener=watched, tasks=tasks)
        cameras.adjust({"on": profile(enabled=False), "off": profile(enabled=True)})
        await anyio.wait_all_tasks_blocked()
        assert watched.states == [("on", "disabled"), ("off", "starting")]
        cameras.start()
        await watched.until("online", "off")
        assert cameras.statuses["on"].state == "disabled"
        await cameras.close()


@pytest.mark.anyio
async def test_reload_keeps_the_settings_of_the_profile(photos: CameraSection) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.adjust({"front": profile(score_threshold=0.7), "back": profile(enabled=False)})
        cameras.start()
        await watched.until_threshold(0.7)
        edited = photos.model_copy(update={"score_threshold": 0.3, "max_results": 1})
        cameras.reconfigure({"front": edited, "back": photos})
        assert cameras.statuses["back"].state == "disabled"
        watched.thresholds.clear()
        await watched.until_threshold(0.7)
        cameras.adjust({})
        await watched.until_threshold(0.3)
        await watched.until("online", "back")
        await cameras.close()
