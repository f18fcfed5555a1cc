"""Material: folders with collected frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.classification import Spot
from agent.collection.folder import CollectionFolder

if TYPE_CHECKING:
    from pathlib import Path

FRONT = Spot("front")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(second: int) -> str:
    """The id of a frame of that Unix time."""
    number, text = second * 1000, ""
    for _ in range(10):
        number, digit = divmod(number, 32)
        text = _CROCKFORD[digit] + text
    return text + "0" * 16


def add(folder: CollectionFolder, spot: Spot, second: int, *, label: str = "robin", max_bytes: int = 1 << 20) -> None:
    folder.add(spot, b"j" * 100, {"id": ulid(second), "best": {"label": label}}, max_bytes=max_bytes)


def folder_with(state_folder: Path, *frames: tuple[Spot, int]) -> CollectionFolder:
    folder = CollectionFolder(state_folder / "collection", reserve_bytes=0)
    for spot, second in frames:
        add(folder, spot, second)
    return folder
