"""Similarity: finds photos that show nearly the same, such as neighboring frames of a video or resized copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from agent.image import Image

    Bytes: TypeAlias = npt.NDArray[np.uint8]
    Flags: TypeAlias = npt.NDArray[np.bool_]
    Ints: TypeAlias = npt.NDArray[np.int64]

SIDE = 32
_HASH_BITS = 10  # of 64, that may differ
_GRAY_LEVELS = 8.0  # of the mean difference between two thumbnails
_LOCAL_LEVELS = 20.0  # of the mean difference in a block of 4 x 4 pixels
_BLOCKS = 8  # in a row
_RUNS = 10
_ROWS = 256


def thumbnail_of(image: Image) -> Bytes:
    """32 x 32 gray pixels."""
    gray = image.to_color("gray").pixels
    return np.asarray(cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def near_duplicates(thumbnails: Bytes) -> Ints:
    """The number of a group for each of n x 32 x 32 thumbnails: that of its first member.

    A pair is near if few bits of its difference hashes differ (is the right neighbor brighter?), and few gray levels.
    The hashes are cheap to compare; the pixels decide, since simple drawings can have the same hash. No small part may
    differ much either: a camera that does not move shows one background, with one thing or another in it.
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
            near = others[_are_near(thumbnails[one], thumbnails[others])]
            if len(near):
                together = np.append(np.unique(numbers[near]), numbers[one])
                numbers[np.isin(numbers, together)] = together.min()
    return numbers


def _are_near(one: Bytes, others: Bytes) -> Flags:
    differences = others.astype(np.int16) - one
    size = SIDE // _BLOCKS
    local = differences.reshape(-1, _BLOCKS, size, _BLOCKS, size).mean(axis=(2, 4))
    is_near = (np.abs(differences).mean(axis=1) <= _GRAY_LEVELS) & (np.abs(local).max(axis=(1, 2)) <= _LOCAL_LEVELS)
    return np.asarray(is_near)


def loosened(groups: Ints, truth: Ints, sha256s: Sequence[str]) -> tuple[Ints, tuple[int, ...]]:
    """Divides the groups that are nearly a whole class, as a camera makes that does not move; returns those classes.

    Without that, no photo would be left to check the class. Neighbors stay together in ten runs, and equal files too.
    """
    result, classes = groups.copy(), []
    for label in np.unique(truth).tolist():
        own = np.flatnonzero(truth == label)
        numbers, sizes = np.unique(groups[own], return_counts=True)
        same = own[groups[own] == numbers[sizes.argmax()]]
        files = list(dict.fromkeys(sha256s[at] for at in same))
        if len(files) == 1 or 10 * len(same) <= 9 * len(own):
            continue
        classes.append(label)
        runs = {file: number * _RUNS // max(len(files), _RUNS) for number, file in enumerate(files)}
        firsts: dict[int, int] = {}
        for at in same.tolist():
            result[at] = firsts.setdefault(runs[sha256s[at]], at)
    return result, tuple(classes)


def _hashes(thumbnails: Bytes) -> npt.NDArray[np.uint64]:
    small = np.stack(
        [cv2.resize(each.reshape(SIDE, SIDE), (9, 8), interpolation=cv2.INTER_AREA) for each in thumbnails]
    )
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), 64)
    return np.asarray(np.packbits(bits, axis=1).view(np.uint64).reshape(-1))
