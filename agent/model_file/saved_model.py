"""SavedModel: what the folder of a trained model says about itself, read without TensorFlow.

The folder is as TensorFlow writes it. `assets.extra`, which TensorFlow leaves to others, may have `labels.txt`, and
`edge_agent.json` with the keys `settings` (as in a sidecar) and `provenance`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ModelError
from agent.model_file.completeness import check_complete, incomplete
from agent.model_file.labels import parse_labels
from agent.model_file.metadata import ADDITIONS
from agent.model_file.settings import LABELS_TXT, ModelSettings, check_settings
from agent.text import printable_json

if TYPE_CHECKING:
    from pathlib import Path

EXTRA = "assets.extra"
_MAX_TEXT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SavedModelFolder:
    """A SavedModel with all its files; `settings` and `provenance` come from its assets.extra."""

    path: Path
    settings: ModelSettings
    provenance: dict[str, Any] | None = None


def read_saved_model(path: Path) -> SavedModelFolder:
    """Raises ModelError if it is not a SavedModel, IncompleteModelError if a file is missing or truncated; OSError."""
    check_complete(path)
    additions = _additions(path)
    provenance = additions.get("provenance")
    return SavedModelFolder(
        path,
        _labels(path).overridden_by(check_settings(additions.get("settings", {}), where=f"{EXTRA}/{ADDITIONS}")),
        printable_json(provenance) if isinstance(provenance, dict) else None,
    )


def _labels(path: Path) -> ModelSettings:
    """Those of `assets.extra/labels.txt`, or of the `labels.txt` that Teachable Machine writes."""
    for name in (f"{EXTRA}/{LABELS_TXT}", LABELS_TXT):
        if (content := _text(path, name)) is not None:
            return ModelSettings(labels=parse_labels(content, where=name))
    return ModelSettings()


def _additions(path: Path) -> dict[str, Any]:
    name = f"{EXTRA}/{ADDITIONS}"
    content = _text(path, name)
    if content is None:
        return {}
    try:
        additions = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise incomplete(f"{name} is not JSON ({error})") from None
    if not isinstance(additions, dict):
        raise ModelError(f"{name} is not a JSON object. Write it again.")
    return additions


def _text(path: Path, name: str) -> bytes | None:
    if not (path / name).is_file():
        return None
    with (path / name).open("rb") as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
    if len(content) > _MAX_TEXT_BYTES:
        raise ModelError(f"{name} is larger than {_MAX_TEXT_BYTES >> 20} MB.")
    return content
