"""The resize of Pillow 13, bit for bit: bilinear, antialiased, in 22-bit fixed point (libImaging/Resample.c).

Most models are trained with Pillow's resize. It is reimplemented here in NumPy because Pillow is not a dependency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.image import Image

if TYPE_CHECKING:
    import numpy.typing as npt

_BITS = 22


def pillow_resize(image: Image, width: int, height: int) -> Image:
    pixels = image.pixels
    # Pillow 13 resizes much taller images vertically first; the order matters because every pass rounds.
    for axis in (0, 1) if image.height > 1.7 * image.width else (1, 0):
        pixels = _along(pixels, axis, (height, width)[axis])
    return Image(pixels, image.color)


def _along(pixels: npt.NDArray[np.uint8], axis: int, size: int) -> npt.NDArray[np.uint8]:
    weights = _weights(pixels.shape[axis], size)
    # Exact in float64: 22 bits times 8 bits, and the weights of one output sum to 1.
    sums = np.tensordot(weights, pixels.astype(np.float64), axes=(1, axis)).astype(np.int64)
    return np.moveaxis(np.clip((sums + (1 << _BITS - 1)) >> _BITS, 0, 255).astype(np.uint8), 0, axis)


def _weights(side: int, size: int) -> npt.NDArray[np.float64]:
    """Outputs x inputs: a triangle as wide as two steps, but at least two pixels."""
    step = side / size
    support = max(step, 1.0)
    weights = np.zeros((size, side))
    for output in range(size):
        center = (output + 0.5) * step
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), side)
        triangle = np.maximum(0, 1 - np.abs(np.arange(first, last) - center + 0.5) / support)
        weights[output, first:last] = np.floor(triangle / triangle.sum() * (1 << _BITS) + 0.5)
    return weights
