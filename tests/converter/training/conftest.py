"""Photos of shapes, and one training of them per session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conversions import untracked
from trainings import Trained, write_shapes

from converter.training.training import TrainingRequest, train_and_write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos each of disk/, grid/ and stripes/; read-only."""
    return write_shapes(tmp_path_factory.mktemp("photos") / "shapes")


@pytest.fixture(scope="session")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training of `shapes` with two folds; its output is read-only."""
    pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")
    request = TrainingRequest(photos=shapes, output=tmp_path_factory.mktemp("trained") / "shapes", folds=2)
    return Trained(request, train_and_write(request, track=untracked))
