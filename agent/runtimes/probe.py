"""Probe: runs a classifier on varied artificial images to see its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.errors import NotFiniteError
from agent.image import Image
from agent.runtimes.score_kind import seen_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from agent.runtimes.classifier import Classifier
    from agent.runtimes.score_kind import SeenScores

    Pixels = npt.NDArray[np.uint8]

_SATURATED = ((255, 0, 0), (0, 0, 255))
_BLOBS = (2, 3, 5, 9)  # blobs per side: coarse ones look like scenery, fine ones like texture


def probe(classifier: Classifier) -> SeenScores:
    """What the scores of `classifier` are. Raises NotFiniteError if every image gives NaN or infinity."""
    rows = [classifier.values(image) for image in probe_images(classifier.layout.height, classifier.layout.width)]
    finite = [row for row in rows if np.isfinite(row).all()]
    if not finite:
        raise NotFiniteError("The model returned NaN or infinity for every image. Train or convert it again.")
    return seen_scores(np.stack(finite), step=classifier.output.step, output=classifier.output_index)


def probe_images(height: int, width: int) -> Iterator[Image]:
    """16 images, the same in every call: black, white and noise first. One at a time, because they may be large."""
    for draw in _drawings(height, width):
        yield Image(draw())


def _drawings(height: int, width: int) -> Iterator[Callable[[], Pixels]]:
    rng = np.random.default_rng(0)
    shape = (height, width, 3)
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]

    def even(color: tuple[int, ...]) -> Pixels:
        return np.full(shape, color, np.uint8)

    def noise(low: int, high: int) -> Pixels:
        return rng.integers(low, high, shape, np.uint8)

    def gray(plane: npt.NDArray[np.generic]) -> Pixels:
        return np.repeat(np.broadcast_to(plane, (height, width))[:, :, None], 3, axis=2).astype(np.uint8)

    def colors() -> Pixels:
        planes = np.broadcast_arrays(across, down, 255 - across)
        return np.stack(planes, axis=2).astype(np.uint8)

    def squares() -> Pixels:
        side = max(1, min(height, width) // 8)
        return gray(255 * ((np.arange(width) // side + np.arange(height)[:, None] // side) % 2))

    def blobs(count: int) -> Pixels:
        few = rng.integers(0, 256, (count, count, 3), np.uint8)
        return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    yield lambda: even((0, 0, 0))
    yield lambda: even((255, 255, 255))
    yield lambda: noise(0, 256)
    yield lambda: noise(112, 144)
    yield lambda: gray(rng.integers(0, 256, (height, width), np.uint8))
    yield lambda: gray(255 * rng.integers(0, 2, (height, width), np.uint8))
    yield lambda: gray(across)
    yield lambda: gray(255 - down)
    yield colors
    yield squares
    for color in _SATURATED:
        yield lambda color=color: even(color)  # type: ignore[misc]  # mypy infers no default
    for count in _BLOBS:
        yield lambda count=count: blobs(count)  # type: ignore[misc]  # mypy infers no default
