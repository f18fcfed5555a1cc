"""Versions: the versions of a model in the watched folder, in TensorFlow Serving's layout."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from agent.model_file.version import is_version

# Path, inode, size and ctime of each file. Tools can keep an old mtime, but not an old ctime.
Stamps: TypeAlias = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Version:
    """One state of the folder `<source>/<name>/<number>`."""

    name: str
    number: int
    path: Path
    stamps: Stamps

    def __str__(self) -> str:
        return f"{self.name} {self.number}"

    @property
    def changed_at_s(self) -> float:
        """Unix time of the newest change of a file; 0 if there is none yet."""
        return max((ctime_ns for *_, ctime_ns in self.stamps), default=0) / 1e9

    @property
    def model(self) -> Path:
        """What to convert: the folder, or the only Keras file in it."""
        names = [name for name, *_ in self.stamps]
        files = [name for name in names if name.endswith((".keras", ".h5")) and "/" not in name]
        return self.path / files[0] if len(files) == 1 and "saved_model.pb" not in names else self.path


def list_versions(source: Path, name: str) -> list[Version]:
    """Those of one model, the highest first. Other files and folders are ignored. Raises OSError."""
    try:
        names = [path.name for path in (source / name).iterdir()]
    except FileNotFoundError:
        if not source.is_dir():
            raise
        return []
    numbers = {int(each): each for each in sorted(names, reverse=True) if is_version(each)}
    paths = [(number, source / name / numbers[number]) for number in sorted(numbers, reverse=True)]
    return [Version(name, number, path, stamps_of(path)) for number, path in paths if path.is_dir()]


def stamps_of(folder: Path) -> Stamps:
    """Of all its files, sorted; files that disappear meanwhile are left out. Raises OSError."""
    stamps = []
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            stamps.append((str(path.relative_to(folder)), status.st_ino, status.st_size, status.st_ctime_ns))
    return tuple(sorted(stamps))
