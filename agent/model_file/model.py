"""Model: reads a stored model, which is a .tflite file or a SavedModel folder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from agent.model_file.metadata import ModelFile, read_model_file
from agent.model_file.saved_model import SavedModelFolder, read_saved_model

Model: TypeAlias = ModelFile | SavedModelFolder


def read_model(stored: bytes | Path) -> Model:
    """From the content of a file, or the path of a folder. Raises ModelError, IncompleteModelError; OSError."""
    return read_saved_model(stored) if isinstance(stored, Path) else read_model_file(stored)
