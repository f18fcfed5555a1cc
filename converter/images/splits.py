"""Splits: recognizes a folder that holds the splits of a data set (train, test, ...) instead of its classes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from converter.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

Part = Literal["train", "validation", "test"]

_SPLIT = re.compile(
    r"(?:(?P<train>train|training)|(?P<test>test|testing)|(?P<validation>val|valid|validation|dev|eval|evaluation))"
    r"([ _-]?(set|data|images))?",
    re.IGNORECASE,
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


def given_splits(root: Path) -> dict[Part, Path]:
    """The folders of `root` for training and checking; empty if it does not have both.

    Raises ImagesError if two folders are for the same, or if other folders are next to them; OSError.
    """
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    parts: dict[Part, Path] = {}
    for name in names:
        part = _part(name)
        if part is not None and part in parts:
            raise ImagesError(f"{root} has two folders for the same: {parts[part].name} and {name}. Join them.")
        if part is not None:
            parts[part] = root / name
    if "train" not in parts or len(parts) < 2:
        return {}
    others = [name for name in names if _part(name) is None]
    if others:
        raise ImagesError(
            f"{root} has {', '.join(path.name for path in parts.values())}, which are splits of a data set, and "
            f"{others[0]} next to them. Move it into the splits, or out of {root}."
        )
    return parts


def _part(name: str) -> Part | None:
    found = _SPLIT.fullmatch(name)
    groups: tuple[Part, ...] = ("train", "validation", "test")
    return next((part for part in groups if found is not None and found[part]), None)
