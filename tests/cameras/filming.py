"""Filming: what a camera would see of a photo in other light, with people, or once it is covered, blurred or moved."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from agent.image import Image, decode

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Picture = npt.NDArray[Any]

SIZE = 320, 240
PHOTOS = (
    "bird.bmp",
    "burger.jpg",
    "cat_720p.jpg",
    "dragonfly.bmp",
    "grace_hopper.bmp",
    "hot_dog.jpg",
    "parrot.jpg",
    "sunflower.bmp",
    "exif/Landscape_1.jpg",
)
_ACROSS, _DOWN = np.meshgrid(np.linspace(-1, 1, SIZE[0], dtype=np.float32), np.linspace(-1, 1, SIZE[1]))
_LAMPS = sum(
    200 * np.exp(-((_ACROSS - x) ** 2 * 16 + (_DOWN - y) ** 2 * 9) / (18 * size**2))
    for x, y, size in ((-0.6, -0.5, 0.07), (0.5, 0.1, 0.11), (0, -0.7, 0.04))
)


def photo(path: Path) -> Picture:
    """The middle of it, BGR."""
    pixels = decode(path.read_bytes()).to_color("bgr").pixels
    height, width = pixels.shape[:2]
    side = min(width / 4, height / 3)
    rows, columns = int(3 * side), int(4 * side)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = pixels[top : top + rows, left : left + columns]
    small: Picture = cv2.resize(middle, (480, 360), interpolation=cv2.INTER_AREA)
    return small


class Film:
    """Pictures of one place. The same `seed` gives the same pictures."""

    def __init__(self, place: Picture, person: Picture, *, seed: int = 0) -> None:
        self._place = place
        self._person = cv2.resize(person[:, 120:330], (70, 170), interpolation=cv2.INTER_AREA)
        self._random = np.random.default_rng(seed)
        self._still = functools.lru_cache(maxsize=8)(self._from)

    def day(self, *, right: float = 0, down: float = 0, turn: float = 0, blur: float = 0, people: int = 0) -> Image:
        """Shifts and the standard deviation of the blur in fractions of the width; degrees."""
        seen = self._seen(right, down, turn, blur, people)
        return self._taken(cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY).astype(float), noise=3)

    def infrared(self, *, right: float = 0, down: float = 0, blur: float = 0) -> Image:
        """At night by the light of the camera's own lamps: colors have another brightness, and the rim is dark."""
        red = self._seen(right, down, blur=blur)[:, :, 2]
        return self._taken(red * np.exp(-(_ACROSS**2 + _DOWN**2) / 1.3) * 0.8 + 8, noise=5)

    def hour(self, hour: float) -> Image:
        """Sun with a shadow that moves, dusk, and a night with some lamps; people, wind and rain by chance."""
        chance = self._random.random
        sun = max(0.0, math.sin((hour - 6) / 12 * math.pi))
        shake = (chance(2) - 0.5) * 0.01
        seen = self._seen(shake[0], shake[1], people=int(chance() * 3))
        gray = cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY) * (0.03 + 0.97 * sun**0.7) * (0.8 + 0.4 * chance())
        gray *= 1 - 0.5 * sun * self._shadow(hour)
        if sun < 0.1:
            gray += _LAMPS
        if 6.5 < hour < 8:
            gray = gray * 0.2 + 120  # fog
        if 16 < hour < 17:
            self._rain(gray)
        return self._taken(gray + 3, noise=3 + 4 * (1 - sun))

    def night_of_infrared(self) -> Image:
        shake = (self._random.random(2) - 0.5) * 0.01
        return self.infrared(right=shake[0], down=shake[1])

    def hand(self) -> Image:
        """Before the lens: dark, with a little light from one side."""
        return self._taken(np.tile(np.linspace(10, 60, SIZE[0]), (SIZE[1], 1)), noise=5)

    def black(self) -> Image:
        return self._taken(np.full(SIZE[::-1], 3.0), noise=5)

    def white(self) -> Image:
        return self._taken(np.full(SIZE[::-1], 220.0), noise=2)

    def _from(self, right: float, down: float, turn: float) -> Picture:
        """The place without people, from there."""
        height, width = self._place.shape[:2]
        turned = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.2)
        turned[:, 2] += right * width, down * width
        seen = cv2.warpAffine(self._place, turned, (width, height), borderMode=cv2.BORDER_REFLECT)
        small: Picture = cv2.resize(seen, SIZE, interpolation=cv2.INTER_AREA)
        return small

    def _seen(self, right: float, down: float, turn: float = 0, blur: float = 0, people: int = 0) -> Picture:
        seen: Picture = self._still(right, down, turn).copy()
        for _ in range(people):
            tall, wide = self._person.shape[:2]
            left = int(self._random.integers(0, SIZE[0] - wide))
            seen[-tall:, left : left + wide] = self._person
        if blur:
            seen = cv2.GaussianBlur(seen, (0, 0), blur * SIZE[0])
        return seen

    def _shadow(self, hour: float) -> Picture:
        angle = (hour - 12) / 12 * math.pi
        return np.asarray(_ACROSS * math.cos(angle) + _DOWN * math.sin(angle) > (hour - 12) / 8, np.float32)

    def _rain(self, gray: Picture) -> None:
        for x, y in self._random.integers((0, 0), SIZE, (150, 2)).tolist():
            gray[y : y + 12, x : x + 1] = 200

    def _taken(self, gray: Picture, *, noise: float) -> Image:
        return Image(np.clip(gray + self._random.normal(0, noise, gray.shape), 0, 255).astype(np.uint8), "gray")
