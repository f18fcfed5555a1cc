"""Fine-tuning: keeps the better model, stays within its time, and continues to the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conversions import QUIET, untracked
from trainings import scores_of_saved_model

from converter.training import fine_tuning, search, training
from converter.training.augmentation import augmented
from converter.training.checkpoint import Checkpoint
from converter.training.fine_tuning import Candidate
from converter.training.training import TrainingRequest, train_and_write

if TYPE_CHECKING:
    from pathlib import Path

    from trainings import Trained

    from converter.training.checkpoint import Arrays

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(text) for text in QUIET)]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One candidate with two epochs instead of six with thirty, which counts as better than the head."""
    monkeypatch.setattr(search, "CANDIDATES", (Candidate(0.1, 1e-3),))
    monkeypatch.setattr(fine_tuning, "_MOST_EPOCHS", 2)
    monkeypatch.setattr(training, "log_loss", lambda _scores, _truth: np.inf)


@pytest.mark.usefixtures("short")
def test_interrupted_fine_tuning_ends_the_same(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = trained.request.photos
    whole = train_and_write(
        TrainingRequest(photos=photos, output=tmp_path / "whole", folds=1, minutes=1000), track=untracked
    )
    assert whole.search is not None
    assert whole.search.tried[0].history.shape == (2, 3)
    assert whole.is_tuned
    np.testing.assert_allclose(scores_of_saved_model(whole, tmp_path / "whole"), whole.scores, atol=1e-4)
    request = TrainingRequest(photos=photos, output=tmp_path / "stopped", folds=1, minutes=1000)
    save = Checkpoint.save

    def stop_after_an_epoch(self: Checkpoint, name: str, arrays: Arrays) -> None:
        save(self, name, arrays)
        if name.startswith("tuned"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop_after_an_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_and_write(request, track=untracked)
    stopped = train_and_write(request, track=untracked)
    assert stopped.search is not None
    np.testing.assert_array_equal(stopped.search.tried[0].history, whole.search.tried[0].history)
    assert stopped.files == whole.files


@pytest.mark.usefixtures("short")
def test_without_time_left_the_head_alone_is_kept(trained: Trained, tmp_path: Path) -> None:
    request = TrainingRequest(photos=trained.request.photos, output=tmp_path / "shapes", folds=1, minutes=1e-6)
    untuned = train_and_write(request, track=untracked)
    assert untuned.search is not None
    assert untuned.search.tried == ()
    assert "No time was left for fine-tuning" in str(untuned.too_short)
    assert untuned.files == trained.training.files


def test_augmentation_keeps_the_shape_and_depends_only_on_the_generator() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)
    one, same = (augmented(pixels, np.random.default_rng(1), mirror=True) for _ in range(2))
    assert one.shape == pixels.shape
    assert (one == same).all()
    assert (one != pixels).any()
