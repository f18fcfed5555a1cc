"""Trained on: a SavedModel lists the photos of its training, and nothing is fitted to its scores for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.host.digest import sha256_of
from converter.evaluation.answers import Answers
from converter.evaluation.evaluation import Evaluation
from converter.images.image_folder import ImageFolder, list_images
from converter.images.trained_on import NAME, list_of, trained_on

if TYPE_CHECKING:
    from pathlib import Path

    from converter.images.trained_on import Flags

COUNT = 100


def test_listed_photos_are_recognized_by_their_content(tmp_path: Path) -> None:
    photos, model = tmp_path / "photos", tmp_path / "model"
    photos.mkdir()
    (model / NAME).parent.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (photos / f"{name}.png").write_bytes(name.encode())
    assert trained_on(model, list_images(photos).images) is None
    with (photos / "b.png").open("rb") as file:
        (model / NAME).write_bytes(list_of([sha256_of(file), "0" * 64]))
    (photos / "b.png").rename(photos / "d.png")
    images = list_images(photos).images
    for path in (model, model / "saved_model.pb"):
        seen = trained_on(path, images)
        assert seen is not None
        assert seen.tolist() == [False, False, True]
    (photos / "d.png").unlink()
    seen = trained_on(model, images)
    assert seen is not None
    assert not seen.any()


def _evaluation(tmp_path: Path, seen: Flags | None) -> Evaluation:
    """Two labels. The model is sure and right about the first half of the images, and guesses about the others."""
    truth = np.arange(COUNT) % 2
    right = np.eye(2, dtype=np.float32)[truth] * 0.98 + 0.01
    guessed = np.eye(2, dtype=np.float32)[(np.arange(COUNT) // 2) % 2] * 0.98 + 0.01
    scores = np.where((np.arange(COUNT) < COUNT // 2)[:, None], right, guessed).astype(np.float32)
    answers = Answers("m", "CPU", 1, scores, np.ones(COUNT, np.float32))
    images = tuple(list_images(tmp_path).images) * COUNT
    return Evaluation(
        folder=ImageFolder(tmp_path, images),
        labels=("a", "b"),
        images=images,
        left_out=(),
        labeled=True,
        truth=truth,
        answers=(answers,),
        trained_on=seen,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").touch()
    return tmp_path


def test_scores_are_fitted_to_photos_that_the_model_was_not_trained_on(folder: Path) -> None:
    half = np.arange(COUNT) < COUNT // 2
    every, others = (_evaluation(folder, seen).with_fitted_scores() for seen in (None, half))
    assert (every.training_note, every.to_json()["trained_on"]) == (None, None)
    assert others.fitted is not None
    assert every.fitted is not None
    assert others.fitted.before.error == pytest.approx(0.49, abs=0.01)
    assert every.fitted.before.error == pytest.approx(0.24, abs=0.01)
    note = str(others.training_note)
    assert note.startswith(f"50 of the 100 images in {folder} were used to train the model")
    assert note.endswith("For a temperature and a threshold, only the others count.")
    assert others.to_json()["trained_on"] == COUNT // 2


def test_nothing_is_fitted_if_the_model_was_trained_on_every_photo(folder: Path) -> None:
    evaluation = _evaluation(folder, np.ones(COUNT, np.bool_)).with_fitted_scores()
    assert (evaluation.fitted, evaluation.reliability, evaluation.score_sentences) == (None, None, ())
    assert str(evaluation.training_note).endswith("For a temperature and a threshold, none of them counts.")
