"""ModelInput: turns images, and the tensors of clients, into what the input of a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.errors import ModelError, TensorError
from agent.image import Image
from agent.model_file.layout import Layout, layout_of, not_a_picture, shape_of
from agent.runtimes.preprocessing import Preprocessor, quantized
from agent.runtimes.resampling import UNREDUCED
from agent.runtimes.serving_signature import ServedTensor, served_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from agent.model_file.metadata import Tensor
    from agent.model_file.settings import ModelSettings

    Array: TypeAlias = npt.NDArray[np.generic]


class PixelInput:
    """An input of pixels, for one image. It has no state, so any thread may use it."""

    def __init__(self, tensor: Tensor, layout: Layout, settings: ModelSettings, *, sidecar: str) -> None:
        """`sidecar` is where a person can put settings. Raises ModelError if they do not fit the input."""
        _check_range(settings, tensor, layout.channels, sidecar)
        _check_color(settings, layout.channels)
        self._tensor = tensor
        self._preprocess = Preprocessor.of(tensor, settings)
        self.longest_side = max(layout.height, layout.width)
        self.smallest_side = self._preprocess.smallest_side
        self.served = served_input(tensor, layout)

    def of_image(self, image: Image) -> Array:
        return self._preprocess(image)

    def of_instance(self, values: Array) -> Array:
        """`values` have the form of `served`. Raises TensorError for NaN and infinity."""
        if not np.isfinite(values).all():
            raise TensorError("The tensor contains NaN or infinity. Send finite values.")
        if self._tensor.dtype == "int8":
            values = quantized(values.astype(np.float32, copy=False), self._tensor)
        return np.ascontiguousarray(values).reshape(self._tensor.shape)


class FileInput:
    """An input of encoded images, which the model decodes itself: it gets the bytes of a JPEG or PNG file."""

    longest_side = smallest_side = UNREDUCED

    def __init__(self, tensor: Tensor) -> None:
        self.served = ServedTensor(tensor.name, tensor.name, "string", ())

    def of_image(self, image: Image) -> Array:
        return encoded(image.to_png())

    def of_instance(self, values: Array) -> Array:
        """`values` holds the bytes that a client sent, unchanged."""
        return values.reshape(1)


# For images that a test makes: models with a FileInput take any size.
FILE_LAYOUT = Layout("NHWC", 1, 224, 224, 3)


def black(tensor: Tensor) -> Array:
    """A black image for the input `tensor`. Raises ModelError if there is too little memory for it."""
    if tensor.dtype == "string":
        return encoded(Image(np.zeros((FILE_LAYOUT.height, FILE_LAYOUT.width, 3), np.uint8)).to_png())
    try:
        return np.zeros(tensor.shape, tensor.dtype)
    except (MemoryError, ValueError) as error:  # NumPy's errors for too little memory and for an impossible size
        raise ModelError(
            f"An input of {shape_of(tensor)} needs more memory than is free on this device. Drop a smaller model."
        ) from error


def encoded(content: bytes) -> Array:
    """The bytes of a file as an array of one object, since NumPy's own strings end at a zero byte."""
    return np.array([content], object)


def check_input(inputs: Sequence[Tensor], *, takes_files: bool) -> Tensor:
    if len(inputs) != 1:
        raise ModelError(
            f"The model needs more than an image: it has {len(inputs)} inputs instead of one image. "
            "Export it with the image as its only input."
        )
    tensor = inputs[0]
    if tensor.dtype == "string" and takes_files:
        return tensor
    if tensor.dtype == "string":
        raise ModelError("This is not an image classifier: its input is text. Drop a model that takes pictures.")
    if tensor.dtype not in ("uint8", "int8", "float32"):
        raise ModelError(f"The input is {tensor.dtype}. Convert the model with a uint8, int8 or float32 input.")
    if tensor.dtype == "int8" and not tensor.scale:
        raise ModelError("The int8 input has no scale. Convert the model again with full integer quantization.")
    return tensor


def layout_of_picture(tensor: Tensor) -> Layout:
    layout = layout_of(tensor)
    if min(layout.height, layout.width) == 1:
        raise not_a_picture(tensor, "one pixel wide or high, as of audio or other features")
    return layout


def _check_range(settings: ModelSettings, tensor: Tensor, channels: int, sidecar: str) -> None:
    if any(values is not None and len(values) not in (1, channels) for values in (settings.mean, settings.std)):
        raise ModelError(f"mean or std has three values but the input has {channels} channel. Give one value each.")
    if tensor.dtype == "float32" and (settings.mean is None or settings.std is None):
        raise ModelError(
            f"The input is float32 and its range of values is unknown. Put `mean:` and `std:` in {sidecar}: "
            "127.5 and 127.5 for -1 to 1, 0 and 255 for 0 to 1, 0 and 1 for 0 to 255."
        )


def _check_color(settings: ModelSettings, channels: int) -> None:
    if settings.color == "gray" and channels == 3:
        raise ModelError("The settings have color: gray but the input has 3 channels. Set color to rgb or bgr.")
