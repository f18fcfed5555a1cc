from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from agent.frame import Frame
from agent.framing import Framing
from agent.image import Image

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def white(width: int = 640, height: int = 480) -> Image:
    return Image(np.full((height, width, 3), 255, np.uint8), "bgr")


def jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image.pixels)[1].tobytes()


@pytest.mark.parametrize("side", [None, 224, 50])
@pytest.mark.parametrize("picture", ["pixels", "jpeg"])
def test_masks_are_filled_in_every_size(side: int | None, picture: str) -> None:
    sent = jpeg(white()) if picture == "jpeg" else white()
    image = Frame(sent, 0, masks=(LEFT_HALF,)).image(side)
    middle = image.width // 2
    assert not image.pixels[:, :middle].any()
    assert (image.pixels[:, middle + 3 :] > 250).all()


@pytest.mark.parametrize("reduction", [None, 2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (333, 251)])
def test_mask_covers_every_pixel_that_it_touches(width: int, height: int, reduction: int | None) -> None:
    fine = 8  # parts of a pixel
    for left, top, right, bottom in np.random.default_rng(1).random((20, 4)) / 2 + (0, 0, 0.5, 0.5):
        slanted = ((left, top), (right, (top + bottom) / 2), ((left + right) / 2, bottom))
        touched = np.zeros((height * fine, width * fine), np.uint8)
        corners = np.rint(np.array(slanted) * (width * fine, height * fine) - 0.5).astype(np.int32)
        cv2.fillPoly(touched, [corners], 255)
        secret = touched.reshape(height, fine, width, fine).max(axis=(1, 3))
        shown = Image(np.repeat(secret[..., None], 3, axis=2), "bgr")
        sent = jpeg(shown) if reduction else shown
        image = Frame(sent, 0, masks=(slanted,)).image(height // reduction - 1 if reduction else None)
        assert image.height == -(-height // (reduction or 1))
        assert image.pixels.max() < 10


def test_masking_leaves_the_camera_s_own_pixels_unchanged() -> None:
    own = white()
    own.pixels.setflags(write=False)
    assert Frame(own, 0, masks=(LEFT_HALF,)).image().pixels[0, 0].max() == 0
    assert own.pixels.min() == 255


@pytest.mark.parametrize("side", [None, 50])
def test_frame_that_gets_masks_later_shows_no_pixel_under_them(side: int | None) -> None:
    sent = Frame(jpeg(white()), 0)
    assert sent.image(side).pixels.all()
    assert not replace(sent, masks=(LEFT_HALF,)).image(side).pixels[:, : 20 if side else 300].any()


def test_frame_without_masks_is_not_copied() -> None:
    own = white()
    assert Frame(own, 0).image() is own


def test_views_share_one_decoding() -> None:
    frame = Frame(jpeg(white()), 0, smallest_side=200)
    small = frame.image(50)
    assert (small.width, small.height) == (320, 240)
    assert frame.image(200) is small
    assert frame.asked_side == 200
    whole = frame.image()
    assert whole.width == 640
    assert frame.image(200) is whole


def test_preview_is_as_small_as_it_can_be_unless_there_is_a_larger_picture() -> None:
    frame = Frame(jpeg(white()), 0, smallest_side=200)
    assert frame.image(50, is_preview=True).width == 80
    assert frame.asked_side == 50
    larger = frame.image(50)
    assert larger.width == 320
    assert frame.image(50, is_preview=True) is larger


def test_framing_crops_then_rotates_then_mirrors() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[0, 4] = 1  # upper left corner of the right half
    kept = Framing((0.5, 0.0, 1.0, 1.0), rotate=90, mirror=True).of(Image(pixels))
    assert kept.pixels.shape == (4, 4, 3)
    assert np.argwhere(kept.pixels[..., 0]).tolist() == [[0, 0]]
    assert np.argwhere(Framing((0.5, 0.0, 1.0, 1.0), rotate=90).of(Image(pixels)).pixels[..., 0]).tolist() == [[0, 3]]
