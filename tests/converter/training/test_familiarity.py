"""Familiarity: what looks like no training photo gets low scores, from the SavedModel as from the int8 file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conversions import QUIET, finished_classifier
from trainings import saved_classifier

from agent.image import Image
from converter.training.familiarity import LEAST, examples_of, familiarity_of

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert
    from trainings import Trained

    from agent.runtimes.classifier import Classifier


def test_training_photos_are_familiar_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    known = np.abs(random.normal(1, 0.2, (60, 32)) + 8 * np.eye(32)[:4].repeat(15, axis=0)).astype(np.float32)
    other = np.abs(random.normal(1, 0.2, (20, 32)) + 8 * np.eye(32)[10]).astype(np.float32)
    familiarity = familiarity_of(known[::2], known[1::2])
    assert familiarity.of(known[::2]).min() > 0.5
    assert (familiarity.of(known[1::2]) < 0.5).mean() <= 0.1
    assert familiarity.of(other).max() < LEAST + 0.01


@pytest.mark.parametrize("sign", [1, -1])
def test_photos_of_a_camera_that_does_not_move_are_familiar_also_in_other_light(sign: float) -> None:
    scene = sign * np.linspace(0.5, 2, 32, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 0.01, (20, 32)).astype(np.float32)
    familiarity = familiarity_of(scene + noise[:10], scene + noise[10:])
    assert familiarity.of(scene + noise).min() > 0.95
    assert familiarity.of(1.2 * scene[None] + noise).min() > 0.9


@pytest.mark.parametrize("value", [0, 1])
def test_photos_without_any_difference_give_finite_values(value: float) -> None:
    features = np.full((4, 8), value, np.float32)
    familiarity = familiarity_of(features, features)
    for each in (features, np.full((1, 8), 10, np.float32)):
        assert np.isfinite(familiarity.of(each)).all()


def test_a_training_photo_is_as_familiar_as_another_of_its_kind() -> None:
    """Although it is an example, and so the most similar to itself."""
    photos = np.random.default_rng(0).normal(2, 0.5, (200, 32)).astype(np.float32)
    familiarity = familiarity_of(photos[:100], photos[100:])
    trained, fresh = (np.quantile(familiarity.of(side), (0.1, 0.5)) for side in (photos[:100], photos[100:]))
    np.testing.assert_allclose(trained, fresh, atol=0.1)


def test_at_most_500_photos_are_kept_of_each_class_in_turn() -> None:
    truth = np.repeat([0, 1, 2], [2000, 300, 7])
    kept = examples_of(truth, seed=3)
    assert np.bincount(truth[kept]).tolist() == [247, 246, 7]
    assert (examples_of(truth, seed=3) == kept).all()
    assert examples_of(truth[-9:], seed=3).tolist() == list(range(9))
    many = np.repeat(np.arange(600), 3)
    assert np.bincount(many[examples_of(many, seed=0)]).tolist() == [2] * 600


@pytest.mark.long
@pytest.mark.filterwarnings(*QUIET)
def test_a_thing_never_trained_has_lower_scores_than_every_photo_of_the_training(
    trained: Trained, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    output = tmp_path / "model.tflite"
    outcome = edge_convert("convert", trained.request.output, output, "--calibration", trained.request.photos)
    assert outcome.code == 0, outcome.err
    letters = np.full((96, 120, 3), 255, np.uint8)
    cv2.putText(letters, "AB", (5, 70), cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 2.5, (0, 0, 0), 4)
    for classifier in (saved_classifier(trained.request.output), finished_classifier(output.read_bytes())):
        photos = [photo.found.read(smallest_side=224) for photo in trained.training.dataset.photos]
        assert _best(classifier, Image(letters)) < min(_best(classifier, photo) for photo in photos)


def _best(classifier: Classifier, image: Image) -> float:
    return float(classifier.scores(image)[0].probabilities.max())
