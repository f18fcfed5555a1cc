"""Reference: the small gray picture of a camera on the disk, with which its health is judged after a restart."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from agent.cameras.scene import HEIGHT, WIDTH
from agent.host.durable import replace_file
from agent.host.plain_file import read_plain_file

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from agent.image import Pixels

log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 17
_DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError)


class ReferenceFile:
    """`made_by` says what made the picture: one of another source or with other masks is not used. Blocks."""

    def __init__(self, path: Path, *, made_by: str) -> None:
        self.path = path
        self._made_by = hashlib.sha256(made_by.encode()).hexdigest()

    def load(self) -> Pixels | None:
        """None if there is none, or a damaged one: the camera gets a new one."""
        try:
            document = self._document()
            return _pixels(document["png"]) if document["made_by"] == self._made_by else None
        except FileNotFoundError:
            return None
        except (*_DAMAGE, cv2.error) as error:
            log.warning("%s is unreadable (%s). The camera gets a new reference picture.", self.path, error)
            return None

    def save(self, pixels: Pixels) -> str | None:
        """A sentence if it cannot be written."""
        _, png = cv2.imencode(".png", pixels)
        document = {"made_by": self._made_by, "png": base64.b64encode(png.tobytes()).decode()}
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(document).encode())
        except OSError as error:
            return (
                f"The reference picture cannot be saved in {self.path.parent} ({error.strerror}), so a restart takes "
                "another one. Free some space or give the agent's user write access; the agent retries automatically."
            )
        return None

    def forget(self) -> None:
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # the new picture replaces it
            log.warning("%s cannot be removed (%s).", self.path, error.strerror)

    def forget_outdated(self) -> None:
        """Removes a picture that something else made: it may show what a mask hides now."""
        with suppress(*_DAMAGE):
            if self._document()["made_by"] != self._made_by:
                self.forget()

    def _document(self) -> Any:
        return json.loads(read_plain_file(self.path, max_bytes=_MAX_BYTES))


def forget_others(folder: Path, files: Collection[ReferenceFile]) -> None:
    """Removes what is outdated and what belongs to none of the `files`, such as the picture of a removed camera."""
    for file in files:
        file.forget_outdated()
    names = {file.path.name for file in files}
    with suppress(OSError):
        for path in folder.glob("*.json"):
            if path.name not in names:
                path.unlink(missing_ok=True)


def _pixels(png: str) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None or pixels.shape != (HEIGHT, WIDTH):
        raise ValueError("it does not contain the picture")
    return np.asarray(pixels, np.uint8)
