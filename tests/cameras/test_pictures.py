from __future__ import annotations

import asyncio
import time

import cv2
import numpy as np
import pytest

from agent.cameras.pictures import Pictures
from agent.frame import Frame
from agent.framing import WHOLE, Framing
from agent.image import Image, decode


def frame(gray: int, *, width: int = 64, height: int = 48) -> Frame:
    return Frame(Image(np.full((height, width, 3), gray, np.uint8), "bgr"), 0)


def counted(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """The frames that are encoded from now on."""
    encoded: list[Frame] = []
    jpeg = pictures._jpeg

    def counting(frame: Frame) -> bytes:
        encoded.append(frame)
        return jpeg(frame)

    monkeypatch.setattr(pictures, "_jpeg", counting)
    return encoded


@pytest.mark.anyio
async def test_picture_is_what_the_model_sees() -> None:
    pictures = Pictures(Framing((0.0, 0.0, 0.5, 1.0), rotate=90))
    pixels = np.zeros((720, 2560, 3), np.uint8)
    pixels[:, :1280] = 200
    pictures.show(Frame(Image(pixels, "bgr"), 0))
    found = await pictures.after(0)
    assert found is not None
    image = decode(found[1])
    assert (image.width, image.height) == (360, 640)
    assert int(image.pixels.min()) > 190


@pytest.mark.anyio
async def test_picture_of_a_camera_that_sends_image_files_is_decoded_for_its_size() -> None:
    pictures = Pictures(WHOLE)
    content = cv2.imencode(".jpg", np.full((1080, 1920, 3), 90, np.uint8))[1].tobytes()
    pictures.show(Frame(content, 0))
    found = await pictures.after(0)
    assert found is not None
    assert decode(found[1]).width == 640


@pytest.mark.anyio
@pytest.mark.parametrize("period_s", [0.2, 0])
async def test_all_who_look_get_the_same_encoding(monkeypatch: pytest.MonkeyPatch, period_s: float) -> None:
    """Also where encoding takes longer than the period, as on a busy board."""
    monkeypatch.setattr("agent.cameras.pictures._PERIOD_S", period_s)
    pictures = Pictures(WHOLE)
    encoded = counted(pictures, monkeypatch)
    pictures.show(frame(10))
    assert encoded == []  # until somebody looks
    found = await asyncio.gather(*(pictures.after(0) for _ in range(50)))
    assert len(encoded) == 1
    assert all(each is found[0] for each in found)
    assert await pictures.after(0) is found[0]


@pytest.mark.anyio
async def test_watcher_gets_at_most_five_of_the_newest_pictures_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(WHOLE)
    encoded = counted(pictures, monkeypatch)
    pictures.show(frame(0))
    first = await pictures.after(0)
    assert first is not None
    begun_s = time.monotonic()
    waiting = asyncio.gather(*(pictures.after(first[0]) for _ in range(10)))
    await asyncio.sleep(0)
    last = frame(1)
    for newer in (frame(2), frame(3), last):
        pictures.show(newer)
    found = await waiting
    assert time.monotonic() - begun_s > 0.15
    assert encoded[1:] == [last]
    assert [each and each[0] for each in found] == [4] * 10


@pytest.mark.anyio
async def test_damaged_picture_is_left_out() -> None:
    pictures = Pictures(WHOLE)
    pictures.show(Frame(b"\xff\xd8\xff damaged", 0))
    waiting = asyncio.ensure_future(pictures.after(0))
    await asyncio.sleep(0.05)
    pictures.show(frame(1))
    found = await asyncio.wait_for(waiting, 10)
    assert found is not None
    assert found[0] == 2


@pytest.mark.anyio
async def test_close_ends_every_wait() -> None:
    pictures = Pictures(WHOLE)
    waiting = asyncio.ensure_future(pictures.after(0))
    await asyncio.sleep(0)
    pictures.close()
    assert await asyncio.wait_for(waiting, 10) is None
    assert await pictures.after(0) is None
