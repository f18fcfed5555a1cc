"""Library: finds a shared library without loading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDERS = ("/usr/local/lib", "/usr/lib", "/usr/lib64", "/lib")


def find_library(name: str, environment: Mapping[str, str] = os.environ, *, root: Path = Path("/")) -> Path | None:
    """In LD_LIBRARY_PATH and the usual folders, also those of an architecture such as /usr/lib/aarch64-linux-gnu.

    Not by ctypes.util.find_library(), which starts other programs.
    """
    for folder in filter(None, environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        if (path := Path(folder, name)).exists():
            return path
    for folder in _FOLDERS:
        inside = root / folder.lstrip("/")
        for pattern in (name, f"*-linux-*/{name}"):
            if found := next(inside.glob(pattern), None):
                return found
    return None
