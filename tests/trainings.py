"""Trainings for tests: photos of shapes, and a training with its request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from agent.model_file.saved_model import read_saved_model
from agent.runtimes.saved_model import TensorFlowClassifier, image_function, open_saved_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from converter.training.training import Training, TrainingRequest

    Floats: TypeAlias = npt.NDArray[np.float32]
    Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    request: TrainingRequest
    training: Training


_PER_CLASS = 8


def write_shapes(
    root: Path, *, per_class: int = _PER_CLASS, classes: tuple[str, ...] = ("disk", "grid", "stripes")
) -> Path:
    """Photos of shapes in random colors, sizes and places."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            picture = _shape(name, np.random.default_rng([len(name), number]))
            assert cv2.imwrite(str(root / name / f"{number:02}.png"), picture)
    return root


def saved_classifier(folder: Path) -> TensorFlowClassifier:
    """Of a SavedModel with the settings that it states."""
    function = image_function(open_saved_model(folder), key=None, size=None)
    return TensorFlowClassifier(function, read_saved_model(folder).settings)


def scores_of_saved_model(training: Training, folder: Path) -> Floats:
    """Of the photos that the training judged."""
    classifier = saved_classifier(folder)
    photos = [training.dataset.photos[int(at)] for at in training.partition.judged]
    return np.stack([classifier.scores(photo.found.read(smallest_side=224))[0].probabilities for photo in photos])


def _shape(name: str, random: np.random.Generator) -> Pixels:
    back, front = random.integers(0, 110, 3), random.integers(140, 255, 3)
    picture = np.full((96, 120, 3), back, np.uint8)
    color = tuple(map(int, front))
    x, y, step = (int(random.integers(low, high)) for low, high in ((35, 85), (35, 60), (12, 22)))
    if name == "disk":
        cv2.circle(picture, (x, y), step + 10, color, -1)
    for at in range(x % step, 120, step):
        if name in ("stripes", "grid"):
            cv2.line(picture, (at, 0), (at, 96), color, 3)
        if name == "grid":
            cv2.line(picture, (0, at), (120, at), color, 3)
    noise = random.normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)
