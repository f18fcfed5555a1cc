"""Ultralytics: the settings of an image classifier that Ultralytics exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model_file.labels import labels_of
from agent.model_file.literal import parse_literal
from agent.model_file.settings import ModelSettings

if TYPE_CHECKING:
    from agent.model_file.packed_files import PackedFiles

_METADATA = "metadata.json"


def ultralytics_settings(packed: PackedFiles) -> ModelSettings:
    """Without values if another program made the file. Raises IncompleteModelError.

    Ultralytics packs a description of the model: JSON, or in older versions a printed Python dict as a text file. Its
    classifiers are trained on the center of each image, with pixels from 0 to 1 and without a mean.
    """
    for name in (*packed.small_files(_METADATA), *packed.small_files(".txt")):
        description = parse_literal(packed.read(name).decode(errors="replace"))
        if isinstance(description, dict) and description.get("task") == "classify" and "names" in description:
            return ModelSettings(labels=labels_of(description), mean=(0.0,), std=(255.0,), resize="crop")
    return ModelSettings()
