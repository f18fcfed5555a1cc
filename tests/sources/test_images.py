from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sources.footage import brightness, levels, write_image
from sources.observing import Seen, soon

from agent.sources.images import ImageFolder
from agent.sources.recording import Recording
from agent.status import CameraStatus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ONLINE, ENDED = CameraStatus("online"), CameraStatus("ended")


async def test_folder_gives_its_images_by_name_and_ends(tmp_path: Path) -> None:
    seen: list[CameraStatus] = []
    for level, name in enumerate(["a.bmp", "b.JPG", "c.jpeg", "d.png", "e.webp"]):
        write_image(tmp_path / name, level * 40)
    write_image(tmp_path / ".hidden.png", 255)
    (tmp_path / "notes.txt").write_text("not an image")
    source = Recording(ImageFolder(tmp_path), loop=False, on_status=seen.append)
    assert await levels(source, 5) == pytest.approx([0, 40, 80, 120, 160], abs=2)
    assert await source.read() is None
    assert seen == [ONLINE, ENDED]
    source.close()


async def test_folder_is_listed_again_on_each_pass(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", 50)
    source = Recording(ImageFolder(tmp_path), loop=True, on_status=lambda _: None)
    assert await levels(source, 2) == [50, 50]
    write_image(tmp_path / "a.png", 10)
    assert await levels(source, 3) == [10, 50, 10]
    source.close()


async def test_folder_skips_a_damaged_image_and_logs_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "a.png", 10)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff but no more")
    (tmp_path / "c.png").mkdir()
    source = Recording(ImageFolder(tmp_path), loop=True, on_status=lambda _: None)
    assert await levels(source, 3) == [10, 10, 10]
    source.close()
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [
        f"Skipped {tmp_path / 'b.jpg'}",
        f"Skipped {tmp_path / 'c.png'}",
    ]


async def test_folder_is_lost_until_an_image_appears(tmp_path: Path) -> None:
    seen, folder = Seen(), tmp_path / "images"
    folder.mkdir()
    source = Recording(ImageFolder(folder), loop=False, on_status=seen, backoff=soon())
    reading = asyncio.create_task(source.read())
    assert "has no readable images" in str((await seen.until("lost")).reason)
    write_image(tmp_path / "a.png", 30)
    (tmp_path / "a.png").rename(folder / "a.png")
    assert brightness(await reading) == 30
    assert [status.state for status in seen.statuses] == ["lost", "online"]
    source.close()
