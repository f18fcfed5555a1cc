"""Similarity: finds photos that show nearly the same, such as neighboring frames of a video or resized copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from agent.image import Image

    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Ints: TypeAlias = npt.NDArray[np.int64]

SIDE = 32
_HASH_BITS = 10  # of 64, that may differ
_GRAY_LEVELS = 8.0  # of the mean difference between two thumbnails
_ROWS = 256


def thumbnail_of(image: Image) -> Bytes:
    """32 x 32 gray pixels."""
    gray = image.to_color("gray").pixels
    return np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(thumbnails: Bytes) -> Ints:
    """The number of a group for each of n x 32 x 32 thumbnails: that of its first member.

    A pair is near if few bits of its difference hashes differ (is the right neighbor brighter?), and few gray levels.
    The hashes are cheap to compare; the pixels decide, since simple drawings can have the same hash.
    """
    unique, first, where = np.unique(
        thumbnails.reshape(-1, SIDE * SIDE), axis=0, return_index=True, return_inverse=True
    )
    numbers = _joined(unique)
    earliest = np.full(len(unique), len(thumbnails), np.int64)
    np.minimum.at(earliest, numbers, first)
    return np.asarray(earliest[numbers[where.reshape(-1)]], np.int64)


def _joined(thumbnails: Bytes) -> Ints:
    """A number for each thumbnail; those that a chain of near pairs connects have the same.

    Only thumbnails of different numbers are compared: a camera that does not move makes nearly all pairs near.
    """
    hashes, means = _hashes(thumbnails), thumbnails.mean(axis=1)
    numbers = np.arange(len(hashes))
    for start in range(0, len(hashes), _ROWS):
        block = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None, start:]) <= _HASH_BITS
        for row, candidates in enumerate(block):
            one = start + row
            others = one + np.flatnonzero(candidates[row:])
            others = others[numbers[others] != numbers[one]]
            others = others[np.abs(means[others] - means[one]) <= _GRAY_LEVELS]  # the difference is at least this
            near = others[_differences(thumbnails[one], thumbnails[others]) <= _GRAY_LEVELS]
            if len(near):
                together = np.append(np.unique(numbers[near]), numbers[one])
                numbers[np.isin(numbers, together)] = together.min()
    return numbers


def _differences(one: Bytes, others: Bytes) -> npt.NDArray[np.float64]:
    """The mean difference in gray levels from each of the others."""
    return np.asarray((np.maximum(others, one) - np.minimum(others, one)).mean(axis=1))


def _hashes(thumbnails: Bytes) -> npt.NDArray[np.uint64]:
    small = np.stack(
        [cv2.resize(each.reshape(SIDE, SIDE), (9, 8), interpolation=cv2.INTER_AREA) for each in thumbnails]
    )
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), 64)
    return np.asarray(np.packbits(bits, axis=1).view(np.uint64).reshape(-1))
