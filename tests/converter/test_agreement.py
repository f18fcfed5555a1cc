"""The refusal of a finished file that agrees with its source no more often than a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conversions import QUIET, converted, finished_classifier, readable_images, scores

from converter.errors import DropError
from converter.evaluation.agreement import Agreement, agreement_of

if TYPE_CHECKING:
    from pathlib import Path

    from converter.conversion import Conversion

pytestmark = pytest.mark.filterwarnings(*QUIET)


@pytest.mark.parametrize(
    ("images", "labels", "fewest_equal"),
    [(20, 2, 15), (80, 4, 28), (100, 10, 16), (1000, 1000, 3)],  # 72.4 %, 34.7 %, 16 % and 0.3 %
)
def test_agreement_is_chance_below_one_per_label_and_two_standard_deviations(
    images: int, labels: int, fewest_equal: int
) -> None:
    assert Agreement(images, fewest_equal - 1, labels).is_chance
    assert not Agreement(images, fewest_equal, labels).is_chance


def test_guesses_are_chance_in_most_draws() -> None:
    random = np.random.default_rng(0)
    draws = random.integers(0, 5, (2, 400, 60)).tolist()
    found = [agreement_of(source, model, labels=5).is_chance for source, model in zip(*draws, strict=True)]
    assert sum(found) > 0.95 * len(found)


def test_agreement_is_never_chance_below_twenty_images_or_for_one_label() -> None:
    assert not Agreement(19, 0, 10).is_chance
    assert not Agreement(100, 0, 1).is_chance


@pytest.fixture(scope="module")
def outlier(small_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with one feature thousands of times larger than the others: int8 rounds the others to zero."""
    import tensorflow as tf  # noqa: PLC0415  (only in .venv-converter)

    layers, features = tf.keras.layers, small_model.get_layer("pool").output
    count = features.shape[1]
    kernel, bias = small_model.get_layer("scores").get_weights()
    wide, last = layers.Dense(count + 1, name="wide"), layers.Dense(4, activation="softmax", name="last")
    model = tf.keras.Model(small_model.inputs, last(wide(features)))
    wide.set_weights([np.hstack([np.eye(count), np.full((count, 1), 300)]), np.zeros(count + 1)])
    last.set_weights([np.vstack([kernel, np.zeros((1, 4))]), bias])
    path = tmp_path_factory.mktemp("outlier") / "outlier"
    model.export(str(path), verbose=False)
    return path


def refusal_of(conversion: Conversion) -> str:
    (model,) = conversion.models
    assert isinstance(model.refusal, DropError)
    assert not model.path.exists()
    return str(model.refusal)


def test_file_that_lost_its_answers_is_not_written_when_only_calibrated(
    outlier: Path, color_images: Path, tmp_path: Path
) -> None:
    refusal = refusal_of(converted(outlier, tmp_path / "m.tflite", "int8", calibration=color_images))
    assert refusal.startswith("The finished model and its source agree on only ")
    assert " of 50 images (" in refusal
    assert "A model that guesses among 4 labels agrees on up to 37.2 % (1/4 plus two standard deviations)." in refusal
    assert f"So {tmp_path / 'm.tflite'} was not written; --force writes it." in refusal


def test_file_that_lost_its_answers_is_written_with_force_and_a_note(
    outlier: Path, color_images: Path, tmp_path: Path
) -> None:
    images: dict[str, Any] = {"calibration": color_images, "evaluation": color_images}
    assert " of 80 images (" in refusal_of(converted(outlier, tmp_path / "m.tflite", "int8", **images))
    forced = converted(outlier, tmp_path / "m.tflite", "int8", **images, force=True)
    assert [note for note in forced.notes if note.startswith(f"{tmp_path / 'm.tflite'}: The finished model and its")]
    answers = scores(finished_classifier((tmp_path / "m.tflite").read_bytes()), readable_images(color_images).values())
    assert np.bincount(answers.argmax(axis=1)).max() > 60


def test_float_file_of_the_same_source_is_written_without_a_note(
    outlier: Path, color_images: Path, tmp_path: Path
) -> None:
    images: dict[str, Any] = {"calibration": color_images, "evaluation": color_images}
    conversion = converted(outlier, tmp_path / "m.tflite", "none", **images)
    assert conversion.models[0].refusal is None
    assert conversion.notes == ()
