"""Splits: recognizes a folder that holds the splits of a data set (train, test, ...) instead of its classes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from converter.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_SPLIT = re.compile(
    r"(train|training|test|testing|val|valid|validation|dev|eval|evaluation)([ _-]?(set|data|images))?", re.IGNORECASE
)


def check_not_splits(root: Path, subfolders: Collection[str], images: Collection[Path]) -> None:
    """Raises ImagesError, which names the splits, if `root` holds at least two of them, or only one with folders in it.

    One such name among others can be a class: trains, or valid and invalid parts.
    """
    splits = sorted(name for name in subfolders if _SPLIT.fullmatch(name))
    nested = any(len(path.relative_to(root).parts) > 2 for path in images)
    if len(splits) > 1 or (splits and len(subfolders) == 1 and nested):
        folders = ", ".join(str(root / name) for name in splits)
        raise ImagesError(
            f"{root} is divided into {', '.join(splits)}, which are splits of a data set and not classes. Give the "
            f"folder of one split: {folders}."
        )
