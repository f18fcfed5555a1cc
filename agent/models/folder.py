"""Folder: lists the model versions in the drop folder, and writes notes about rejected ones there."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from agent.host.plain_file import read_plain_file
from agent.model_file.settings import sidecar_paths
from agent.models.folder_watch import FolderWatch
from agent.text import is_unicode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping

# Inode, size and ctime: cp -p and rsync -t keep an old mtime, but no tool can keep an old ctime.
Fingerprint: TypeAlias = tuple[tuple[int, int, int], ...]

log = logging.getLogger(__name__)

_UNFINISHED = ("~", ".part", ".tmp", ".filepart")
_PROOFS = (".sha256", ".minisig")
_NOTE = ".rejected.txt"
_MAX_NOTE_BYTES = 1 << 16
_MAX_DIGITS = 18  # of a version, which must fit into 64 bits


@dataclass(frozen=True, slots=True)
class Drop:
    """One state of a model file in the folder; `version` is the number of its folder in TensorFlow Serving's layout.

    `has_proof`: a checksum or a signature next to it can prove that it is complete.
    """

    name: str
    path: Path
    version: int | None
    fingerprint: Fingerprint
    has_proof: bool = False

    @property
    def file(self) -> str:
        """The path inside the folder."""
        return "/".join(self.path.parts[-1 if self.version is None else -3 :])

    @property
    def changed_at_s(self) -> float:
        """Unix time of the newest change to the file, its sidecars, its checksum or its signature."""
        return max(ctime_ns for _, _, ctime_ns in self.fingerprint) / 1e9

    def has_changed(self) -> bool:
        """Whether the file, or one of the files that belong to it, has changed since; reads the disk."""
        return _fingerprint(self.path) != self.fingerprint

    def proof(self, suffix: Literal[".sha256", ".minisig"]) -> Path | None:
        """The checksum or the signature next to it; None if it is missing or not a regular file."""
        path = self.path.with_name(self.path.name + suffix)
        return path if _stamp(path) else None


class ModelFolder:
    """`<name>.tflite` and `<name>/<integer>/model.tflite`, each with its sidecars, checksum and signature."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._invalid_names: set[str] = set()
        self._note_trouble: str | None = None

    def list(self) -> dict[str, list[Drop]]:
        """Every model's drops, the highest version first. May block on a slow disk; raises OSError."""
        drops: dict[str, list[Drop]] = {}
        for entry in _visible(self.path):
            if entry.is_file(follow_symlinks=False) and entry.name.endswith(".tflite"):
                _append(drops, Path(entry.path), name=entry.name.removesuffix(".tflite"), version=None)
            elif entry.is_dir(follow_symlinks=False):
                for version in _folders(Path(entry.path)):
                    if version.name.isascii() and version.name.isdigit() and len(version.name) <= _MAX_DIGITS:
                        path = Path(version.path, "model.tflite")
                        _append(drops, path, name=entry.name, version=int(version.name))
        for versions in drops.values():
            versions.sort(key=lambda drop: -1 if drop.version is None else drop.version, reverse=True)
        self._warn_of_invalid_names({name for name in drops if not is_unicode(name)})
        return {name: versions for name, versions in drops.items() if name not in self._invalid_names}

    def write_notes(self, reasons: Mapping[Path, str]) -> None:
        """Writes `<file>.rejected.txt` next to each of these model files and removes all other notes. Blocks.

        If a folder is not writable, that is logged once; the reasons are also reported elsewhere.
        """
        wanted = {path.with_name(path.name + _NOTE): f"{reason}\n" for path, reason in reasons.items()}
        trouble = None
        for path in _notes(self.path) | wanted.keys():
            trouble = _set_note(path, wanted.get(path)) or trouble
        if trouble and trouble != self._note_trouble:
            log.warning("%s", trouble)
        self._note_trouble = trouble

    def watch(self, changed: asyncio.Event) -> FolderWatch:
        """Sets `changed` from now on whenever something in the folder changes, until it is closed."""
        return FolderWatch(self.path, changed)

    def _warn_of_invalid_names(self, names: set[str]) -> None:
        """Neither JSON nor MQTT can carry such a name. Each is logged once for as long as it exists."""
        for name in sorted(names - self._invalid_names):
            log.warning("The model %a is ignored: its name is not valid UTF-8. Rename it.", name)
        self._invalid_names = names


def _notes(folder: Path) -> set[Path]:
    """The notes that exist, in both layouts. Links are not followed, because they may lead out of the folder."""
    try:
        notes = {entry.path for entry in _visible(folder) if entry.name.endswith(f".tflite{_NOTE}")}
    except OSError:
        return set()
    versions = (version.path for model in _folders(folder) for version in _folders(Path(model.path)))
    return {*map(Path, notes), *(note for path in versions if _stamp(note := Path(path, f"model.tflite{_NOTE}")))}


def _set_note(path: Path, text: str | None) -> str | None:
    """Returns a sentence if it fails. Never writes through a link, because a user who drops models may create one."""
    content = None if text is None else text.encode(errors="replace")
    with suppress(OSError):
        if content is not None and read_plain_file(path, max_bytes=_MAX_NOTE_BYTES) == content:
            return None
    try:
        path.unlink(missing_ok=True)
        if content is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o664)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except FileNotFoundError:
        return None  # its folder is gone, and the file with it
    except OSError as error:
        return f"The reasons for rejections cannot be written to {path.parent}: {error.strerror}."
    return None


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(_UNFINISHED):
                yield entry


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    """The folders inside; empty if it disappears meanwhile or is not readable (lost+found)."""
    try:
        return [entry for entry in _visible(folder) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _append(drops: dict[str, list[Drop]], path: Path, *, name: str, version: int | None) -> None:
    """Ignores a file that disappears meanwhile."""
    if fingerprint := _fingerprint(path):
        has_proof = any(_stamp(path.with_name(path.name + proof)) for proof in _PROOFS)
        drops.setdefault(name, []).append(Drop(name, path, version, fingerprint, has_proof))


def _fingerprint(path: Path) -> Fingerprint | None:
    own = _stamp(path)
    others = (*sidecar_paths(path), *(path.with_name(path.name + proof) for proof in _PROOFS))
    return own and (own, *(stamp for other in others if (stamp := _stamp(other))))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
