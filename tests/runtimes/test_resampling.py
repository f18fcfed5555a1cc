from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from runtimes.pillow_resize import pillow_resize

from agent.image import Image, decode
from agent.model_file.settings import Resample
from agent.runtimes.resampling import resample, smallest_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from agent.image import Pixels

RNG = np.random.default_rng(0)
METHODS: tuple[Resample, ...] = get_args(Resample)
PHOTOS = ("grace_hopper.bmp", "parrot.jpg", "cat_720p.jpg", "dragonfly.bmp", "burger.jpg")
SIDES = st.integers(1, 40) | st.integers(41, 700)


def noise(height: int, width: int) -> Pixels:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def error(pixels: npt.NDArray[Any], exact: Pixels) -> float:
    return float(np.abs(pixels.astype(int) - exact).mean())


def pillow(pixels: Pixels, width: int, height: int) -> Pixels:
    return pillow_resize(Image(pixels), width, height).pixels


def jpegs(assets: Path) -> Iterator[bytes]:
    for name in PHOTOS:
        yield cv2.imencode(".jpg", cv2.imread(str(assets / "photos" / name)), [cv2.IMWRITE_JPEG_QUALITY, 92])[
            1
        ].tobytes()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(height=SIDES, width=SIDES, target_height=st.integers(2, 99), target_width=st.integers(2, 99))
def test_any_size_becomes_any_other(
    method: Resample, height: int, width: int, target_height: int, target_width: int
) -> None:
    """One color stays that color, so no pixel beyond the border counts and weights add up to one."""
    for pixels in (np.full((height, width, 3), (0, 200, 255), np.uint8), np.full((height, width), 200, np.uint8)):
        resized = resample(pixels, target_width, target_height, method)
        assert resized.shape == (target_height, target_width, *pixels.shape[2:])
        assert resized.dtype == np.uint8
        assert (resized == pixels[0, 0]).all()


@pytest.mark.parametrize("method", METHODS)
def test_columns_are_treated_like_rows_and_both_ends_alike(method: Resample) -> None:
    for height, width, size in ((7, 301, 32), (640, 427, 96), (33, 20, 48), (1, 500, 8)):
        pixels = cv2.GaussianBlur(noise(height, width), (3, 3), 0)
        resized = resample(pixels, size, 24, method).astype(int)
        turned = resample(pixels.transpose(1, 0, 2), 24, size, method).transpose(1, 0, 2)
        assert np.abs(turned - resized).max() <= 2
        if method != "nearest":  # of two pixels at the same distance it takes the one on the right
            mirrored = resample(pixels[::-1, ::-1], size, 24, method)[::-1, ::-1]
            assert np.abs(mirrored - resized).max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_image_of_the_same_size_keeps_its_pixels(method: Resample) -> None:
    pixels = noise(20, 30)
    assert resample(pixels, 30, 20, method) is pixels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("height", "width"), [(40, 50), (100, 120), (480, 640), (700, 32)])
def test_pixels_of_the_caller_stay(method: Resample, height: int, width: int) -> None:
    pixels = noise(height, width)
    before = pixels.copy()
    for size in (32, 224):
        resample(pixels, size, size, method)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("method", METHODS)
def test_slice_of_a_larger_image_gets_nothing_of_its_surroundings(method: Resample) -> None:
    pixels = noise(200, 300)
    pixels[40:150, 30:250] = 77
    assert (resample(pixels[40:150, 30:250], 32, 32, method) == 77).all()


def test_nearest_takes_the_pixel_under_the_center() -> None:
    numbers = np.arange(10, dtype=np.uint8)[None].repeat(2, axis=0)
    assert resample(numbers, 3, 2, "nearest")[0].tolist() == [1, 5, 8]
    assert resample(numbers, 5, 2, "nearest")[0].tolist() == [1, 3, 5, 7, 9]
    assert resample(numbers[:, :2], 5, 2, "nearest")[0].tolist() == [0, 0, 1, 1, 1]


def test_area_is_the_mean_of_what_an_output_pixel_covers() -> None:
    row = np.array([[0, 60, 120, 240, 30]], np.uint8)
    assert resample(row, 2, 1, "area")[0].tolist() == [48, 132]  # (0 + 60 + 120 / 2) / 2.5, (120 / 2 + 240 + 30) / 2.5
    assert resample(row[:, :2], 3, 1, "area")[0].tolist() == [0, 30, 60]


def test_bilinear_reads_only_the_two_nearest_pixels() -> None:
    row = np.array([[0, 99, 99, 100, 60, 99, 99, 200]], np.uint8)
    assert resample(row, 2, 1, "bilinear")[0].tolist() == [99, 99]


def test_bicubic_overshoots_less_than_that_of_opencv() -> None:
    """Around a step from 50 to 200: the weights of Keys' kernel with a = -0.5."""
    row = np.array([[50, 50, 50, 200, 200, 200]], np.uint8)
    ours = resample(row, 12, 1, "bicubic")[0]
    assert ours[4:8].tolist() == [39, 80, 170, 211]  # the first: 50 - 150 * 0.0703125, the weight at a distance of 1.25
    theirs: Any = cv2.resize(row, (12, 1), interpolation=cv2.INTER_CUBIC)
    assert theirs[0].min() < ours.min()


def test_enlarging_with_antialias_is_plain_bilinear() -> None:
    pixels = noise(20, 30)
    enlarged = resample(pixels, 96, 96, "antialias")
    assert np.array_equal(enlarged, resample(pixels, 96, 96, "bilinear"))
    assert error(enlarged, pillow(pixels, 96, 96)) < 0.6


def test_stripes_finer_than_the_input_are_averaged() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    assert np.abs(resample(stripes, 96, 96, "area").astype(int) - 127).max() <= 16  # 5.33 columns
    ours = resample(stripes, 96, 96, "antialias").astype(int)
    assert np.abs(ours[:, 1:-1] - 127).max() <= 8
    assert np.abs(ours - 127).max() <= 14
    for method in ("bilinear", "nearest", "bicubic"):
        assert np.abs(resample(stripes, 96, 96, method).astype(int) - 127).max() >= 60


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (720, 500)])
def test_antialias_of_noise_is_close_to_pillow(height: int, width: int) -> None:
    """Noise has nothing but the finest details: plain bilinear interpolation is wrong by 30."""
    pixels = noise(height, width)
    assert error(resample(pixels, 224, 224, "antialias"), pillow(pixels, 224, 224)) < 3


@pytest.mark.assets
@pytest.mark.parametrize("size", [28, 32, 64, 96, 128, 192, 224, 299])
def test_antialias_is_within_a_gray_level_of_pillow_where_plain_bilinear_is_not(assets: Path, size: int) -> None:
    """Each photo if it is decoded whole, and their mean if the decoder reduces them for a small input."""
    whole, reduced, plain = [], [], []
    for content in jpegs(assets):
        pixels = decode(content).pixels
        exact = pillow(pixels, size, size)
        small = decode(content, smallest_side=smallest_side(size, "antialias")).pixels
        whole.append(error(resample(pixels, size, size, "antialias"), exact))
        reduced.append(error(resample(small, size, size, "antialias"), exact))
        plain.append(error(resample(pixels, size, size, "bilinear"), exact))
    assert max(whole) < 1
    assert np.mean(reduced) < (1 if size < 208 else 1.5)
    assert np.mean(plain) > (2.5 if size <= 224 else 1)


def test_jpeg_is_decoded_whole_for_methods_that_read_few_pixels() -> None:
    content = cv2.imencode(".jpg", cv2.GaussianBlur(noise(1080, 1920), (9, 9), 0))[1].tobytes()
    for method in METHODS:
        whole = smallest_side(32, method) > 1080
        assert whole == (method in ("bilinear", "nearest", "bicubic"))
        assert (decode(content, smallest_side=smallest_side(32, method)).height == 1080) == whole
