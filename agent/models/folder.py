"""Folder: lists the model versions in the drop folder, and writes notes about rejected ones there."""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from agent.host.folder_watch import FolderWatch
from agent.host.plain_file import read_plain_file, status_below
from agent.model_file.settings import LABELS_TXT, sidecar_paths
from agent.model_file.version import is_version
from agent.models.listing import entries, list_models, model_name
from agent.models.tree import Stamp, stamp_of, tree_of
from agent.text import is_unicode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping

    from agent.models.listing import FoundModel

Fingerprint: TypeAlias = tuple[Stamp, ...]

log = logging.getLogger(__name__)

_PROOFS = (".sha256", ".minisig")
_NOTE = ".rejected.txt"
_MAX_NOTE_BYTES = 1 << 16
_DISKS = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class LooseLabels:
    """A labels.txt near a model; `belongs` if it certainly belongs to that version and not to another one."""

    path: Path
    stamp: Stamp
    belongs: bool


@dataclass(frozen=True, slots=True)
class Drop:
    """One state of a model in the folder; `version` is the number of its folder in TensorFlow Serving's layout.

    `path` is below `root`, the drop folder, and may be a link; that of a SavedModel is the folder of its version.
    `has_proof`: a checksum or a signature next to it can prove that it is complete.
    """

    name: str
    path: Path
    root: Path
    version: int | None
    fingerprint: Fingerprint
    has_proof: bool = False
    loose_labels: LooseLabels | None = None
    is_saved_model: bool = False

    @property
    def file(self) -> str:
        """The path inside the folder."""
        return str(self.path.relative_to(self.root))

    @property
    def changed_at_s(self) -> float:
        """Unix time of the newest change to the file or to a file that belongs to it."""
        stamps = self.fingerprint if self.loose_labels is None else (*self.fingerprint, self.loose_labels.stamp)
        return max(ctime_ns for _, _, ctime_ns in stamps) / 1e9

    def has_changed(self) -> bool:
        """Whether the file, or one of the files that belong to it, has changed since; reads the disk.

        Also true if the disk fails: what was read of the file before may be wrong.
        """
        loose = self.loose_labels
        try:
            if loose is not None and _stamp(loose.path, self.root) != loose.stamp:
                return True
            return _fingerprint(self.path, self.root) != self.fingerprint
        except OSError:
            return True

    def proof(self, suffix: Literal[".sha256", ".minisig"]) -> Path | None:
        """The checksum or the signature next to it; None if it is missing or not a regular file. Raises OSError."""
        path = self.path.with_name(self.path.name + suffix)
        return path if _stamp(path, self.root) else None


class ModelFolder:
    """`<name>.tflite` and `<name>/<integer>/model.tflite`, each with its sidecars, checksum and signature.

    Or the folder `<name>/<integer>` of a SavedModel, with the same files beside the folder, such as `<integer>.yaml`.
    `.lite` and upper case are accepted too. `overlooked` says which files are ignored although they look like models,
    `device` on which device (st_dev) the folder was when it was listed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.device: int | None = None
        self.overlooked: tuple[str, ...] = ()
        self._note_trouble: str | None = None

    def list(self) -> dict[str, list[Drop]]:
        """Every model's drops, the highest version first. May block on a slow disk; raises OSError."""
        device = self.path.stat().st_dev
        listing = list_models(self.path)
        drops: dict[str, list[Drop]] = {}
        for found in listing.found:
            if is_unicode(found.name):  # neither JSON nor MQTT can carry another one
                drop = _drop(found, self.path, is_alone=len(listing.found) == 1)
                drops.setdefault(found.name, []).extend([drop] if drop else [])
        for versions in drops.values():
            versions.sort(key=lambda drop: -1 if drop.version is None else drop.version, reverse=True)
        if self.path.stat().st_dev != device:
            raise OSError(errno.EAGAIN, "its disk was mounted or unmounted at the same moment", str(self.path))
        if not drops and not _is_plugged_in(device):
            raise OSError(errno.ENODEV, "its disk was pulled out", str(self.path))
        self.device = device
        self._report(listing.overlooked)
        return {name: versions for name, versions in drops.items() if versions}

    def write_notes(self, reasons: Mapping[Path, str]) -> None:
        """Writes `<file>.rejected.txt` next to each of these model files and removes all other notes. Blocks.

        Files in a folder that is a link get none.

        If a folder is not writable, that is logged once; the reasons are also reported elsewhere.
        """
        wanted = {
            path.with_name(path.name + _NOTE): f"{reason}\n"
            for path, reason in reasons.items()
            if not self._is_behind_link(path)
        }
        trouble = None
        for path in _notes(self.path) | wanted.keys():
            trouble = _set_note(path, wanted.get(path)) or trouble
        if trouble and trouble != self._note_trouble:
            log.warning("%s", trouble)
        self._note_trouble = trouble

    def watch(self, changed: asyncio.Event) -> FolderWatch:
        """Sets `changed` from now on whenever something in the folder changes, until it is closed."""
        return FolderWatch(self.path, changed)

    def _is_behind_link(self, path: Path) -> bool:
        return any(each.is_symlink() for each in takewhile(lambda each: each != self.path, path.parents))

    def _report(self, overlooked: tuple[str, ...]) -> None:
        """Each is logged once for as long as it exists."""
        for sentence in overlooked:
            if sentence not in self.overlooked:
                log.warning("%s", sentence)
        self.overlooked = overlooked


def _is_plugged_in(device: int) -> bool:
    """False if Linux no longer has this disk: some file systems, such as FAT, then list it as empty."""
    major = os.major(device)
    if major == 0 or not _DISKS.is_dir():  # not a disk, but for example NFS
        return True
    return (_DISKS / f"{major}:{os.minor(device)}").exists()


def _notes(folder: Path) -> set[Path]:
    """The notes that exist, in both layouts. Links are not followed, because they may lead out of the folder."""
    try:
        return {path for path in _notes_at_any_depth(folder) if path.name.endswith(_NOTE)}
    except OSError:
        return set()


def _notes_at_any_depth(folder: Path) -> Iterator[Path]:
    """And other files."""
    folders, names = _sorted_out(folder)
    for model in folders:
        versions, beside = _sorted_out(model)
        yield from (path for path in beside if is_version(path.name.removesuffix(_NOTE)))
        for version in versions:
            names += _sorted_out(version)[1]
    yield from (path for path in names if model_name(path.name.removesuffix(_NOTE)))


def _sorted_out(folder: Path) -> tuple[list[Path], list[Path]]:
    """Its folders, and what else it contains."""
    folders: list[Path] = []
    others: list[Path] = []
    for entry in entries(folder):
        (folders if entry.is_dir(follow_symlinks=False) else others).append(Path(entry.path))
    return folders, others


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


def _drop(found: FoundModel, root: Path, *, is_alone: bool) -> Drop | None:
    """None if the file disappears meanwhile."""
    path, fingerprint = found.path, _fingerprint(found.path, root)
    if fingerprint is None:
        return None
    has_proof = any(_stamp(path.with_name(path.name + proof), root) for proof in _PROOFS)
    loose = _loose_labels(found, root, is_alone=is_alone)
    return Drop(found.name, path, root, found.version, fingerprint, has_proof, loose, found.is_saved_model)


def _loose_labels(found: FoundModel, root: Path, *, is_alone: bool) -> LooseLabels | None:
    """The labels.txt next to the file or, for a version without one, next to the folder of the version.

    That in the folder of a SavedModel is a part of it.
    """
    beside, above = found.path.with_name(LABELS_TXT), found.path.parent.with_name(LABELS_TXT)
    if found.is_saved_model:
        stamp = _stamp(beside, root)
        return LooseLabels(beside, stamp, belongs=False) if stamp else None
    if stamp := None if found.path.with_suffix(".txt") == beside else _stamp(beside, root):
        return LooseLabels(beside, stamp, belongs=is_alone or found.version is not None)
    if found.version is not None and (stamp := _stamp(above, root)):
        return LooseLabels(above, stamp, belongs=False)
    return None


def _fingerprint(path: Path, root: Path) -> Fingerprint | None:
    own = _own_stamp(path, root)
    others = (*sidecar_paths(path), *(path.with_name(path.name + proof) for proof in _PROOFS))
    return own and (own, *(stamp for other in others if (stamp := _stamp(other, root))))


def _own_stamp(path: Path, root: Path) -> Stamp | None:
    status = status_below(path, root)
    if status is not None and stat.S_ISDIR(status.st_mode):
        return tree_of(path, root).stamp
    return stamp_of(status) if status is not None and stat.S_ISREG(status.st_mode) else None


def _stamp(path: Path, root: Path) -> Stamp | None:
    status = status_below(path, root)
    return None if status is None or not stat.S_ISREG(status.st_mode) else stamp_of(status)
