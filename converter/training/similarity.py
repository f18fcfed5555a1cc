"""Similarity: finds photos that show nearly the same, such as neighboring frames of a video or resized copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    leaders = np.arange(len(unique))
    for one, other in _near_pairs(unique):
        a, b = _leader(leaders, one), _leader(leaders, other)
        leaders[max(a, b)] = min(a, b)
    roots = np.array([_leader(leaders, at) for at in range(len(unique))], np.int64)
    earliest = np.full(len(unique), len(thumbnails), np.int64)
    np.minimum.at(earliest, roots, first)
    return np.asarray(earliest[roots[where.reshape(-1)]], np.int64)


def _near_pairs(thumbnails: Bytes) -> Iterator[tuple[int, int]]:
    hashes, pixels = _hashes(thumbnails), thumbnails.astype(np.int16)
    for start in range(0, len(hashes), _ROWS):
        block = hashes[start : start + _ROWS, None] ^ hashes[None, start:]
        for row, column in np.argwhere(np.bitwise_count(block) <= _HASH_BITS):
            one, other = start + int(row), start + int(column)
            if one < other and np.abs(pixels[one] - pixels[other]).mean() <= _GRAY_LEVELS:
                yield one, other


def _hashes(thumbnails: Bytes) -> npt.NDArray[np.uint64]:
    small = np.stack(
        [cv2.resize(each.reshape(SIDE, SIDE), (9, 8), interpolation=cv2.INTER_AREA) for each in thumbnails]
    )
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), 64)
    return np.asarray(np.packbits(bits, axis=1).view(np.uint64).reshape(-1))


def _leader(leaders: Ints, at: int) -> int:
    while leaders[at] != at:
        leaders[at] = leaders[leaders[at]]
        at = int(leaders[at])
    return at
