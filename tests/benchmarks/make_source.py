"""Make the input of the converter's benchmark: `python make_source.py FOLDER`.

A SavedModel of MobileNetV2 224 with random weights (its answers are meaningless, but it is as fast as a trained
model), 100 pictures for calibration and 200 for evaluation.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SEED = 0
CLASSES = 1000
PICTURE = (480, 640)
PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "photos"


def main(folder: Path) -> None:
    tf.keras.utils.set_random_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"class {index}\n" for index in range(CLASSES)))
    rng = np.random.default_rng(SEED)
    material = photos()
    for name, count in (("calibration", 100), ("evaluation", 200)):
        save(folder / name, [picture(material, rng) for _ in range(count)])
    network = tf.keras.applications.MobileNetV2(weights=None, classes=CLASSES)
    network.export(str(folder / "unfinished"), verbose=False)
    (folder / "unfinished").rename(folder / "mobilenet_v2")


def photos() -> list[npt.NDArray[Any]]:
    read = (cv2.imread(str(path)) for path in sorted(PHOTOS.glob("[!bt]*.[jb][pm][gp]")))
    return [photo for photo in read if photo is not None]


def picture(material: Sequence[npt.NDArray[Any]], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return a random part of a random photo, or blurred noise without photos; the content does not affect the time."""
    if not material:
        return np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (*PICTURE, 3)).astype(np.uint8), (0, 0), 9))
    photo = material[int(rng.integers(len(material)))]
    top, left = (int(rng.integers(1 + side // 2)) for side in photo.shape[:2])
    half = photo[top : top + photo.shape[0] // 2, left : left + photo.shape[1] // 2]
    return np.asarray(cv2.resize(half, PICTURE[::-1]))


def save(folder: Path, pictures: Sequence[npt.NDArray[Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for number, pixels in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:03}.jpg"), pixels)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
