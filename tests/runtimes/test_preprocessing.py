from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from agent.image import Color, Image
from agent.model_file.metadata import Tensor
from agent.model_file.settings import ModelSettings
from agent.runtimes.preprocessing import Preprocessor, without_effect

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.settings import Resample, Resize

RNG = np.random.default_rng(0)


def preprocessor(
    *,
    dtype: str = "uint8",
    height: int = 4,
    width: int = 4,
    channels: int = 3,
    scale: float = 0.0,
    zero_point: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    color: Color = "rgb",
    resize: Resize = "stretch",
    resample: Resample = "antialias",
) -> Preprocessor:
    tensor = Tensor("image", (1, height, width, channels), dtype, scale, zero_point)
    return Preprocessor(tensor, mean=mean, std=std, color=color, resize=resize, resample=resample)


def noise(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def gray_steps(height: int, width: int) -> Image:
    """Brightness grows by 10 from column to column."""
    return Image(np.tile((np.arange(width) * 10).astype(np.uint8), (height, 1)), "gray")


def test_uint8_input_gets_raw_pixels_regardless_of_mean_and_std() -> None:
    pixels = noise(4, 4)
    tensor = preprocessor(mean=(0.0,), std=(1.0,), scale=1 / 127, zero_point=128)(Image(pixels))
    assert tensor.dtype == np.uint8
    assert tensor.shape == (1, 4, 4, 3)
    assert np.array_equal(tensor[0], pixels)


def test_int8_input_gets_pixel_minus_128_without_mean_and_std() -> None:
    pixels = noise(4, 4)
    tensor = preprocessor(dtype="int8", scale=0.5, zero_point=3)(Image(pixels))
    assert tensor.dtype == np.int8
    assert np.array_equal(tensor[0], pixels.astype(int) - 128)


@pytest.mark.parametrize(("scale", "zero_point"), [(2 / 255, -1), (1 / 127, 0), (0.02, 5)])
def test_int8_input_gets_the_normalized_pixel_quantized_by_scale_and_zero_point(scale: float, zero_point: int) -> None:
    pixels = noise(8, 8)
    tensor = preprocessor(
        dtype="int8", height=8, width=8, scale=scale, zero_point=zero_point, mean=(127.5,), std=(127.5,)
    )(Image(pixels))
    wanted = np.clip(np.round((pixels - 127.5) / 127.5 / scale + zero_point), -128, 127)
    assert (
        np.abs(tensor[0] - wanted).max() <= 1
    )  # with 2 / 255 every value is a half, which float32 may round either way


@pytest.mark.parametrize(("mean", "std"), [(127.5, 127.5), (0, 255), (0, 1), (120, 58)])
def test_float_input_gets_pixel_minus_mean_divided_by_std(mean: float, std: float) -> None:
    pixels = noise(4, 4)
    tensor = preprocessor(dtype="float32", mean=(mean,), std=(std,))(Image(pixels))
    assert tensor.dtype == np.float32
    assert tensor[0] == pytest.approx((pixels.astype(float) - mean) / std, abs=1e-5)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_mean_and_std_of_each_channel_follow_the_order_of_the_model(color: Color) -> None:
    pixels, mean, std = noise(4, 4), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    tensor = preprocessor(dtype="float32", mean=mean, std=std, color=color)(Image(pixels, "rgb"))
    ordered = pixels if color == "rgb" else pixels[..., ::-1]
    assert tensor[0] == pytest.approx((ordered - np.array(mean)) / np.array(std), abs=1e-5)


def test_one_std_applies_to_three_means() -> None:
    pixels, mean = noise(4, 4), (10.0, 20.0, 30.0)
    tensor = preprocessor(dtype="float32", mean=mean, std=(2.0,))(Image(pixels))
    assert tensor[0] == pytest.approx((pixels - np.array(mean)) / 2, abs=1e-5)


def test_color_order_of_the_image_does_not_matter() -> None:
    pixels = noise(9, 7)
    rgb, bgr = Image(pixels, "rgb"), Image(np.ascontiguousarray(pixels[..., ::-1]), "bgr")
    assert np.array_equal(preprocessor()(rgb), preprocessor()(bgr))


def test_gray_model_accepts_color_and_gray_images() -> None:
    gray = noise(4, 4, 1)
    for image in (Image(gray, "gray"), Image(np.dstack([gray] * 3), "bgr"), Image(np.dstack([gray] * 3), "rgb")):
        tensor = preprocessor(channels=1, color="gray")(image)
        assert tensor.shape == (1, 4, 4, 1)
        assert np.array_equal(tensor[0, ..., 0], gray)


def test_color_model_accepts_gray_images() -> None:
    gray = noise(4, 4, 1)
    tensor = preprocessor(dtype="float32", mean=(1, 2, 3), std=(1, 1, 1))(Image(gray, "gray"))
    assert np.array_equal(tensor[0], np.dstack([gray] * 3) - np.array([1, 2, 3], np.float32))


def test_gray_float_model_has_one_channel() -> None:
    gray = noise(4, 4, 1)
    tensor = preprocessor(dtype="float32", channels=1, color="gray", mean=(0,), std=(255,))(Image(gray, "gray"))
    assert tensor.shape == (1, 4, 4, 1)
    assert tensor[0, ..., 0] == pytest.approx(gray / 255, abs=1e-6)


def test_crop_keeps_the_middle() -> None:
    tensor = preprocessor(channels=1, color="gray", resize="crop", height=4, width=4)(gray_steps(4, 12))
    assert tensor[0, 0, :, 0].tolist() == [40, 50, 60, 70]
    tall = Image(np.ascontiguousarray(gray_steps(4, 12).pixels.T), "gray")
    tensor = preprocessor(channels=1, color="gray", resize="crop", height=4, width=4)(tall)
    assert tensor[0, :, 0, 0].tolist() == [40, 50, 60, 70]


def test_pad_keeps_everything_between_black_bars() -> None:
    white = Image(np.full((10, 20, 3), 255, np.uint8))
    tensor = preprocessor(resize="pad", height=8, width=8)(white)
    rows = tensor[0, :, :, 0]
    assert rows[:2].max() == rows[6:].max() == 0
    assert rows[2:6].min() == 255
    tensor = preprocessor(resize="pad", height=8, width=8)(white.rotate(90))
    assert np.array_equal(tensor[0, :, :, 0], rows.T)


def test_pad_keeps_at_least_one_pixel_of_a_very_thin_image() -> None:
    tensor = preprocessor(resize="pad", height=8, width=8)(Image(np.full((1, 1000, 3), 255, np.uint8)))
    assert tensor[0].max(axis=(1, 2)).tolist().count(255) == 1


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(6, 10), (10, 6), (1, 16), (160, 120)])
@pytest.mark.parametrize(("image_height", "image_width"), [(1, 1), (480, 640), (37, 5), (6, 10)])
def test_oblong_inputs_are_filled(resize: Resize, height: int, width: int, image_height: int, image_width: int) -> None:
    white = Image(np.full((image_height, image_width, 3), 200, np.uint8))
    tensor = preprocessor(resize=resize, height=height, width=width)(white)
    assert tensor.shape == (1, height, width, 3)
    assert tensor.max() == 200
    if resize != "pad":
        assert tensor.min() == 200


def test_slice_of_a_larger_array_is_resized_without_its_surroundings() -> None:
    pixels = noise(40, 40)
    part = Image(pixels).crop((0.25, 0.5, 0.75, 1.0))
    tensor = preprocessor(height=20, width=20)(part)
    assert np.array_equal(tensor[0], pixels[20:40, 10:30])


@pytest.mark.parametrize(
    ("dtype", "channels", "settings", "unused"),
    [
        ("uint8", 3, ModelSettings(mean=(0.0,), std=(255.0,)), {"mean", "std"}),
        ("uint8", 3, ModelSettings(std=(255.0,)), {"std"}),
        ("uint8", 3, ModelSettings(color="bgr", resize="pad"), set()),
        ("int8", 3, ModelSettings(mean=(0.0,)), {"mean"}),
        ("int8", 3, ModelSettings(mean=(0.0,), std=(255.0,)), set()),
        ("float32", 3, ModelSettings(mean=(0.0,), std=(255.0,)), set()),
        ("float32", 1, ModelSettings(color="bgr"), {"color"}),
        ("float32", 1, ModelSettings(color="gray"), set()),
    ],
)
def test_settings_without_effect_change_no_value_of_the_tensor(
    dtype: str, channels: int, settings: ModelSettings, unused: set[str]
) -> None:
    """Each is named exactly if the tensor is the same with another value of it."""
    tensor = Tensor("image", (1, 8, 8, channels), dtype, 1 / 127)
    assert set(without_effect(tensor, settings)) == unused
    image = Image(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))
    before = Preprocessor.of(tensor, _with_range(tensor, settings))(image)
    others: dict[str, Any] = {"mean": (9.0,), "std": (7.0,), "color": "rgb" if settings.color == "bgr" else "bgr"}
    for name in unused:
        changed = dataclasses.replace(settings, **{name: others[name]})
        assert np.array_equal(Preprocessor.of(tensor, _with_range(tensor, changed))(image), before)


def _with_range(tensor: Tensor, settings: ModelSettings) -> ModelSettings:
    """A float input needs both."""
    given = ModelSettings(mean=(0.0,), std=(255.0,)) if tensor.dtype == "float32" else ModelSettings()
    return given.overridden_by(settings)
