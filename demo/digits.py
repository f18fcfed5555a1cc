"""Handwritten digits as a camera sees them: scikit-learn's 8 x 8 scans, drawn as strokes on unevenly lit paper.

train.py and video.py share this module, so that the video shows only digits that the model was not trained on.
`python demo/digits.py FOLDER` writes the scans as photos, in one folder per digit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]
    Gray = npt.NDArray[np.uint8]

LABELS = tuple("0123456789")
INPUT_SIDE = 32
_SCAN_SIDE = 8


@dataclass(frozen=True)
class Split:
    """Scans of 8 x 8 values from 0 (paper) to 1 (ink), and the digit of each."""

    scans: Floats
    digits: Ints


@dataclass(frozen=True)
class View:
    """How the camera sees one digit. Lengths are relative to the picture's side; light is 0 to 1."""

    size: float = 0.85
    x: float = 0.0
    y: float = 0.0
    angle_degrees: float = 0.0
    sharpness: float = 0.6
    paper: float = 0.9
    ink: float = 0.1
    shade: float = 0.0
    shade_degrees: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def load_splits() -> tuple[Split, Split]:
    """Training and held-out digits: 80 % and 20 % of each class, the same in every call."""
    bunch = load_digits()
    scans = (bunch.images / 16).astype(np.float32)
    train, held_out = train_test_split(np.arange(len(scans)), test_size=0.2, stratify=bunch.target, random_state=0)
    return Split(scans[train], bunch.target[train]), Split(scans[held_out], bunch.target[held_out])


def random_view(rng: np.random.Generator) -> View:
    dark, light = rng.uniform(0.02, 0.3), rng.uniform(0.55, 0.98)
    ink_is_dark = rng.random() < 0.5
    return View(
        size=rng.uniform(0.65, 1.0),
        x=rng.uniform(-0.09, 0.09),
        y=rng.uniform(-0.09, 0.09),
        angle_degrees=rng.uniform(-12, 12),
        sharpness=rng.uniform(0.0, 1.0),
        paper=light if ink_is_dark else dark,
        ink=dark if ink_is_dark else light,
        shade=rng.uniform(0.0, 0.45),
        shade_degrees=rng.uniform(0, 360),
        blur=rng.uniform(0.0, 0.02),
        noise=rng.uniform(0.0, 0.06),
    )


def between(start: View, end: View, share: float) -> View:
    """Interpolate from `start` (share 0) to `end` (share 1); the contrast stays that of `start`."""
    moved = {
        name: (1 - share) * getattr(start, name) + share * getattr(end, name)
        for name in ("size", "x", "y", "angle_degrees", "shade", "shade_degrees", "blur")
    }
    return replace(start, **moved)


def draw(scan: Floats, view: View, *, side: int, rng: np.random.Generator) -> Gray:
    """Return a gray picture of `side` x `side` pixels."""
    strokes = _strokes(scan, view, side)
    picture = (view.paper + (view.ink - view.paper) * strokes) * _light(view, side)
    if view.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), max(view.blur * side, 0.3))
    picture += view.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def to_input(picture: Gray) -> Gray:
    """Resize as the agent does: stretched to the model's input, averaging over every pixel of the picture."""
    return cv2.resize(picture, (INPUT_SIDE, INPUT_SIDE), interpolation=cv2.INTER_AREA)


def _strokes(scan: Floats, view: View, side: int) -> Floats:
    """Enlarge the scan: smooth at sharpness 0, with sharp edges like those of a pen at 1."""
    scale = view.size * side / _SCAN_SIDE
    turn = np.deg2rad(view.angle_degrees)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    middle, scan_middle = (side - 1) / 2, (_SCAN_SIDE - 1) / 2
    matrix = np.array(
        [
            [cos, -sin, middle + view.x * side - (cos - sin) * scan_middle],
            [sin, cos, middle + view.y * side - (sin + cos) * scan_middle],
        ]
    )
    soft = np.clip(cv2.warpAffine(scan, matrix, (side, side), flags=cv2.INTER_CUBIC), 0, 1)
    gain = 1 + 7 * view.sharpness
    return np.clip((soft - 0.5) * gain + 0.5, 0, 1) if view.sharpness > 0 else soft


def _light(view: View, side: int) -> Floats:
    """Brightness that falls from 1 on the lit side to 1 - shade on the other, along `shade_degrees`."""
    across = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    turn = np.deg2rad(view.shade_degrees)
    slope = np.cos(turn) * across[None, :] + np.sin(turn) * across[:, None]
    return (1 - view.shade * (0.5 + slope / np.sqrt(2))).astype(np.float32)


def write_folder(root: Path) -> None:
    """Every scan as a photo of 64 x 64 pixels, in one folder per digit, for `edge-convert train`."""
    bunch = load_digits()
    rng = np.random.default_rng(0)
    for number, (scan, digit) in enumerate(zip(bunch.images / 16, bunch.target, strict=True)):
        path = root / str(digit) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw(scan.astype(np.float32), View(), side=64, rng=rng))


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]))
