"""Folder: which model versions lie in the drop folder now, and a wake-up when that may have changed."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from agent.host.plain_file import read_plain_file
from agent.model_file.settings import is_unicode, sidecar_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from watchdog.observers.api import BaseObserver

# Inode, size and ctime: cp -p and rsync -t keep an old mtime, no tool can keep an old ctime.
Fingerprint: TypeAlias = tuple[tuple[int, int, int], ...]

log = logging.getLogger(__name__)

_UNFINISHED = ("~", ".part", ".tmp", ".filepart")
_PROOFS = (".sha256", ".minisig")
_NOTE = ".rejected.txt"
_MAX_NOTE_BYTES = 1 << 16
_MAX_DIGITS = 18  # of a version, which must fit into 64 bits


@dataclass(frozen=True, slots=True)
class Drop:
    """One model file as it lies in the folder; `version` is the integer of TensorFlow Serving's layout.

    `has_proof`: something stands beside it that will show that it is whole.
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
        """Unix time of the newest change to the file or to what stands beside it."""
        return max(ctime_ns for _, _, ctime_ns in self.fingerprint) / 1e9

    def has_changed(self) -> bool:
        """Whether the file, or what stands beside it, is another one by now; looks at the disk."""
        return _fingerprint(self.path) != self.fingerprint

    def proof(self, suffix: Literal[".sha256", ".minisig"]) -> Path | None:
        """The checksum or the signature beside it, None where there is none or where it is no plain file."""
        path = self.path.with_name(self.path.name + suffix)
        return path if _stamp(path) else None


class ModelFolder:
    """`<name>.tflite` and `<name>/<integer>/model.tflite`, each with its sidecars, checksum and signature."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ill_named: set[str] = set()
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
        self._warn_of_ill_named({name for name in drops if not is_unicode(name)})
        return {name: versions for name, versions in drops.items() if name not in self._ill_named}

    def write_notes(self, reasons: Mapping[Path, str]) -> None:
        """Puts `<file>.rejected.txt` beside each of the model files, and takes all others away. Blocks.

        A folder that may not be written gets none, which is logged once: the reasons are told elsewhere too.
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

    def _warn_of_ill_named(self, names: set[str]) -> None:
        """Neither JSON nor MQTT can carry such a name; as long as it stays, it is told once."""
        for name in sorted(names - self._ill_named):
            log.warning("The model %a is ignored: its name is not valid UTF-8. Rename it.", name)
        self._ill_named = names


class FolderWatch:
    """Sets an event when something below `path` changes. Events are hints: re-listing decides.

    On file systems that send no events (NFS, SMB, some bind mounts), or when the folder is replaced, the time-out
    of wait() takes their place.
    """

    def __init__(
        self, path: Path, changed: asyncio.Event, *, make_observer: Callable[[], BaseObserver] = Observer
    ) -> None:
        """Starts watching; needs the running loop. Other code may set `changed` too, which ends wait()."""
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._changed = changed
        self._make_observer = make_observer
        self._closed = False
        self._observer: BaseObserver | None = None
        self._watched: int | None = None
        self._without_events: int | None = None
        self._watch_current_folder()

    async def wait(self, timeout_s: float) -> None:
        """Ends with the first change since the call before, or after `timeout_s`."""
        if await asyncio.to_thread(self._watch_current_folder):
            return  # what came before the watch did, it cannot tell
        with anyio.move_on_after(timeout_s):  # before Python 3.12, asyncio.wait_for() may swallow a cancellation
            await self._changed.wait()
            self._changed.clear()

    def close(self) -> None:
        """A cancelled wait() may have left its thread at work: what that one starts now, it ends itself."""
        self._closed = True
        self._end_observer()

    def _end_observer(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _watch_current_folder(self) -> bool:
        """Tells whether a new watch has begun: a folder that was deleted and made again needs one."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            self._watched = self._without_events = None  # whatever comes in its place may get the same inode
            return False
        if inode == self._without_events or (inode == self._watched and self._is_alive()):
            return False
        self._end_observer()
        observer = self._observer = self._started_observer()
        self._watched, self._without_events = inode, inode if observer is None else None
        if self._closed:
            self._end_observer()
        return observer is not None

    def _started_observer(self) -> BaseObserver | None:
        """None where no inotify watches are left: the timed rescan remains."""
        observer = None
        try:
            observer = self._make_observer()
            observer.daemon = True
            observer.schedule(_Waker(self._loop, self._changed), str(self._path), recursive=True)
            observer.start()
        except OSError as error:
            if observer is not None:
                observer.stop()  # it holds descriptors and a thread though it never started
            log.warning("%s is only looked at every few seconds: it sends no events (%s).", self._path, error.strerror)
            return None
        return observer

    def _is_alive(self) -> bool:
        """The watch ends with the folder, and the next folder may get the same inode."""
        observer = self._observer
        return observer is not None and all(emitter.is_alive() for emitter in observer.emitters)


class _Waker(FileSystemEventHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
        self._loop = loop
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return  # our own reading
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)


def _notes(folder: Path) -> set[Path]:
    """Those that are there, of both layouts; behind no link, which would lead out of the folder."""
    try:
        notes = {entry.path for entry in _visible(folder) if entry.name.endswith(f".tflite{_NOTE}")}
    except OSError:
        return set()
    versions = (version.path for model in _folders(folder) for version in _folders(Path(model.path)))
    return {*map(Path, notes), *(note for path in versions if _stamp(note := Path(path, f"model.tflite{_NOTE}")))}


def _set_note(path: Path, text: str | None) -> str | None:
    """Gives the sentence for what hinders it. Never through a link: whoever may drop models may have put one there."""
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
        return f"Why files are rejected cannot be written into {path.parent}: {error.strerror}."
    return None


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not entry.name.endswith(_UNFINISHED):
                yield entry


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    """Inside of it. None where it goes while it is looked at, or is not ours to read (lost+found)."""
    try:
        return [entry for entry in _visible(folder) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _append(drops: dict[str, list[Drop]], path: Path, *, name: str, version: int | None) -> None:
    """A file that goes while it is looked at was never there."""
    if fingerprint := _fingerprint(path):
        has_proof = any(_stamp(path.with_name(path.name + proof)) for proof in _PROOFS)
        drops.setdefault(name, []).append(Drop(name, path, version, fingerprint, has_proof))


def _fingerprint(path: Path) -> Fingerprint | None:
    own = _stamp(path)
    beside = (*sidecar_paths(path), *(path.with_name(path.name + proof) for proof in _PROOFS))
    return own and (own, *(stamp for other in beside if (stamp := _stamp(other))))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
