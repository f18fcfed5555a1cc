"""Preprocessing: turns an image of any size into the tensor that a model expects."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from agent.image import Color, Image
from agent.model_file.layout import layout_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.image import Pixels
    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings, Resize

    Array: TypeAlias = npt.NDArray[np.generic]

_WHOLE = np.ones(1, np.float32)
_HALVED_FROM = 2.5  # times the target


class Preprocessor:
    """Resizes, orders the color channels and normalizes or quantizes; has no state, so any thread may use it.

    A uint8 pixel has only 256 values per channel, so everything after the resize is one lookup table. A uint8 input
    takes raw pixels and needs no table. For float32 the table has (pixel - mean) / std; for int8 it has these values
    quantized by the tensor's scale and zero point, or pixel - 128 if mean and std are unknown.
    """

    def __init__(
        self,
        tensor: Tensor,
        *,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        color: Color,
        resize: Resize,
    ) -> None:
        self._layout = layout_of(tensor)
        self._height, self._width = self._layout.height, self._layout.width
        self._color = color
        self._resize = resize
        self._table = _table(tensor, mean, std)

    @classmethod
    def of(cls, tensor: Tensor, settings: ModelSettings) -> Preprocessor:
        """Follows `settings`. One channel is always gray; the defaults are RGB and `stretch`."""
        color: Color = "gray" if layout_of(tensor).channels == 1 else settings.color or "rgb"
        return cls(tensor, mean=settings.mean, std=settings.std, color=color, resize=settings.resize or "stretch")

    def __call__(self, image: Image) -> Array:
        """A tensor of the model's layout and dtype, with a batch of 1."""
        fitted = self._fit(image).to_color(self._color).pixels
        values: Array = fitted if self._table is None else cv2.LUT(fitted, self._table)
        return self._layout.arrange(values)

    def _fit(self, image: Image) -> Image:
        if self._resize == "crop":
            image = _crop_to_ratio(image, self._width / self._height)
        if self._resize == "pad":
            return self._pad(image)
        return resize_antialiased(image, self._width, self._height)

    def _pad(self, image: Image) -> Image:
        factor = min(self._width / image.width, self._height / image.height)
        width, height = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        small = resize_antialiased(image, width, height)
        left, top = (self._width - width) // 2, (self._height - height) // 2
        right, bottom = self._width - width - left, self._height - height - top
        return Image(cv2.copyMakeBorder(small.pixels, top, bottom, left, right, cv2.BORDER_CONSTANT), image.color)


def without_effect(tensor: Tensor, settings: ModelSettings) -> dict[str, str]:
    """The names of the settings that this input does not use, each with a sentence that says why."""
    given = [name for name in ("mean", "std") if getattr(settings, name) is not None]
    unused: dict[str, str] = {}
    if tensor.dtype == "uint8":
        have = "have" if len(given) > 1 else "has"
        why = f"{' and '.join(given)} {have} no effect: the uint8 input gets the pixels as they are."
        unused |= dict.fromkeys(given, why)
    elif tensor.dtype == "int8" and len(given) == 1:
        unused[given[0]] = (
            f"{given[0]} has no effect: the int8 input gets pixel - 128 unless mean and std are both set."
        )
    if settings.color in ("rgb", "bgr") and layout_of(tensor).channels == 1:
        unused["color"] = f"color: {settings.color} has no effect: the input has one channel and gets gray images."
    return unused


def describes_pixels(tensor: Tensor, settings: ModelSettings) -> bool:
    """Whether mean and std say of a uint8 input what its scale and zero point say too."""
    mean, std = settings.mean or (0.0,), settings.std or (1.0,)
    return abs(tensor.scale * std[0] - 1) <= 0.01 and abs(tensor.zero_point - mean[0]) <= 1


def resize_antialiased(image: Image, width: int, height: int) -> Image:
    """Bilinear, and antialiased when it shrinks, like the resize of Pillow and of most training code.

    Plain bilinear reads four pixels per output pixel and so skips most of a large image: a person 6 times larger
    than the input scored 0.28 instead of 0.89. Each side is halved (OpenCV's fastest path) while the result stays
    a quarter above the target. The rest is smoothed by a kernel as wide as the remaining step, then interpolated.
    Filters overwrite what they read, but never the caller's pixels: less memory is in use, and more of it in the cache.
    """
    pixels = image.pixels
    while True:
        across, down = pixels.shape[1] / width, pixels.shape[0] / height
        if _suits_boxes(across, down):
            pixels = _smooth_by_boxes(pixels, round(across), round(down))
            break
        if max(across, down) < _HALVED_FROM:
            pixels = _smooth(pixels, across, down, dst=None if pixels is image.pixels else pixels)
            break
        halved = _halve(pixels.shape[1], across), _halve(pixels.shape[0], down)
        pixels = cv2.resize(pixels, halved)
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height))
    return Image(pixels, image.color)


def _halve(side: int, step: float) -> int:
    return side // 2 if step >= _HALVED_FROM else side


def _suits_boxes(across: float, down: float) -> bool:
    """Whether one step is about 2 and the other about 3, as from 640x480 to 224x224; halving only one side is slow."""
    small, large = sorted((across, down))
    return 1.8 <= small <= 2.3 and 2.6 <= large <= 3.25


def _smooth_by_boxes(pixels: Pixels, across: int, down: int) -> Pixels:
    """By a triangle that reaches `across` and `down` pixels to each side: a box twice, faster than halving one side."""
    once: Pixels = cv2.blur(pixels, (across, down), borderType=cv2.BORDER_REPLICATE)
    anchor = (across - 1) // 2, (down - 1) // 2  # a box of two is off by half a pixel, and the second one undoes it
    cv2.blur(once, (across, down), dst=once, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return once


def _smooth(pixels: Pixels, across: float, down: float, *, dst: Pixels | None) -> Pixels:
    if max(across, down) <= 1:
        return pixels
    kernels = _smoothing(across), _smoothing(down)
    smooth: Pixels = cv2.sepFilter2D(pixels, -1, *kernels, dst=dst, borderType=cv2.BORDER_REPLICATE)
    return smooth


@functools.lru_cache(maxsize=256)
def _smoothing(step: float) -> npt.NDArray[np.float32]:
    """A triangle that reaches `step` pixels to each side.

    Below 2.25 it has three taps, for which OpenCV has a faster path. Together with the interpolation that follows,
    they have the triangle's variance (step² / 6), up to 1-2-1: wider steps need more than three taps to antialias.
    """
    if step <= 1:
        return _WHOLE
    if step < 2.25:
        side = min((step * step - 1) / 12, 0.25)
        return np.array([side, 1 - 2 * side, side], np.float32)
    reach = math.ceil(step) - 1
    taps = 1 - np.abs(np.arange(-reach, reach + 1, dtype=np.float32)) / np.float32(step)
    return np.asarray(taps / taps.sum(), np.float32)


def _crop_to_ratio(image: Image, ratio: float) -> Image:
    width, height = min(1.0, image.height * ratio / image.width), min(1.0, image.width / ratio / image.height)
    return image.crop(((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2))


def _table(
    tensor: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> npt.NDArray[np.generic] | None:
    """The values for the pixels 0 to 255: 1 x 256, or 1 x 256 x channels if mean or std has a value per channel."""
    if tensor.dtype == "uint8":
        return None
    pixels = np.arange(256, dtype=np.float32)
    if mean is None or std is None:
        return (pixels - 128).astype(np.int8).reshape(1, 256)
    channels = max(len(mean), len(std))
    normalized = ((pixels[:, None] - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).astype(np.float32)
    shape = (1, 256, channels) if channels > 1 else (1, 256)
    if tensor.dtype == "float32":
        return normalized.reshape(shape)
    return quantized(normalized, tensor).reshape(shape)


def quantized(values: npt.NDArray[np.float32], tensor: Tensor) -> npt.NDArray[np.int8]:
    """Real values as the int8 `tensor` takes them."""
    steps = np.round(values / np.float32(tensor.scale) + tensor.zero_point)
    return np.asarray(np.clip(steps, -128, 127).astype(np.int8))
