"""Scene: what one small gray picture of a camera shows, in numbers that do not depend on its light."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy.typing as npt

    from agent.image import Image, Pixels

    Array = npt.NDArray[Any]

WIDTH, HEIGHT = 160, 120  # of every picture, whatever its aspect ratio
SMALLEST_SIDE = HEIGHT

_EDGE = 12, 4  # rows and columns at each side that do not count: cameras write a name and the time there
_BLOCK = 4  # pixels; averaged, so that noise does not count
_SIDE = 10  # pixels of a cell in which edges are compared
_CELL = 4  # blocks of a cell that has structure or none
_FAINT = 4.0  # gray levels; a block that differs less from its neighbors does not count
_NOISES = 5  # nor is one that differs by less than so many standard deviations of its noise
_SOFT = 1.0  # gray levels per pixel; weaker gradients count less, and stronger ones all the same
_NEAR = 3  # pixels; the wind shakes a pole by so much
_WIDE = 2.5  # pixels; an edge looks alike at this scale, whether it is sharp or not
_STRONGEST = 0.2  # share of the reference's pixels in which its edges are compared
_PARALLEL = 0.7  # cosine of twice the angle between two edges
_OF_ONE = 1 / (2 * np.log(2))  # of two pictures with the same noise, and the mean of energies by their median
_FEWEST = 12  # cells with common edges, to compare how sharp they are
_IN_CELL = 0.1  # of its pixels


class Match(NamedTuple):
    """Correlations of the edges of two pictures, 0 to 1: in place, and at the best other place, which is `by` away.

    `by`: pixels to the right and down.
    """

    near: float
    far: float
    by: tuple[int, int]


def small_gray(image: Image) -> Pixels:
    gray = image.to_color("gray").pixels
    return np.asarray(cv2.resize(gray, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def visible_part(masks: Iterable[Sequence[tuple[float, float]]]) -> Array:
    """True where a small picture counts: not at its rim, and not in or beside a mask, whose edges never move."""
    hidden = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mask in masks:
        corners = np.array([(x * WIDTH, y * HEIGHT) for x, y in mask]).round().astype(np.int32)
        cv2.fillPoly(hidden, [corners], 1)
    hidden = cv2.dilate(hidden, np.ones((2 * _BLOCK + 1, 2 * _BLOCK + 1), np.uint8))
    rows, columns = _EDGE
    visible = np.zeros((HEIGHT, WIDTH), np.bool_)
    visible[rows:-rows, columns:-columns] = hidden[rows:-rows, columns:-columns] == 0
    return visible


class Scene:
    """Of a small_gray() picture; `visible` is visible_part()'s. Any thread."""

    def __init__(self, pixels: Pixels, visible: Array) -> None:
        self.pixels = pixels
        self._gray = pixels.astype(np.float32)
        self._visible = visible

    @cached_property
    def brightness(self) -> float:
        """Mean, 0 to 255."""
        return float(self._gray[self._visible].mean()) if self._visible.any() else 0.0

    @cached_property
    def structure(self) -> float:
        """The share of the picture, in cells of a tenth of the width, that has any structure; shading has none."""
        blocks = _averaged(self._gray, _BLOCK)
        bends = np.abs(cv2.Laplacian(blocks, cv2.CV_32F))
        noise = np.sqrt(20) * self._noise / _BLOCK  # a Laplacian adds 20 variances
        whole = _averaged(self._visible.astype(np.float32), _BLOCK) == 1
        visible = cv2.erode(whole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # together with its neighbors
        marked = (bends > max(_FAINT, _NOISES * noise)) & visible
        counted = _cells(visible)
        return float((_cells(marked) & counted).sum() / max(1, counted.sum()))

    @cached_property
    def _noise(self) -> float:
        """Standard deviation of a pixel, from the quietest quarter of the picture, which has the least texture."""
        residue = self._gray - cv2.blur(self._gray, (3, 3))
        return float(np.sqrt(np.percentile(_averaged(residue * residue, _SIDE), 25) * 9 / 8))

    @cached_property
    def _spectrum(self) -> tuple[Array, float]:
        """Of the directions of all edges, and its energy. Twice the angle: light may invert an edge."""
        gradient = _gradient(cv2.GaussianBlur(self._gray, (0, 0), 1.5))
        strength = np.abs(gradient)
        directions = np.where(self._visible, gradient * gradient / (strength * strength + _SOFT), 0)
        directions -= directions.mean()  # what all places have in common does not tell them apart
        return np.fft.fft2(directions), float((np.abs(directions) ** 2).sum())

    @cached_property
    def _fine(self) -> Array:
        return np.abs(_gradient(self._gray)) ** 2

    @cached_property
    def _coarse(self) -> Array:
        return _gradient(cv2.GaussianBlur(self._gray, (0, 0), _WIDE))

    def _noise_energy(self, before: Scene) -> tuple[float, float]:
        """That of the fine and the coarse gradient: what changes from one picture to the next in most places."""
        change = self._gray - before._gray
        scales = change, cv2.GaussianBlur(change, (0, 0), _WIDE)
        medians = [float(np.median((np.abs(_gradient(scale)) ** 2)[self._visible])) for scale in scales]
        return medians[0] * _OF_ONE, medians[1] * _OF_ONE

    def match(self, reference: Scene) -> Match:
        spectrum, energy = self._spectrum
        other, other_energy = reference._spectrum
        correlation = np.fft.ifft2(spectrum * np.conj(other)).real / max(1e-9, np.sqrt(energy * other_energy))
        centered = np.fft.fftshift(correlation)
        row, column = HEIGHT // 2, WIDTH // 2
        near = centered[row - _NEAR : row + _NEAR + 1, column - _NEAR : column + _NEAR + 1]
        nearest = float(near.max())
        near[:] = -1  # a view of it
        at = np.unravel_index(int(centered.argmax()), centered.shape)
        return Match(nearest, float(centered[at]), (int(at[1]) - column, int(at[0]) - row))

    def sharpness(self, reference: Scene, before: Scene) -> float | None:
        """How sharp the edges are that both pictures have: 1 as in the reference, less if blurred.

        None if too few edges are common, as at night. `before`, taken just before, shows how much of this is noise.
        """
        if not self._visible.any():
            return None
        there, here = np.abs(reference._coarse), np.abs(self._coarse)
        strong = there >= np.percentile(there[self._visible], 100 * (1 - _STRONGEST))
        parallel = np.real(self._coarse**2 * np.conj(reference._coarse) ** 2) > _PARALLEL * (here * there) ** 2
        fine_noise, coarse_noise = self._noise_energy(before)
        common = self._visible & strong & parallel & (here * here > 4 * coarse_noise) & (here > _SOFT)
        energies = (self._fine - fine_noise, here * here, reference._fine, there * there)
        fine, coarse, fine_there, coarse_there = (_averaged(energy * common, _SIDE) for energy in energies)
        compared = _averaged(common.astype(np.float32), _SIDE) >= _IN_CELL
        if compared.sum() < _FEWEST:
            return None
        # The median, because a lamp that is on at dusk has a large halo without sharp edges.
        return max(0.0, float(np.median((fine * coarse_there / (coarse * fine_there + 1e-9))[compared])))


def _gradient(gray: Array) -> Array:
    """Gray levels per pixel, as complex numbers."""
    right: Array = cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=1 / 8)
    down: Array = cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(right + np.complex64(1j) * down)


def _averaged(array: Array, side: int) -> Array:
    columns, rows = array.shape[1] // side, array.shape[0] // side
    return np.asarray(cv2.resize(array, (columns, rows), interpolation=cv2.INTER_AREA))


def _cells(blocks: Array) -> Array:
    """Whether a cell has a block."""
    rows, columns = blocks.shape
    trimmed = blocks[: rows // _CELL * _CELL, : columns // _CELL * _CELL]
    return np.asarray(trimmed.reshape(rows // _CELL, _CELL, columns // _CELL, _CELL).any(axis=(1, 3)))
