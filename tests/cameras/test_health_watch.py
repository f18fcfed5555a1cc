"""The watch with frames of a fake clock; what is judged to be a fault, test_health.py says."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest
from peers.subscriber import until

from agent.cameras.health_watch import HealthWatches
from agent.cameras.reference import ReferenceFile
from agent.config.camera import CameraSection
from agent.frame import Frame
from agent.image import Image
from agent.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.status import CameraHealth

LIVE = CameraSection(source="/dev/video0")
pytestmark = pytest.mark.anyio


class Heard(Listener):
    def __init__(self) -> None:
        self.healths: list[tuple[str, str | None]] = []
        self.reasons: list[str | None] = []

    def camera_health_changed(self, camera: str, health: CameraHealth | None) -> None:
        self.healths.append((camera, health.state if health else None))
        self.reasons.append(health.reason if health else None)


class Source:
    def __init__(self, *, has_own_pace: bool = False) -> None:
        self.has_own_pace = has_own_pace


class Room:
    """A camera `front`, whose clock runs only with its frames."""

    def __init__(self, watches: HealthWatches, heard: Heard) -> None:
        self.watches = watches
        self.heard = heard
        self.now_s = 0.0

    async def see(self, image: Image, *, times: int, every_s: float = 1) -> None:
        """Waits until each frame was judged."""
        for _ in range(times):
            self.now_s += every_s
            for watch in self.watches.watching("front", Source()):
                watch.show(Frame(image, round(self.now_s * 1e9)))
                await until(lambda watch=watch: not watch.is_looking)  # type: ignore[misc]


def boxes(seed: int) -> Image:
    random = np.random.default_rng(seed)
    pixels = np.full((240, 320, 3), 120, np.uint8)
    for x, y, gray in random.integers((0, 0, 0), (280, 200, 255), (40, 3)).tolist():
        pixels[y : y + 36, x : x + 36] = gray
    return Image(pixels, "bgr")


@asynccontextmanager
async def room(folder: Path | None, camera: CameraSection = LIVE) -> AsyncIterator[Room]:
    heard = Heard()
    async with anyio.create_task_group() as tasks:
        yield Room(HealthWatches({"front": camera}, folder=folder, listener=heard, tasks=tasks), heard)
        tasks.cancel_scope.cancel()


async def test_health_is_announced_when_it_is_first_known_and_when_it_changes(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
        await front.see(boxes(2), times=15)
        await front.see(boxes(1), times=15)
    assert front.heard.healths == [("front", "ok"), ("front", "moved"), ("front", "ok")]


async def test_camera_that_was_turned_while_the_agent_was_off_has_moved(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
    async with room(tmp_path) as front:
        await front.see(boxes(2), times=80)
    assert front.heard.healths == [("front", "ok"), ("front", "moved")]


async def test_reference_is_taken_again_when_a_key_that_it_depends_on_changed(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
    async with room(tmp_path, CameraSection(source="/dev/video0", rotate=90)) as front:
        await front.see(boxes(2), times=80)
    assert front.heard.healths == [("front", "ok")]


async def test_reference_is_removed_at_once_when_masks_change_or_the_camera_is_gone(tmp_path: Path) -> None:
    """It may show what a mask hides now, and the camera may be off for long."""
    masked = CameraSection.model_validate({"source": "/dev/video0", "masks": [[[0, 0], [1, 0], [1, 1]]]})
    for changed in ({"front": masked}, {}, {"front": LIVE.model_copy(update={"source": "/dev/video1"})}):
        async with room(tmp_path) as front:
            front.watches.announce()
            await front.see(boxes(1), times=70)
            assert (tmp_path / "front.json").exists()
            front.watches.reconfigure(changed)
            await until(lambda: not (tmp_path / "front.json").exists())


async def test_reference_is_kept_when_another_key_changed(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
        front.watches.reconfigure({"front": CameraSection(source="/dev/video0", max_fps=2)})
        await front.see(boxes(2), times=15)
    assert front.heard.healths[-1] == ("front", "moved")


async def test_reference_is_taken_again_at_a_command_and_after_a_restart(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
        await front.see(boxes(2), times=15)
        assert front.watches.retake("front")
        await front.see(boxes(2), times=1)
        assert front.heard.healths[-1] == ("front", "ok")
        assert not (tmp_path / "front.json").exists()
        await front.see(boxes(2), times=70)
    async with room(tmp_path) as front:
        await front.see(boxes(2), times=80)
    assert front.heard.healths == [("front", "ok")]


async def test_frames_between_two_looks_are_not_judged(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=70)
        await front.see(boxes(2), times=90, every_s=0.1)
        assert front.heard.healths == [("front", "ok")]
        await front.see(boxes(2), times=40, every_s=0.1)
    assert front.heard.healths[-1] == ("front", "moved")


async def test_only_one_frame_is_judged_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    hold = threading.Event()

    def image(frame: Frame, smallest_side: int | None = None) -> Image:
        asked.append(frame.captured_ns)
        hold.wait(10)
        return boxes(1)

    monkeypatch.setattr(Frame, "image", image)
    async with room(tmp_path) as front:
        (watch,) = front.watches.watching("front", Source())
        for second in (1, 2, 3):
            watch.show(Frame(boxes(1), second * 1_000_000_000))
        hold.set()
        await until(lambda: not watch.is_looking)
    assert asked == [1_000_000_000]


async def test_damaged_frame_changes_nothing(tmp_path: Path) -> None:
    async with room(tmp_path) as front:
        (watch,) = front.watches.watching("front", Source())
        watch.show(Frame(b"\xff\xd8\xff", 1_000_000_000))
        await until(lambda: not watch.is_looking)
        assert front.heard.healths == []
        await front.see(boxes(1), times=3)
    assert front.heard.healths == [("front", "ok")]


async def test_health_says_so_and_goes_on_when_the_folder_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "references"
    folder.write_text("a file")
    async with room(folder) as front:
        await front.see(boxes(1), times=70)
        assert "cannot be saved" in (front.heard.reasons[-1] or "")
        await front.see(boxes(2), times=15)
        await front.see(boxes(1), times=15)
        folder.unlink()
        await front.see(boxes(1), times=61)
    assert [state for _, state in front.heard.healths] == ["ok", "ok", "moved", "ok", "ok"]
    assert front.heard.reasons[-1] is None
    assert (folder / "front.json").exists()


@pytest.mark.parametrize(
    "camera",
    [
        CameraSection(source="inbox:/srv/inbox"),
        CameraSection(source="footage.mp4"),
        CameraSection.model_validate({"source": "/dev/video0", "health": {"enabled": False}}),
    ],
)
async def test_health_is_not_judged_when_the_camera_is_not_live_or_it_is_off(
    tmp_path: Path, camera: CameraSection
) -> None:
    async with room(tmp_path, camera) as front:
        front.watches.announce()
        assert front.watches.watching("front", Source()) == []
        assert not front.watches.retake("front")
        assert front.heard.healths == [("front", None)]


async def test_health_is_not_judged_when_a_url_leads_to_a_recording(tmp_path: Path) -> None:
    async with room(tmp_path, CameraSection(source="http://192.0.2.1/footage.mp4")) as front:
        (watch,) = front.watches.watching("front", Source(has_own_pace=True))
        watch.show(Frame(boxes(1), 1_000_000_000))
        assert not watch.is_looking


async def test_health_is_taken_back_when_a_reload_switches_it_off(tmp_path: Path) -> None:
    off = CameraSection.model_validate({"source": "/dev/video0", "health": {"enabled": False}})
    async with room(tmp_path) as front:
        await front.see(boxes(1), times=2)
        front.watches.reconfigure({"front": off})
        await front.see(boxes(1), times=2)
        front.watches.reconfigure({"front": LIVE})
        await front.see(boxes(1), times=2)
        front.watches.reconfigure({})
    assert front.heard.healths == [("front", "ok"), ("front", None), ("front", "ok")]


async def test_masked_pixels_are_not_in_the_reference(tmp_path: Path) -> None:
    masked = CameraSection(source="/dev/video0", masks=[[(0, 0), (0.5, 0), (0.5, 1), (0, 1)]])
    async with room(tmp_path, masked) as front:
        (watch,) = front.watches.watching("front", Source())
        for second in range(70):
            watch.show(Frame(boxes(1), second * 1_000_000_000, masks=masked.polygons))
            await until(lambda: not watch.is_looking)
    reference = ReferenceFile(tmp_path / "front.json", made_by=masked.made_by).load()
    assert reference is not None
    assert not reference[:, :79].any()
    assert reference[:, 81:].any()
