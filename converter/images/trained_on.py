"""Trained on: the photos that `edge-convert train` has used, which a SavedModel lists in its assets.extra.

A model recognizes them better than others, so nothing may be fitted to its scores for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from agent.host.digest import sha256_of
from agent.model_file.completeness import GRAPH
from agent.model_file.saved_model import EXTRA

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from converter.images.image_folder import FoundImage

    Flags: TypeAlias = npt.NDArray[np.bool_]

NAME = f"{EXTRA}/trained_on.txt"
_DIGITS = 16  # of the SHA-256 of each file


def list_of(sha256s: Iterable[str]) -> bytes:
    """The content of the file."""
    return "".join(f"{sha256[:_DIGITS]}\n" for sha256 in sorted(set(sha256s))).encode()


def trained_on(model: Path, images: Sequence[FoundImage]) -> Flags | None:
    """Whether the model has seen each image; None if `model` is not a SavedModel with a list. Raises OSError."""
    path = (model.parent if model.name == GRAPH else model) / NAME
    if not path.is_file():
        return None
    listed = frozenset(path.read_text(errors="replace").split())
    return np.array([_digits(image) in listed for image in images], np.bool_)


def _digits(image: FoundImage) -> str:
    """Of an image that has disappeared meanwhile, none."""
    try:
        with image.open() as file:
            return sha256_of(file)[:_DIGITS]
    except OSError:
        return ""
