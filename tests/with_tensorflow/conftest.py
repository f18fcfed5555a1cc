from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.saved_models import COLORS, write_saved_model

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tensorflow", reason="TensorFlow is only in .venv-converter")


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It tells the colors apart, and has labels and settings in assets.extra; read-only."""
    return write_saved_model(tmp_path_factory.mktemp("saved") / "colors")


@pytest.fixture(scope="session")
def red(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A PNG whose pixels vary around red."""
    return picture("red")


def picture(color: str) -> bytes:
    pixels = np.random.default_rng(0).normal(COLORS[color], 20, (40, 48, 3)).clip(0, 255).astype(np.uint8)
    written, content = cv2.imencode(".png", pixels[:, :, ::-1])
    assert written
    return content.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The drop folder."""
    path = tmp_path / "models"
    path.mkdir()
    return path
