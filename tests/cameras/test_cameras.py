from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import cv2
import numpy as np
import pytest
from peers.subscriber import until

from agent.cameras.cameras import Cameras
from agent.classification import Classification, ModelIdentity, Spot, Timing
from agent.config.camera import CameraSection
from agent.inference.results import Results
from agent.listeners import Listener
from agent.runtimes.scores import Scores
from agent.status import CameraHealth, CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.classification import Result
    from agent.frame import Frame
    from agent.inference.options import Options

_SCORES = Scores(np.zeros(0, np.float32), (), scale=0.0, zero_point=0, are_logits=False)


class Watched(Listener):
    """Records the states of the cameras, and acts as a data plane."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.all_states: list[tuple[str, str]] = []
        self.configured: list[set[str]] = []
        self._changed = anyio.Event()
        self._results = Results(device="d")

    def camera_changed(self, camera: str, status: CameraStatus) -> None:
        self.states.append(status.state)
        self.all_states.append((camera, status.state))
        self._changed.set()
        self._changed = anyio.Event()

    def cameras_configured(self, spots: Mapping[str, Sequence[Spot]]) -> None:
        self.configured.append(set(spots))

    async def classify_frame(self, frame: Frame, options: Options, *, spot: Spot) -> tuple[Result, Scores]:
        answer = Classification(ModelIdentity("m", 1, "0" * 64), (), Timing(0, 0, 0, 0))
        return self._results.record(answer, spot=spot, captured_ns=frame.captured_ns), _SCORES

    async def until(self, state: str) -> None:
        with anyio.fail_after(10):
            while self.states[-1:] != [state]:
                await self._changed.wait()

    async def until_all(self, states: dict[str, str]) -> None:
        with anyio.fail_after(10):
            while not states.items() <= dict(self.all_states).items():
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


@pytest.mark.anyio
async def test_reconfigured_cameras_are_opened_and_closed_and_the_others_stay_open(photos: CameraSection) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        first = {"same": photos, "gone": photos, "edited": photos}
        cameras = Cameras(first, data_plane=watched, listener=watched, tasks=tasks)
        cameras.announce()
        cameras.start()
        await watched.until_all({"same": "online", "gone": "online", "edited": "online"})
        watched.all_states.clear()
        cameras.reconfigure({
            "same": photos.model_copy(),
            "edited": photos.model_copy(update={"max_fps": 500}),
            "new": photos,
            "off": photos.model_copy(update={"enabled": False}),
        })  # fmt: skip
        await watched.until_all({"edited": "online", "new": "online", "off": "disabled"})
        assert not {"same", "gone"} & {name for name, _ in watched.all_states}
        assert [state for name, state in watched.all_states if name == "edited"] == ["starting", "online"]
        assert watched.configured[-1] == {"same", "edited", "new", "off"}
        assert set(cameras.statuses) == {"same", "edited", "new", "off"}
        assert set(cameras.last_frames_s()) == {"same", "edited", "new"}
        assert cameras.stuck(after_s=60) is None
        await cameras.close()


@pytest.mark.anyio
async def test_camera_that_a_command_switched_off_stays_off_when_others_are_reconfigured(
    photos: CameraSection,
) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        await watched.until("online")
        cameras.switch("front", on=False)
        cameras.reconfigure({"front": photos, "back": photos})
        assert watched.configured[-1] == {"front", "back"}
        await watched.until("online")
        assert (cameras.statuses["front"].state, cameras.statuses["back"].state) == ("disabled", "online")
        cameras.reconfigure({})
    assert cameras.statuses == {}


class Held:
    """A source whose device is released only when the test says so."""

    has_own_pace = False
    silence_s = 0.0

    def __init__(self) -> None:
        self.closed, self.released = anyio.Event(), anyio.Event()

    async def read(self) -> None:
        await self.closed.wait()

    def close(self) -> None:
        self.closed.set()

    async def wait_closed(self) -> None:
        await self.released.wait()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Held]:
    sources: list[Held] = []

    def open_held(*_: object, **__: object) -> Held:
        sources.append(Held())
        return sources[-1]

    monkeypatch.setattr("agent.cameras.cameras.open_source", open_held)
    return sources


@pytest.mark.anyio
async def test_renamed_camera_waits_until_its_device_is_released(photos: CameraSection, opened: list[Held]) -> None:
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"old": photos}, data_plane=Watched(), listener=Listener(), tasks=tasks)
        cameras.start()
        cameras.reconfigure({"new": photos})
        await anyio.wait_all_tasks_blocked()
        assert len(opened) == 1
        opened[0].released.set()
        await anyio.wait_all_tasks_blocked()
        assert len(opened) == 2
        await cameras.close()


@pytest.mark.anyio
async def test_camera_does_not_wait_for_another_one_whose_name_is_its_source(opened: list[Held]) -> None:
    webcam, cellar = CameraSection(source="0"), CameraSection(source="rtsp://cellar/")
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"door": webcam, "0": cellar}, data_plane=Watched(), listener=Listener(), tasks=tasks)
        cameras.start()
        cameras.switch("0", on=False)
        cameras.switch("door", on=False)
        opened[0].released.set()
        await anyio.wait_all_tasks_blocked()
        cameras.switch("door", on=True)
        await anyio.wait_all_tasks_blocked()
        assert len(opened) == 3
        await cameras.close()
        opened[1].released.set()


@pytest.mark.anyio
async def test_camera_that_waits_for_its_device_stays_closed_when_all_are_closed(
    photos: CameraSection, opened: list[Held]
) -> None:
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"old": photos}, data_plane=Watched(), listener=Listener(), tasks=tasks)
        cameras.start()
        cameras.reconfigure({"new": photos})
        await cameras.close()
        opened[0].released.set()
    assert len(opened) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "is_stuck"),
    [
        (CameraStatus("starting"), True),
        (CameraStatus("online"), True),
        (CameraStatus("lost", "Plug it in."), False),
        (CameraStatus("frozen", "Restart it."), False),
        (CameraStatus("ended"), False),
    ],
    ids=lambda value: getattr(value, "state", None),
)
async def test_silent_camera_is_stuck_unless_its_status_says_why(
    photos: CameraSection, monkeypatch: pytest.MonkeyPatch, status: CameraStatus, *, is_stuck: bool
) -> None:
    def open_held(*_: object, on_status: Callable[[CameraStatus], None], **__: object) -> Held:
        on_status(status)
        return Held()

    monkeypatch.setattr("agent.cameras.cameras.open_source", open_held)
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=Watched(), listener=Listener(), tasks=tasks)
        cameras.start()
        assert cameras.stuck(after_s=60) is None
        found = cameras.stuck(after_s=-1)  # as if the time had passed
        expected = f"Camera front is {status.state} and has given no frame for 0 s."
        assert found == (expected if is_stuck else None)
        cameras.switch("front", on=False)
        assert cameras.stuck(after_s=-1) is None
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_inbox_without_images_is_not_stuck(tmp_path: Path) -> None:
    watched = Watched()
    front = CameraSection(source=f"inbox:{tmp_path}", max_fps=1e9)
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": front}, data_plane=watched, listener=watched, tasks=tasks)
        cameras.start()
        await watched.until("online")
        assert cameras.stuck(after_s=-1.0) is None
        await cameras.close()


@pytest.mark.anyio
async def test_camera_has_pictures_until_it_is_switched_off(photos: CameraSection) -> None:
    watched = Watched()
    async with anyio.create_task_group() as tasks:
        cameras = Cameras({"front": photos}, data_plane=watched, listener=watched, tasks=tasks)
        assert cameras.pictures(Spot("front")) is None
        cameras.start()
        pictures = cameras.pictures(Spot("front"))
        assert pictures is not None
        found = await pictures.after(0)
        assert found is not None
        assert cameras.has_picture("front")
        cameras.switch("front", on=False)
        assert not cameras.has_picture("front")
        assert await pictures.after(found[0]) is None


class Judged(Watched):
    """Also records the health of the cameras."""

    def __init__(self) -> None:
        super().__init__()
        self.healths: list[tuple[str, CameraHealth | None]] = []

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        self.healths.append((camera, health))


@pytest.mark.anyio
async def test_health_of_a_live_camera_is_judged_and_that_of_a_folder_is_not(
    photos: CameraSection, tmp_path: Path
) -> None:
    program = ["/bin/sh", "-c", 'while cat "$1"; do sleep 0.01; done', "sh", str(tmp_path / "frame.jpg")]
    cv2.imwrite(program[-1], np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8))
    live = CameraSection.model_validate({"command": {"run": program}})
    judged = Judged()
    async with anyio.create_task_group() as tasks:
        configured = {"front": live, "folder": photos}
        cameras = Cameras(
            configured, data_plane=judged, listener=judged, tasks=tasks, reference_folder=tmp_path / "references"
        )
        cameras.announce()
        cameras.start()
        await until(lambda: len(judged.healths) == 2)
        assert judged.healths == [("folder", None), ("front", CameraHealth("ok"))]
        assert [cameras.retake_reference(name) for name in ("front", "folder", "x")] == [True, False, False]
        await cameras.close()
