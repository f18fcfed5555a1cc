"""Inbox folder: finds the images that wait in a folder, and writes the answer to each next to it."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import math
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.errors import SourceError
from agent.host.access import Account, explain
from agent.host.durable import flush_folder, write_and_rename
from agent.host.plain_file import DISK_ERRORS, read_plain_file
from agent.image import has_image_name
from agent.sources.source import INBOX, MOVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger(__name__)

REST_S = 1.0
_ANSWER = ".json"
_MAX_BYTES = 1 << 26
_LONGEST_NAME = 220  # bytes: a file system allows 255, and the answer and the moved image get longer names
_MOST_TRIES = 5


class Stamp(NamedTuple):
    """A file with another stamp has changed."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """An image whose stamp has been the same since time.monotonic() was `since_s`."""

    name: str
    stamp: Stamp
    since_s: float
    is_answered: bool  # only what the camera does after the answer is left


@dataclass(frozen=True, slots=True)
class Taken:
    """An image that rested; `trouble` says why it has no `content`."""

    name: str
    stamp: Stamp
    content: bytes
    trouble: str | None = None


class InboxFolder:
    """All methods block; call one at a time. Those that read or write raise SourceError with what to do.

    An image is done if `<image>.json` exists and is not older. The answer gets the image's time of modification, so
    neither a clock that jumps nor a new image at the moment of writing makes a wrong order. With `delete` or `move_to`,
    the image is then deleted or moved; the answer stays.
    """

    def __init__(self, path: Path, *, delete: bool, move_to: Path | None, rest_s: float = REST_S) -> None:
        self.path = path
        self._delete = delete
        self._move_to = move_to
        self._rest_s = rest_s
        self._waiting: list[Waiting] = []  # the oldest first
        self._tries: dict[str, int] = {}
        self._ignored: set[str] = set()

    @classmethod
    def of(cls, source: str, *, after: str, rest_s: float = REST_S) -> InboxFolder:
        """As the configuration writes them: inbox:FOLDER, and keep, delete or move:FOLDER."""
        move_to = Path(after.removeprefix(MOVE)) if after.startswith(MOVE) else None
        return cls(Path(source.removeprefix(INBOX)), delete=after == "delete", move_to=move_to, rest_s=rest_s)

    def check(self) -> None:
        """Raises SourceError if a folder is missing or cannot be written."""
        for folder, key in ((self.path, "source"), (self._move_to, "after")):
            if folder is not None and (why := _why_unusable(folder, key)):
                raise SourceError(why)
        if self._move_to is not None and self._move_to.samefile(self.path):
            raise SourceError(f"{self._move_to} is the inbox. Give the camera another folder in `after`.")

    def look(self) -> None:
        """Lists the folder: images that are done are left out, and the others keep the time since which they rest."""
        self.check()
        known = {waiting.name: waiting for waiting in self._waiting}
        now_s = time.monotonic()
        try:
            listed = [*self._listed()]
        except OSError as error:
            raise SourceError(f"{self.path} cannot be listed: {explain(error, self.path)}") from None
        fresh = (Waiting(name, stamp, now_s, is_answered) for name, stamp, is_answered in listed)
        waiting = (known[new.name] if _is_same(new, known.get(new.name)) else new for new in fresh)
        self._waiting = sorted(waiting, key=lambda each: (each.stamp.modified_ns, each.name))
        self._tries = {each.name: self._tries[each.name] for each in self._waiting if each.name in self._tries}

    def take(self) -> Taken | None:
        """The oldest image that rested; None if there is none."""
        now_s = time.monotonic()
        while (due := self._pop(now_s)) is not None:
            if self._stamp(due.name) != due.stamp:
                self._see_again(due.name)
            elif due.is_answered:
                self._finish(due.name, due.stamp)
            elif (taken := self._read(due)) is not None:
                return taken
        return None

    def put_back(self, taken: Taken) -> None:
        """It is the next one to be taken again."""
        self._waiting.insert(0, Waiting(taken.name, taken.stamp, -math.inf, is_answered=False))

    def may_try_again(self, taken: Taken) -> bool:
        """False after a few tries of this image."""
        self._tries[taken.name] = self._tries.get(taken.name, 0) + 1
        return self._tries[taken.name] < _MOST_TRIES

    def next_rested_s(self) -> float:
        """Seconds until take() may have an image; infinite if none waits."""
        since_s = min((each.since_s for each in self._waiting), default=math.inf)
        return max(0.0, since_s + self._rest_s - time.monotonic())

    def answer(self, taken: Taken, document: Mapping[str, Any]) -> None:
        """Writes the answer, whole or not at all. Not if the image is gone or was replaced since it was taken."""
        if self._stamp(taken.name) != taken.stamp:
            self._see_again(taken.name)
            return
        path = self.path / f"{taken.name}{_ANSWER}"
        aside = self.path / f".{taken.name}{_ANSWER}.new"
        content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
        try:
            aside.unlink(missing_ok=True)  # a power cut may have left it
            write_and_rename(aside, path, content, modified_ns=taken.stamp.modified_ns)
        except OSError as error:
            raise self._unwritable(path, error) from None
        self._tries.pop(taken.name, None)
        self._finish(taken.name, taken.stamp)

    def _listed(self) -> Iterator[tuple[str, Stamp, bool]]:
        """Each image that has work left: its name, its stamp and whether it is answered."""
        images: dict[str, Stamp] = {}
        answers: dict[str, float] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if has_image_name(name) and (stamp := _stamp_of(entry)) is not None:
                    images[name] = stamp
                elif name.endswith(_ANSWER) and has_image_name(name.removesuffix(_ANSWER)):
                    answers[name.removesuffix(_ANSWER)] = _modified_ns(entry)
        for name, stamp in images.items():
            if len(os.fsencode(name)) > _LONGEST_NAME:
                self._ignore(name)
                continue
            answered_ns = answers.get(name, -math.inf)
            # Only with exactly its time it is certainly the answer to this image, which then may be deleted.
            is_answered = answered_ns == stamp.modified_ns
            if answered_ns < stamp.modified_ns or (is_answered and (self._delete or self._move_to)):
                yield name, stamp, is_answered

    def _ignore(self, name: str) -> None:
        if name not in self._ignored:
            self._ignored.add(name)
            text = f"{self.path / name} is ignored: its name has more than {_LONGEST_NAME} bytes. Rename it."
            _log.warning("%s", text.encode(errors="replace").decode())

    def _pop(self, now_s: float) -> Waiting | None:
        for index, waiting in enumerate(self._waiting):
            if now_s - waiting.since_s >= self._rest_s:
                return self._waiting.pop(index)
        return None

    def _see_again(self, name: str) -> None:
        """Waits for it to rest, if it still exists."""
        if (stamp := self._stamp(name)) is not None:
            self._waiting.append(Waiting(name, stamp, time.monotonic(), is_answered=False))

    def _stamp(self, name: str) -> Stamp | None:
        """None if it is gone or not a regular file."""
        try:
            status = (self.path / name).lstat()
        except OSError:
            return None
        return _stamp_from(status)

    def _read(self, due: Waiting) -> Taken | None:
        """None if it changes meanwhile."""
        path, content, trouble = self.path / due.name, b"", None
        try:
            content = read_plain_file(path, max_bytes=_MAX_BYTES)
        except OSError as error:
            if error.errno in DISK_ERRORS and self.may_try_again(Taken(due.name, due.stamp, b"")):
                raise SourceError(f"{path} cannot be read: {error.strerror}. Check its disk.") from None
            trouble = (
                f"{path} cannot be read: {explain(error, path)} Then delete {path.name}{_ANSWER}, and it is classified."
            )
            if error.errno == errno.EFBIG:
                trouble = f"The file has more than {_MAX_BYTES >> 20} MB. Put a smaller image."
        if self._stamp(due.name) != due.stamp:
            self._see_again(due.name)
            return None
        return Taken(due.name, due.stamp, content, trouble)

    def _finish(self, name: str, stamp: Stamp) -> None:
        """Deletes or moves an answered image, unless it was replaced since."""
        path = self.path / name
        if self._stamp(name) != stamp:
            self._see_again(name)
            return
        try:
            if self._delete:
                path.unlink(missing_ok=True)
            elif self._move_to is not None:
                _move(path, self._move_to, stamp)
        except OSError as error:
            raise self._unwritable(path if self._delete else self._move_to or path, error) from None

    def _unwritable(self, path: Path, error: OSError) -> SourceError:
        try:
            self.check()
        except SourceError as trouble:
            return trouble
        remedy = " Free some space." if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return SourceError(f"{path} cannot be changed: {explain(error, path.parent, write=True)}{remedy}")


def _is_same(new: Waiting, old: Waiting | None) -> bool:
    return old is not None and (old.stamp, old.is_answered) == (new.stamp, new.is_answered)


def _stamp_of(entry: os.DirEntry[str]) -> Stamp | None:
    """None for links, FIFOs and folders, and if it is gone."""
    with suppress(FileNotFoundError):
        return _stamp_from(entry.stat(follow_symlinks=False))
    return None


def _stamp_from(status: os.stat_result) -> Stamp | None:
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _modified_ns(entry: os.DirEntry[str]) -> float:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return -math.inf
    return math.inf if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns  # a folder cannot be replaced by an answer


def _why_unusable(folder: Path, key: str) -> str | None:
    if not os.path.exists(folder):  # noqa: PTH110  (Path raises for a closed folder)
        return f"{folder} does not exist. Create it, or correct the camera's {key}."
    if not os.path.isdir(folder):  # noqa: PTH112  (Path raises for a closed folder)
        return f"{folder} is not a folder. Correct the camera's {key}."
    denied = Account.current().why_denied(folder, write=True)
    if denied is None:
        return None
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return (
            f"{folder} is read-only, and the agent must write there. Mount it writable; if systemd runs the agent, add "
            f"ReadWritePaths=-{folder} with `systemctl edit edge-agent`, and restart it."
        )
    return f"{denied.fact} {denied.remedy}"


def _move(path: Path, folder: Path, stamp: Stamp) -> None:
    """Never overwrites: if the name is taken, the image's time becomes a part of it. Raises OSError."""
    for target in _targets(path.name, folder, stamp):
        if _is_copy(path, target, stamp):  # of a move that was cut off
            path.unlink()
            return
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        try:
            _replace(path, target)
        except BaseException:
            with suppress(OSError):
                target.unlink()
            raise
        return


def _targets(name: str, folder: Path, stamp: Stamp) -> Iterator[Path]:
    yield folder / name
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  (only the name)
    moment = datetime.fromtimestamp(0, tz=timezone.utc)
    with suppress(OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(stamp.modified_ns // 1_000_000 / 1000, tz=timezone.utc)
    dated = f"{stem}-{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}"
    yield folder / f"{dated}{suffix}"
    for number in itertools.count(1):
        yield folder / f"{dated}-{number}{suffix}"


def _is_copy(path: Path, target: Path, stamp: Stamp) -> bool:
    try:
        status = target.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (stamp.size, stamp.modified_ns):
        return False
    return read_plain_file(path, max_bytes=stamp.size) == read_plain_file(target, max_bytes=stamp.size)


def _replace(path: Path, target: Path) -> None:
    """Puts `path` in the place of the empty file `target`, also on another file system."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=".edge-agent-")
        try:
            with os.fdopen(descriptor, "wb") as copy, path.open("rb") as original:
                shutil.copyfileobj(original, copy)
                copy.flush()  # before the time of modification is set
                shutil.copystat(path, aside, follow_symlinks=False)
                os.fsync(copy.fileno())
            Path(aside).replace(target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        flush_folder(target.parent)
        path.unlink()
