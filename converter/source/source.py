"""Source: a trained model as a SavedModel folder, a .keras file or an .h5 file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtimes.saved_model import open_saved_model
from converter.errors import TrainedModelError
from converter.source.keras import open_keras

if TYPE_CHECKING:
    from pathlib import Path

    from agent.runtimes.saved_model import TrainedModel


def open_source(path: Path) -> TrainedModel:
    """Raises TrainedModelError or ModelError if `path` is none of the three, is incomplete, or cannot be read."""
    if path.is_dir():
        return open_saved_model(path)
    if path.is_file() and path.suffix in (".keras", ".h5", ".hdf5"):
        return open_keras(path)
    if not path.exists():
        raise TrainedModelError(f"{path} does not exist.")
    raise TrainedModelError(f"{path} is not a trained model. Give a SavedModel folder, a .keras file or an .h5 file.")
