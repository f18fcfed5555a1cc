"""Unwritten: recognizes a file whose space was reserved before its content is copied, as torrent and SMB clients do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from agent.host.plain_file import open_plain_file

if TYPE_CHECKING:
    from pathlib import Path

_LEAST = 512  # bytes of zeros with which a finished model neither begins nor ends
_PAGE = 4096
_SENTENCE = (
    "A part of the file is only zeros: a program probably reserved its space first and is still copying. The agent "
    "retries when the file changes."
)


def why_unwritten(path: Path, root: Path, *, is_damaged: bool) -> str | None:
    """A sentence if the file seems not to be filled yet: it has its full size, but a part of it is zeros.

    Only a file that `is_damaged` is searched as a whole, because the weights of an intact one may be zeros. Blocks.
    """
    try:
        with open_plain_file(path, root=root) as file:
            is_unwritten = _is_zero_at_an_end(file) or (is_damaged and _has_zero_page(file))
    except OSError:
        return None
    return _SENTENCE if is_unwritten else None


def _is_zero_at_an_end(file: BinaryIO) -> bool:
    size = os.fstat(file.fileno()).st_size
    least = min(_LEAST, size)
    head = file.read(least)
    file.seek(size - least)
    return size > 0 and not (any(head) and any(file.read(least)))


def _has_zero_page(file: BinaryIO) -> bool:
    file.seek(0)
    zeros = bytes(_PAGE)
    return any(page == zeros for page in iter(lambda: file.read(_PAGE), b""))
