"""A conversion that fails after the training leaves the SavedModel and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conversions import QUIET

from converter.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from edge_convert import EdgeConvert
    from trainings import Trained

pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(text) for text in QUIET)]


def test_report_of_the_training_is_written_although_the_conversion_fails(
    trained: Trained, tmp_path: Path, edge_convert: EdgeConvert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ConversionError("The operator is not supported.")

    monkeypatch.setattr("converter.training.training.train_and_write", lambda *_, **__: trained.training)
    monkeypatch.setattr("converter.training.conversion.convert_trained", fails)
    page = tmp_path / "shapes.html"
    outcome = edge_convert(
        "train", trained.request.photos, tmp_path / "shapes", "--to", tmp_path / "shapes.tflite", "--report", page
    )
    assert outcome.code == 1
    assert "The operator is not supported." in outcome.err
    assert "Training of shapes" in page.read_text()
