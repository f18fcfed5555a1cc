"""Stamps: the photos of Tux Paint, which Debian packages. Some show little detail."""

from __future__ import annotations

import shutil
from pathlib import Path

from needs import need

STAMPS = Path("/usr/share/tuxpaint/stamps")
FOLDERS = {
    "birds": "animals/birds",
    "flowers": "plants/flowers",
    "fruit": "food/fruit",
    "mammals": "animals/mammals",
    "vegetables": "food/vegetables",
}


def copy_stamps(root: Path) -> Path:
    """169 photos in five classes."""
    need(STAMPS.is_dir(), "its photos are not installed: apt install tuxpaint-stamps-default")
    for name, folder in FOLDERS.items():
        copy_photos(folder, root / name)
    return root


def copy_photos(folder: str, to: Path) -> None:
    """Without the drawings in cartoon/."""
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted((STAMPS / folder).rglob("*")):
        inside = path.relative_to(STAMPS / folder)
        if path.suffix in {".png", ".jpg"} and "cartoon" not in inside.parts:
            shutil.copy(path, to / "-".join(inside.parts))
