"""History: the versions of each model, which one serves, and what happened to them, across restarts."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from agent.errors import StoreError
from agent.models.policy import why_blamed
from agent.models.store import write_durably
from agent.models.versions import ModelHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Content:
    models: dict[str, ModelHistory] = field(default_factory=dict)
    loading: dict[str, int] = field(default_factory=dict)
    boot: str = ""
    folder_device: int | None = None
    format: Literal[1] = 1


_CONTENT = TypeAdapter(_Content)


class History:
    """One JSON file, written at every change that the next start must know. Only the loop's thread uses it.

    `loading` has the version of each model that is being loaded: if that crashes the process, the next start knows.
    `folder_device` is the device (st_dev) on which the drop folder was when it last had a model.
    """

    def __init__(self, path: Path, *, write: Callable[[Path, bytes], None] = write_durably) -> None:
        """Reads `path`. An unreadable file is set aside, because the drop folder still has the models.

        `write` replaces the file, or raises StoreError; it may block.
        """
        self._path = path
        self._write = write
        self._boot = _boot_id()
        # Saves must not overlap: the newest document must be written last.
        self._writing = asyncio.Lock()
        self._saved: bytes | None = None
        self.trouble: str | None = None  # why the file on the disk is out of date
        self._content = _Content()
        try:
            self._content = _CONTENT.validate_json(path.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            self._set_aside(f"it cannot be read: {error.strerror}")
        except ValidationError as error:
            self._set_aside(error.errors()[0]["msg"])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._content.models))

    def __getitem__(self, name: str) -> ModelHistory:
        return self._content.models.get(name, ModelHistory())

    def __setitem__(self, name: str, model: ModelHistory) -> None:
        self._content.models[name] = model

    @property
    def copies(self) -> set[str]:
        """The SHA-256 of every copy that may be loaded again."""
        return {each.sha256 for model in self._content.models.values() for each in model.versions if each.is_kept}

    @property
    def has_good(self) -> bool:
        """Whether any version may serve."""
        return any(model.good for model in self._content.models.values())

    def note_folder(self, device: int | None, *, has_models: bool) -> bool:
        """Whether the drop folder lost its disk: it has no models, and is on another device than its last ones.

        A device may get another number at a reboot, which does not matter as long as the folder has models.
        """
        if has_models:
            self._content.folder_device = device
        return not has_models and self._content.folder_device not in (None, device) and self.has_good

    async def save(self) -> None:
        """Returns once it is on the disk; writes nothing if nothing has changed.

        If it cannot be written, `trouble` says so: inference continues, and the next call tries again.
        """
        async with self._writing:
            document = self._document()
            try:
                if document != self._saved:
                    await asyncio.to_thread(self._write, self._path, document)
            except StoreError as error:
                if self.trouble is None:
                    log.warning("%s", error)
                self.trouble = str(error)
            else:
                self._saved, self.trouble = document, None

    async def begin_loading(self, name: str, number: int) -> None:
        """Saved before the load begins, so that a crash has a suspect."""
        version = self[name].find(number)
        if version is not None:
            self[name] = self[name].changed(number, starts=version.starts + 1)
        self._content.loading[name] = number
        await self.save()

    def end_loading(self, name: str) -> None:
        """Takes effect at the next save(); until then a crash still counts against this version."""
        self._content.loading.pop(name, None)

    def blame_last_run(self) -> list[tuple[str, int, str]]:
        """At startup: the versions that ended the last run, as name, number and the reason to withdraw it.

        Only a version that was being loaded or was on probation can be the cause; a proven version that has loaded
        is not blamed for other crashes. A new boot id means a power cut, which counts as one of three failed starts.
        The newest suspect of a model is blamed first; the last good version only after three failed starts.
        """
        same_boot, self._content.boot = self._content.boot == self._boot, self._boot
        loading, self._content.loading = self._content.loading, {}
        blamed: list[tuple[str, int, str]] = []
        for name in self:
            others = len(self[name].good) - 1
            for version in reversed(self[name].versions):
                suspect = loading.get(name) == version.number if loading else not version.proven
                if version.starts and not version.withdrawn and suspect:
                    if reason := why_blamed(name, version, crashed=same_boot, has_others=others > 0):
                        blamed.append((name, version.number, reason))
                        others -= 1
                elif version.starts:
                    self.survived(name, version.number)
        return blamed

    def survived(self, name: str, number: int, **changes: Any) -> None:
        self[name] = self[name].changed(number, **{"starts": 0, **changes})

    def end_well(self) -> None:
        """Records a clean stop, for which no version is to blame."""
        self._content.loading.clear()
        for name in self:
            for version in self[name].versions:
                if version.starts:
                    self.survived(name, version.number)

    def _document(self) -> bytes:
        return _CONTENT.dump_json(self._content, by_alias=True, indent=1)

    def _set_aside(self, fault: str) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns() // 10**9}")
        try:
            self._path.replace(aside)
            kept = f"was kept as {aside.name}"
        except OSError as trouble:
            kept = f"cannot be renamed: {trouble.strerror}"
        log.error("%s is unreadable (%s) and %s. Version numbers restart at 1.", self._path, fault, kept)


def _boot_id() -> str:
    """Changes with each boot; empty if the system has none (only Linux has one)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
