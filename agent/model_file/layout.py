"""Layout: which axes of an input tensor are the batch, the height, the width and the channels of an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.model_file.metadata import Tensor

    Array: TypeAlias = npt.NDArray[np.generic]

_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class Layout:
    """`axes` names the axes in order: N batch, H height, W width, C channels.

    `batch` is 1 if the tensor has no axis N. Without C the image is gray, and `channels` is 1. `shape` is that of the
    tensor for one image, even if `batch` is larger.
    """

    axes: str
    batch: int
    height: int
    width: int
    channels: int
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        sides = {"N": 1, "H": self.height, "W": self.width, "C": self.channels}
        object.__setattr__(self, "shape", tuple(sides[axis] for axis in self.axes))

    def arrange(self, pixels: Array) -> Array:
        """Makes the tensor from height x width, or height x width x channels."""
        if "CHW" in self.axes and self.channels > 1:
            pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return pixels.reshape(self.shape)


def layout_of(tensor: Tensor) -> Layout:
    """Raises ModelError with the remedy if the tensor cannot be one image, or a batch of them."""
    if tensor.free_dimensions or min(tensor.shape, default=1) < 1:
        raise ModelError("The model has no fixed input size. Set it: edge-convert convert --input-size HxW.")
    axes = axes_of(tensor.shape)
    if axes is None:
        raise ModelError(_no_layout(tensor))
    sides = dict(zip(axes, tensor.shape, strict=True))
    return Layout(axes, sides.get("N", 1), sides["H"], sides["W"], sides.get("C", 1))


def axes_of(shape: tuple[int, ...]) -> str | None:
    """Open sides are -1; None if the tensor cannot be an image.

    Channels come last if both places are possible; three sides without channels are a batch of gray images.
    """
    if len(shape) == 4:
        return "NHWC" if shape[3] in _CHANNELS else "NCHW" if shape[1] in _CHANNELS else None
    if len(shape) != 3:
        return None
    if shape[2] in _CHANNELS and shape[0] > 1:
        return "HWC"
    return "CHW" if shape[0] == 3 else "NHW"


def not_a_picture(tensor: Tensor, why: str) -> ModelError:
    return ModelError(
        f"This is not an image classifier: its input is {shape_of(tensor)}, {why}. Drop a model that takes pictures."
    )


def shape_of(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "of unknown shape"


def _no_layout(tensor: Tensor) -> str:
    if len(tensor.shape) == 4:
        _, first, middle, last = tensor.shape
        channels = first if first < middle == last else last
        return (
            f"The model cannot get camera images: its input has {channels} channels, not 3 (color) or 1 (gray). "
            "Export it with a color or gray input."
        )
    return (
        f"The model cannot get images: its input is {shape_of(tensor)}, not 1 x height x width x channels. "
        "Export it with such an input; a layer inside the model can flatten it."
    )
