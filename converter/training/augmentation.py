"""Augmentation: random views of photos for fine-tuning, as if the camera had moved and the light had changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes: TypeAlias = npt.NDArray[np.uint8]

_LEAST_SHARE = 0.75  # of each side that stays visible
_TURN_DEGREES = 8.0
_CONTRAST, _BRIGHTNESS = 0.2, 25.0


def augmented(pixels: Bytes, random: np.random.Generator, *, mirror: bool) -> Bytes:
    """N x side x side x 3: cropped, turned, brighter or darker, and half of them mirrored if `mirror`."""
    return np.stack([_one(each, random, mirror=mirror) for each in pixels])


def _one(pixels: Bytes, random: np.random.Generator, *, mirror: bool) -> Bytes:
    side = pixels.shape[0]
    share, turn = random.uniform(_LEAST_SHARE, 1), random.uniform(-_TURN_DEGREES, _TURN_DEGREES)
    room = (1 - share) * side / 2
    x, y = random.uniform(-room, room, 2)
    matrix = cv2.getRotationMatrix2D((side / 2 + x, side / 2 + y), turn, 1 / share)
    matrix[:, 2] -= x, y
    moved = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    contrast, brightness = 1 + random.uniform(-_CONTRAST, _CONTRAST), random.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    lit = np.clip(moved.astype(np.float32) * contrast + brightness, 0, 255).astype(np.uint8)
    flipped = lit[:, ::-1] if mirror and random.random() < 0.5 else lit
    return np.asarray(flipped, np.uint8)
