"""Version: the number of a model's version, by which its folder is named in TensorFlow Serving's layout."""

from __future__ import annotations

MAX_DIGITS = 18  # so that the number fits into 64 bits


def is_version(name: str) -> bool:
    """Whether a folder with this name holds a version."""
    return name.isascii() and name.isdigit() and len(name) <= MAX_DIGITS
