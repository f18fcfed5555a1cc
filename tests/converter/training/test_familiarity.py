"""Familiarity: what looks like no training photo gets low scores, from the SavedModel as from the int8 file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from conversions import QUIET, finished_classifier

from agent.image import Image
from agent.model_file.saved_model import read_saved_model
from agent.runtimes.saved_model import TensorFlowClassifier, image_function, open_saved_model
from converter.training.familiarity import examples_of, familiarity_of

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert
    from trainings import Trained

    from agent.runtimes.classifier import Classifier


def test_training_photos_are_familiar_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    known = np.abs(random.normal(1, 0.2, (60, 32)) + 3 * np.eye(32)[:4].repeat(15, axis=0)).astype(np.float32)
    other = np.abs(random.normal(1, 0.2, (20, 32)) + 3 * np.eye(32)[10]).astype(np.float32)
    familiarity = familiarity_of(known[::2], known[1::2])
    assert familiarity.of(known[::2]).min() > 0.9
    assert 0 < (familiarity.of(known[1::2]) < 0.5).mean() < 0.1
    assert familiarity.of(other).max() < 0.1


@pytest.mark.parametrize("features", [np.zeros((4, 8), np.float32), np.ones((4, 8), np.float32)])
def test_photos_without_any_difference_give_finite_values(features: np.ndarray) -> None:
    familiarity = familiarity_of(features, features)
    for each in (features, np.full((1, 8), 10, np.float32)):
        assert np.isfinite(familiarity.of(each)).all()


def test_at_most_500_photos_are_kept_of_each_class_in_turn() -> None:
    truth = np.repeat([0, 1, 2], [2000, 300, 7])
    kept = examples_of(truth, seed=3)
    assert np.bincount(truth[kept]).tolist() == [247, 246, 7]
    assert (examples_of(truth, seed=3) == kept).all()
    assert examples_of(truth[-9:], seed=3).tolist() == list(range(9))


@pytest.mark.long
@pytest.mark.filterwarnings(*QUIET)
def test_a_thing_never_trained_has_lower_scores_than_every_photo_of_the_training(
    trained: Trained, tmp_path: Path, edge_convert: EdgeConvert
) -> None:
    output = tmp_path / "model.tflite"
    outcome = edge_convert("convert", trained.request.output, output, "--calibration", trained.request.photos)
    assert outcome.code == 0, outcome.err
    function = image_function(open_saved_model(trained.request.output), key=None, size=None)
    settings = read_saved_model(trained.request.output).settings
    face = np.full((96, 120, 3), 255, np.uint8)
    cv2.putText(face, "AB", (5, 70), cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 2.5, (0, 0, 0), 4)
    for classifier in (TensorFlowClassifier(function, settings), finished_classifier(output.read_bytes())):
        photos = [photo.found.read(smallest_side=224) for photo in trained.training.dataset.photos]
        assert _best(classifier, Image(face)) < min(_best(classifier, photo) for photo in photos)


def _best(classifier: Classifier, image: Image) -> float:
    return float(classifier.scores(image)[0].probabilities.max())
