from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import cv2
import numpy as np
import pytest

from agent.cameras.cameras import Cameras
from agent.classification import Classification, ModelIdentity, Timing
from agent.config.camera import CameraSection
from agent.inference.results import Results
from agent.listeners import Listener

if TYPE_CHECKING:
    from pathlib import Path

    from agent.classification import Result
    from agent.image import Frame
    from agent.inference.options import Options
    from agent.status import CameraStatus


class Watched(Listener):
    """Records the states of the camera, and acts as a data plane."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self._changed = anyio.Event()
        self._results = Results(device="d")

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        self.states.append(status.state)
        self._changed.set()
        self._changed = anyio.Event()

    async def classify_frame(self, frame: Frame, options: Options, *, source: str) -> Result:
        answer = Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, 0))
        return self._results.record(answer, source=source, captured_ns=frame.captured_ns)

    async def until(self, state: str) -> None:
        with anyio.fail_after(10):
            while self.states[-1:] != [state]:
                await self._changed.wait()


@pytest.fixture
def photos(tmp_path: Path) -> CameraSection:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    return CameraSection(source=str(tmp_path), loop=True, max_fps=1000)


@pytest.mark.anyio
async def test_camera_opens_again_when_it_is_switched_off_and_on(photos: CameraSection) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.announce()
        cameras.start()
        await watched.until("online")
        assert cameras.last_frames_s()["front"] > 0
        cameras.switch("front", on=False)
        await watched.until("disabled")
        cameras.switch("front", on=True)
        await watched.until("online")
        await cameras.close()
    assert watched.states == ["starting", "online", "disabled", "starting", "online"]


@pytest.mark.anyio
async def test_camera_stays_disabled_when_it_is_switched_on_and_off_at_once(photos: CameraSection) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        disabled = photos.model_copy(update={"enabled": False})
        cameras = Cameras({"front": disabled}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        cameras.switch("front", on=True)
        cameras.switch("front", on=False)
    assert cameras.statuses["front"].state == "disabled"
    assert watched.states == ["starting", "disabled"]
