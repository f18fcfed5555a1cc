"""Images: the image files of a folder, in the order of their names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.errors import ImageError, SourceError
from agent.image import Image, decode, has_image_name
from agent.sources.recording import Shot, why_unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)


class ImageFolder:
    """Every JPEG, PNG, WebP and BMP file of a folder by name, as fast as they are read, without hidden files.

    The folder is listed again on each pass. An image that does not decode is logged once and skipped.
    """

    has_own_pace = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path
        self._skipped: set[Path] = set()

    def open(self) -> Iterator[Shot]:
        given = False
        for path in self._listing():
            image = self._read_image(path)
            if image is not None:
                given = True
                yield Shot(image, 0.0)
        if not given:
            raise SourceError(f"{self.path} has no readable images. Put JPEG, PNG, WebP or BMP files there.")

    def _listing(self) -> list[Path]:
        try:
            return sorted(path for path in self.path.iterdir() if has_image_name(path.name))
        except OSError:
            raise SourceError(why_unreadable(self.path, "folder")) from None

    def _read_image(self, path: Path) -> Image | None:
        try:
            return decode(path.read_bytes())
        except (ImageError, OSError) as error:
            if path not in self._skipped:
                self._skipped.add(path)
                _log.warning("Skipped %s: %s", path, error)
            return None
