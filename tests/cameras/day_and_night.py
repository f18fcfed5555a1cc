"""A film of a yard with known changes, five frames per second: a day, the dusk, a night with a lamp, and a cat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from agent.frame import Frame
from agent.image import Image
from agent.runtimes.scores import Scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

FPS, FRAMES = 5, 900
LABELS = ("empty", "cat", "dark")

_WIDTH, _HEIGHT = 320, 240
_CAT = 28, 20  # pixels, 1/12 of the picture's sides
_CAT_COLOR = 40, 110, 220  # blue, green, red
_STEP = 4  # pixels that the cat walks per frame
_FLOOR, _SEAT, _PILLAR = 160, 140, range(70, 82)  # the cat's row, the column where it sits, and columns before it

# Each cat comes from the left, passes behind the pillar, sits, and goes back.
_VISITS = ((150, 260), (420, 540))  # frames of its first steps in and out
_WALK = (_SEAT + _CAT[0] + _STEP - 1) // _STEP  # frames
_APPEARANCE = range(820, 860)  # the third cat jumps down onto its seat, and up again
_DUSK = range(340, 640)
_LAMP = range(700, 750)
_NIGHT = 0.2  # of the light of the day
_BREATHING = range(300, 340)  # the exposure goes up and down by 4 %

CHANGED = frozenset(
    [*(at + n for visit in _VISITS for at in visit for n in range(_WALK))]
    + [edge for event in (_APPEARANCE, _LAMP) for edge in (event.start, event.stop)]
)


def film(*, quality: int | None = None) -> Iterator[Frame]:
    """The frames as pixels, or as JPEGs of that quality."""
    rng = np.random.default_rng(21)
    yard, noise = _yard(rng), rng.normal(0, 1, (2 * _HEIGHT, 2 * _WIDTH, 3)).astype(np.float32)
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float32)
    lamp = (0.9 * np.exp(-((x - 240) ** 2 + (y - 60) ** 2) / 20000))[..., None]
    for n in range(FRAMES):
        scene = _with_cat(yard, n)
        night = min(1.0, max(0.0, (n - _DUSK.start) / len(_DUSK)))
        light = _NIGHT**night * (1 + 0.04 * np.sin(n) * (n in _BREATHING))
        top, left = rng.integers(0, _HEIGHT), rng.integers(0, _WIDTH)
        grain = noise[top : top + _HEIGHT, left : left + _WIDTH] * (2.5 + 2 * night)  # more gain, more noise
        lit = scene * (light + lamp if n in _LAMP else light) + grain
        pixels = np.clip(lit, 0, 255).astype(np.uint8)
        picture = Image(pixels, "bgr") if quality is None else _jpeg(pixels, quality)
        yield Frame(picture, captured_ns=n * 10**9 // FPS)


def scores(image: Image) -> Scores:
    """A model that sees how much of a cat is visible, and whether it is dark."""
    blue, _, red = cv2.split(cv2.blur(image.to_color("bgr").pixels.astype(np.float32), (3, 3)))
    orange = (red - blue) > 0.35 * (red + blue + 16)
    cat = 0.95 * min(1.0, float(orange.mean()) * _WIDTH * _HEIGHT / (_CAT[0] * _CAT[1]))
    dark = 0.95 * min(1.0, max(0.0, (60 - float(image.pixels.mean())) / 20))
    values = (1 - cat) * (1 - dark), cat, (1 - cat) * dark
    return Scores(np.asarray(values, np.float32), LABELS, scale=0.0, zero_point=0, are_logits=False)


def _jpeg(pixels: Pixels, quality: int) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _yard(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Walls and plants of little color, with edges in all directions."""
    coarse = rng.integers(70, 190, (12, 16, 1), np.uint8).repeat(3, axis=2)
    yard = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        (x, y), gray = rng.integers(0, (_WIDTH, _HEIGHT)), int(rng.integers(50, 220))
        cv2.rectangle(yard, (int(x), int(y)), (int(x) + 30, int(y) + 18), (gray, gray - 8, gray + 8), -1)
    scene: npt.NDArray[np.float32] = yard.astype(np.float32)
    return scene


def _with_cat(yard: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    left = _cat_at(n)
    if left is None:
        return yard
    columns = [x for x in range(left, left + _CAT[0]) if x >= 0 and x not in _PILLAR]
    scene: npt.NDArray[np.float32] = yard.copy()
    scene[_FLOOR : _FLOOR + _CAT[1], columns] = _CAT_COLOR
    return scene


def _cat_at(n: int) -> int | None:
    """The cat's left column, which may be outside."""
    if n in _APPEARANCE:
        return _SEAT
    for comes, goes in _VISITS:
        if comes <= n < goes + _WALK:
            return min(_SEAT, (n - comes + 1) * _STEP - _CAT[0], _SEAT - (n - goes + 1) * _STEP)
    return None
