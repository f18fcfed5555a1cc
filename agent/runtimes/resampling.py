"""Resampling: gives an image the size of a model's input, as the library did with which the model was trained.

Results are uint8, so they differ from a library that returns floats by the rounding, and for bicubic by the clipping.
All methods sample at the centers of pixels. No function changes the pixels of its caller.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.image import Pixels
    from agent.model_file.settings import Resample

    Floats: TypeAlias = npt.NDArray[np.float32]
    Indices: TypeAlias = npt.NDArray[np.intp]

_WHOLE = np.ones(1, np.float32)
_LARGE = 208  # pixels: a larger target needs less exact filters
_DECODED_TO = 240  # pixels: half of 480, which many cameras send
UNREDUCED = 1 << 16  # more than a side of any JPEG
_CUBIC = -0.5  # OpenCV's own bicubic has -0.75
_CUBIC_STEPS = 1024  # TensorFlow takes the weights from a table


def resample(pixels: Pixels, width: int, height: int, method: Resample) -> Pixels:
    """Returns `pixels` themselves if they have that size already."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return _METHODS[method](pixels, width, height)


def smallest_side(target: int, method: Resample) -> int:
    """How far a JPEG may be reduced while it is decoded: both sides must keep this many pixels.

    Methods without antialiasing read few pixels of the whole image, and those of a reduced one are others. The others
    differ from the original by 2 gray levels at 32x32 if the image is reduced to the size of the target.
    """
    return max(target, _DECODED_TO) if method in ("antialias", "area") else UNREDUCED


def _antialias(pixels: Pixels, width: int, height: int) -> Pixels:
    """Pillow's `BILINEAR`: bilinear, and antialiased when it shrinks, as in most training code.

    Plain bilinear reads four pixels per output pixel and so skips most of a large image: a person 6 times larger
    than the input scored 0.28 instead of 0.89. Each side is halved (OpenCV's fastest path) while the result stays
    large enough. The rest is smoothed by a kernel as wide as the remaining step, then interpolated.
    Filters overwrite what they read, but never the caller's pixels: less memory is in use, and more of it in the cache.
    """
    given, halved_from = pixels, _halved_from(max(width, height))
    while True:
        across, down = pixels.shape[1] / width, pixels.shape[0] / height
        if _suits_boxes(across, down):
            pixels = _smooth_by_boxes(pixels, round(across), round(down))
            break
        if max(across, down) < halved_from:
            pixels = _smooth(pixels, across, down, dst=None if pixels is given else pixels)
            break
        halved = _halve(pixels.shape[1], across, halved_from), _halve(pixels.shape[0], down, halved_from)
        pixels = cv2.resize(pixels, halved)
    if pixels.shape[:2] != (height, width):
        pixels = cv2.resize(pixels, (width, height))
    return pixels


def _halved_from(target: int) -> float:
    """Times the target. Halving is fast and adds an error, which is larger on few pixels."""
    return 2.5 if target >= _LARGE else min(640 / target, 8.0)


def _halve(side: int, step: float, halved_from: float) -> int:
    return side // 2 if step >= halved_from else side


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
    # Pillow drops what lies beyond the border; a reflection comes closest.
    smooth: Pixels = cv2.sepFilter2D(pixels, -1, *kernels, dst=dst, borderType=cv2.BORDER_REFLECT)
    return smooth


@functools.lru_cache(maxsize=256)
def _smoothing(step: float) -> Floats:
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


def _bilinear(pixels: Pixels, width: int, height: int) -> Pixels:
    """`tf.image.resize(method="bilinear")`: reads four pixels per output pixel."""
    resized: Pixels = cv2.resize(pixels, (width, height))
    return resized


def _nearest(pixels: Pixels, width: int, height: int) -> Pixels:
    """Pillow's `NEAREST`."""
    rows, columns = _nearest_indices(pixels.shape[0], height), _nearest_indices(pixels.shape[1], width)
    return pixels[rows][:, columns]


def _bicubic(pixels: Pixels, width: int, height: int) -> Pixels:
    """`tf.image.resize(method="bicubic")`, clipped to 0 to 255: reads 16 pixels per output pixel."""
    return _weighted(pixels, _cubic_taps(pixels.shape[0], height), _cubic_taps(pixels.shape[1], width))


def _area(pixels: Pixels, width: int, height: int) -> Pixels:
    """`tf.image.resize(method="area")`: the mean of what an output pixel covers."""
    if pixels.shape[0] >= height and pixels.shape[1] >= width:
        smaller: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        return smaller
    return _weighted(pixels, _area_taps(pixels.shape[0], height), _area_taps(pixels.shape[1], width))


def _weighted(pixels: Pixels, down: tuple[Indices, Floats], across: tuple[Indices, Floats]) -> Pixels:
    """For each output pixel the sum of the pixels at the indices of its taps, times their weights."""
    (rows, row_weights), (columns, column_weights) = down, across
    low = np.zeros((rows.shape[0], pixels.shape[1], math.prod(pixels.shape[2:])), np.float32)
    for tap in range(rows.shape[1]):
        low += pixels[rows[:, tap]].reshape(low.shape) * row_weights[:, tap, None, None]
    sums = np.zeros((low.shape[0], columns.shape[0], low.shape[2]), np.float32)
    for tap in range(columns.shape[1]):
        sums += low[:, columns[:, tap]] * column_weights[:, tap, None]
    resized: Pixels = np.clip(np.rint(sums), 0, 255).astype(np.uint8).reshape(*sums.shape[:2], *pixels.shape[2:])
    return resized


@functools.lru_cache(maxsize=64)
def _nearest_indices(side: int, size: int) -> Indices:
    """Added up as in Pillow's loop (Geometry.c), whose rounding decides between two pixels at the same distance."""
    steps = np.full(size, side / size)
    steps[0] /= 2
    return np.minimum(np.cumsum(steps).astype(np.intp), side - 1)


@functools.lru_cache(maxsize=64)
def _cubic_taps(side: int, size: int) -> tuple[Indices, Floats]:
    """Indices and weights, size x 4; a tap outside of the image has no weight (resize_bicubic_op.cc)."""
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(side / size) - np.float32(0.5)
    first = np.floor(at)
    offset = np.rint((at - first) * _CUBIC_STEPS) / _CUBIC_STEPS
    indices = first[:, None].astype(np.intp) + np.arange(-1, 3)
    weights = _keys(np.abs(offset[:, None] - np.arange(-1, 3)))
    weights[(indices < 0) | (indices >= side)] = 0
    return np.clip(indices, 0, side - 1), _normalized(weights)


def _keys(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Keys' cubic convolution at the distances `x`, 0 to 2."""
    near = (_CUBIC + 2) * x**3 - (_CUBIC + 3) * x**2 + 1
    far = _CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)


@functools.lru_cache(maxsize=64)
def _area_taps(side: int, size: int) -> tuple[Indices, Floats]:
    """Indices and weights, size x the most pixels that an output pixel touches (resize_area_op.cc)."""
    step = side / size
    starts = (np.arange(size) * step)[:, None]
    indices = np.floor(starts).astype(np.intp) + np.arange(math.ceil(step) + 1)
    weights = np.maximum(np.minimum(indices + 1, starts + step) - np.maximum(indices, starts), 0)
    return np.minimum(indices, side - 1), _normalized(weights)


def _normalized(weights: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


_METHODS = {
    "antialias": _antialias,
    "bilinear": _bilinear,
    "nearest": _nearest,
    "bicubic": _bicubic,
    "area": _area,
}
