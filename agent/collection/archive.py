"""Archive: collected frames as a ZIP file with one folder per label, made while it is sent."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.collection.folder import Collected

NO_LABEL = "unlabeled"

_UNSAFE_IN_NAME = re.compile(r"[^\w .,()&+'-]")
_MAX_NAME = 100  # characters
# The times that a ZIP file can have
_EARLIEST_S = datetime(1980, 1, 1, tzinfo=timezone.utc).timestamp()
_LATEST_S = datetime(2107, 12, 31, tzinfo=timezone.utc).timestamp()


def archive(frames: Iterable[Collected]) -> Iterator[bytes]:
    """The parts of the file; holds one picture at a time. Blocks. Frames that vanish meanwhile are left out."""
    parts = _Parts()
    with zipfile.ZipFile(parts, "w", zipfile.ZIP_STORED) as file:  # type: ignore[call-overload]  # writing needs no more
        for frame in frames:
            document = frame.document()
            try:
                jpeg = frame.jpeg.read_bytes()
            except OSError:
                continue
            name = f"{folder_name(_label(document))}/{frame.id}"
            captured_s = min(max(frame.captured_s, _EARLIEST_S), _LATEST_S)  # the clock of a board may be wrong
            at = datetime.fromtimestamp(captured_s, timezone.utc).timetuple()[:6]
            file.writestr(zipfile.ZipInfo(f"{name}.jpg", at), jpeg)
            file.writestr(zipfile.ZipInfo(f"{name}.json", at), json.dumps(document, indent=2))
            yield parts.taken()
    yield parts.taken()


def folder_name(label: str) -> str:
    """`label` as the name of a folder on every system; a changed name gets a checksum, so that no two are the same."""
    safe = _UNSAFE_IN_NAME.sub("_", label)[:_MAX_NAME].strip(" .")
    if safe == label and safe:
        return safe
    return f"{safe}_{hashlib.sha256(label.encode(errors='surrogatepass')).hexdigest()[:8]}".lstrip("_")


def _label(document: dict[str, Any]) -> str:
    best = document.get("best")
    label = best.get("label") if isinstance(best, dict) else None
    return label if isinstance(label, str) else NO_LABEL


class _Parts:
    """A file that can only be written to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken
