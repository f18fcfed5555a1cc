"""Completeness: whether a version in the watched folder has all the files that its model needs."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from agent.errors import IncompleteModelError
from agent.model_file import completeness

if TYPE_CHECKING:
    from converter.watching.versions import Version


def check_complete(version: Version) -> None:
    """Raises ModelError with what is missing, or OSError. Blocks."""
    model = version.model
    if model == version.path:
        completeness.check_complete(model)
    elif model.suffix == ".keras" and not zipfile.is_zipfile(model):
        raise IncompleteModelError(f"{model.name} is damaged or incomplete. Copy it again.")
