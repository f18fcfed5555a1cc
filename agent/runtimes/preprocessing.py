"""Preprocessing: turns an image of any size into the tensor that a model expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from agent.image import Color, Image
from agent.model_file.layout import layout_of
from agent.runtimes.resampling import resample, smallest_side

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings, Resample, Resize

    Array: TypeAlias = npt.NDArray[np.generic]


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
        resample: Resample,
    ) -> None:
        self._layout = layout_of(tensor)
        self._height, self._width = self._layout.height, self._layout.width
        self._color = color
        self._resize = resize
        self._resample = resample
        self._table = _table(tensor, mean, std)

    @classmethod
    def of(cls, tensor: Tensor, settings: ModelSettings) -> Preprocessor:
        """Follows `settings`. One channel is always gray; the defaults are RGB, `stretch` and `antialias`."""
        color: Color = "gray" if layout_of(tensor).channels == 1 else settings.color or "rgb"
        return cls(
            tensor,
            mean=settings.mean,
            std=settings.std,
            color=color,
            resize=settings.resize or "stretch",
            resample=settings.resample or "antialias",
        )

    @property
    def smallest_side(self) -> int:
        """Pixels: a JPEG may be reduced while it is decoded as long as both sides keep this many."""
        return smallest_side(max(self._height, self._width), self._resample)

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
        return self._to(image, self._width, self._height)

    def _to(self, image: Image, width: int, height: int) -> Image:
        return Image(resample(image.pixels, width, height, self._resample), image.color)

    def _pad(self, image: Image) -> Image:
        factor = min(self._width / image.width, self._height / image.height)
        width, height = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        small = self._to(image, width, height)
        left, top = (self._width - width) // 2, (self._height - height) // 2
        right, bottom = self._width - width - left, self._height - height - top
        return Image(cv2.copyMakeBorder(small.pixels, top, bottom, left, right, cv2.BORDER_CONSTANT), image.color)


def without_effect(tensor: Tensor, settings: ModelSettings) -> dict[str, str]:
    """The names of the settings that this input does not use, each with a sentence that says why."""
    if tensor.dtype == "string":
        names = [name for name in ("mean", "std", "color", "resize", "resample") if getattr(settings, name, None)]
        return {name: f"{name} has no effect: the model decodes and prepares images itself." for name in names}
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
