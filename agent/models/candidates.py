"""Candidates: the files in the drop folder that may become versions, and what is known about each."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from agent.errors import IncompleteModelError, ModelError, NoRoomError, StoreError
from agent.host.clock import FileAges
from agent.models.loader import unexpected
from agent.models.unwritten import why_unwritten
from agent.models.versions import Version
from agent.status import Rejection
from agent.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.listeners import Listener
    from agent.models.admission import Admission, Candidate
    from agent.models.folder import Drop, Fingerprint, LooseLabels
    from agent.models.history import History
    from agent.models.policy import Times
    from agent.models.store import Store
    from agent.models.trial import TrialReport

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ROOM_S = 60.0
_MAX_REASON = 1000  # characters
_AT_ONCE_S = 0.1  # until a burst of writes is over, if a checksum or a signature can prove that the file is complete


@dataclass(frozen=True, slots=True)
class Later:
    """A file cannot be judged yet: look again after `wait_s`. `store_trouble` is why it could not be copied."""

    wait_s: float
    store_trouble: str | None = None


Found: TypeAlias = Version | Rejection | Later


@dataclass(slots=True)
class File:
    """What is known about one state of a file in the folder; a file that has changed gets a new entry.

    `seen_s` and `retry_s` are monotonic; a rejected file is tried again at `retry_s`. `incomplete` is why the file
    seems to be truncated. A labels.txt next to it is a part of the verdict, but not of a version that serves.
    """

    seen_s: float
    loose_labels: LooseLabels | None = None
    incomplete: str | None = None
    rejection: Rejection | None = None
    retry_s: float = math.inf

    def forget_verdict(self) -> None:
        self.incomplete, self.rejection, self.retry_s = None, None, math.inf


@dataclass(slots=True)
class Files:
    """The files of one model. Only the loop's thread uses it.

    `candidate` is the path of the current candidate inside the folder; `trying` says that it is being examined.
    `rejected` has the rejections by path inside the folder, `present` the fingerprints of all files there.
    """

    name: str
    candidate: str | None = None
    trying: bool = False
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    present: frozenset[Fingerprint] = frozenset()
    known: dict[Fingerprint, File] = field(default_factory=dict)
    gone_since_s: float | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # for a pass over the folder or for a pin

    @property
    def rejection(self) -> Rejection | None:
        """The newest one."""
        return max(self.rejected.values(), key=lambda each: each.at_ns, default=None)

    def keep_only(self, drops: Sequence[Drop], now_s: float) -> None:
        """Forgets files that have changed or are gone, and rejections that are due for another try."""
        self.present = frozenset(drop.fingerprint for drop in drops)
        self.known = {fingerprint: file for fingerprint, file in self.known.items() if fingerprint in self.present}
        for drop in drops:
            file = self.known.get(drop.fingerprint)
            if file is not None and file.loose_labels != drop.loose_labels:
                self.known[drop.fingerprint] = File(now_s, drop.loose_labels)
        for file in self.known.values():
            if now_s >= file.retry_s:
                file.forget_verdict()


class Candidates:
    """Waits until files stop changing, copies and tries them, and adds those that pass to the history."""

    def __init__(
        self, *, admission: Admission, history: History, store: Store, listener: Listener, times: Times
    ) -> None:
        self.files: dict[str, Files] = {}
        self._admission = admission
        self._history = history
        self._store = store
        self._listener = listener
        self._times = times
        self._ages = FileAges()
        self._trust: tuple[object, ...] = ()
        # A sweep of the store would remove the copy of a candidate that is not in the history yet.
        self._store_turn = asyncio.Lock()

    def of(self, name: str) -> Files:
        return self.files.setdefault(name, Files(name))

    async def check_keys(self) -> None:
        """If a trusted key was added or removed, every rejected file will be tried again."""
        trust = await asyncio.to_thread(self._admission.trust)
        if trust != self._trust:
            self._trust = trust
            for files in self.files.values():
                for file in files.known.values():
                    file.forget_verdict()

    def known(self, files: Files, drop: Drop) -> Version | Rejection | None:
        """The version or the rejection of the file; None if it must be examined."""
        file = files.known.get(drop.fingerprint)
        if file is not None and file.rejection is not None:
            return file.rejection
        version = self._history[files.name].of_drop(drop.fingerprint)
        return None if version is None else _good_or_withdrawn(version, drop)

    def rest_s(self, files: Files, drop: Drop) -> float:
        """Seconds for which the file must not change before it may be examined; 0.0 if it may be examined now."""
        now_s = self._times.clock()
        file = files.known.setdefault(drop.fingerprint, File(now_s, drop.loose_labels))
        unchanged_s = max(now_s - file.seen_s, min(self._ages.age_s(drop.changed_at_s), 3600))
        rest_s = min(_AT_ONCE_S, self._times.rest_s) if drop.has_proof else self._times.rest_s
        return max(0.0, (rest_s if file.incomplete is None else self._times.patience_s) - unchanged_s)

    def is_cut_off(self, files: Files, drop: Drop) -> bool:
        """Whether the file was examined and seemed to be truncated."""
        return files.known[drop.fingerprint].incomplete is not None

    async def examine(self, files: Files, drop: Drop, *, serving_bytes: int) -> Found:
        """Copies and tries a file that no longer changes; `serving_bytes` is as in Admission.try_out()."""
        found: Found
        async with self._store_turn:
            if self.is_cut_off(files, drop):
                found = await self._rejected_as_incomplete(files, drop)
            else:
                found = await self._examined(files, drop, serving_bytes)
            if isinstance(found, Rejection):
                await self._swept()  # otherwise the copies of many bad files would fill the disk
            return found

    async def sweep(self) -> None:
        """Removes the copies that will not be loaded again."""
        async with self._store_turn:
            await self._swept()

    async def _swept(self) -> None:
        """Does nothing while the history on the disk is out of date, because it still names older copies."""
        if self._history.trouble is None:
            await asyncio.to_thread(self._store.keep_only, self._history.copies)

    async def _examined(self, files: Files, drop: Drop, serving_bytes: int) -> Found:
        candidate, file, history = None, files.known[drop.fingerprint], self._history[drop.name]
        try:
            candidate = await _in_thread(lambda: self._admission.take(drop, history))
            if candidate is None:
                return Later(self._times.rest_s)
            return _good_or_withdrawn(await self._tried(candidate, serving_bytes), drop)
        except StoreError as error:
            return Later(self._times.rescan_s, store_trouble=str(error))
        except IncompleteModelError as error:
            if candidate is None or not candidate.proven_whole:
                file.incomplete = str(error)
                if wait_s := self.rest_s(files, drop):
                    return Later(wait_s)
            return await self._rejected(file, drop, str(error), is_damaged=True)
        except ModelError as error:
            if isinstance(error, NoRoomError):
                file.retry_s = self._times.clock() + _NO_ROOM_S
            return await self._rejected(file, drop, str(error))

    async def _rejected_as_incomplete(self, files: Files, drop: Drop) -> Rejection | Later:
        """Rejects a truncated file that has not changed for `patience_s`, unless it changes at the last moment."""
        file = files.known[drop.fingerprint]
        if file.incomplete is None or await asyncio.to_thread(drop.has_changed):
            return Later(_AT_ONCE_S)
        return await self._rejected(file, drop, file.incomplete, is_damaged=True)

    async def _tried(self, candidate: Candidate, serving_bytes: int) -> Version:
        """The existing version that equals the candidate, or the new one that it becomes by passing its trial."""
        drop = candidate.drop
        history = self._history[drop.name]
        if any(version.is_same(candidate.sha256, candidate.with_labels_txt.sidecar) for version in history.versions):
            candidate = candidate.with_labels_txt
        known = history.recognized(candidate.sha256, candidate.sidecar, drop.version)
        if known is not None:
            key_id = candidate.signed.key_id if candidate.signed else known.key_id
            again = dataclasses.replace(
                known, fingerprint=drop.fingerprint, file=drop.file, key_id=key_id, is_kept=True
            )
            self._history[drop.name] = history.with_version(again).signed_as(candidate.signed)
            return again
        tried = candidate
        passed, report = await _in_thread(lambda: self._admission.try_out(tried, serving_bytes=serving_bytes))
        self._listener.model_tried(drop.name, "admitted")
        return self._admitted(passed, report)

    def _admitted(self, candidate: Candidate, report: TrialReport) -> Version:
        drop = candidate.drop
        history = self._history[drop.name]
        version = Version(
            number=drop.version if drop.version is not None else history.given + 1,
            sha256=candidate.sha256,
            sidecar=candidate.sidecar,
            file=drop.file,
            fingerprint=drop.fingerprint,
            admitted_ns=time.time_ns(),
            bytes_each=report.bytes_each,
            is_shared=report.is_shared,
            cpu_ms=report.cpu_ms,
            key_id=candidate.signed.key_id if candidate.signed else None,
            scores=report.scores,
        )
        self._history[drop.name] = history.with_version(version).signed_as(candidate.signed)
        log.info(
            "Model file %s is admitted as version %d: %.2f ms per image, %.1f MB per %s in its trial.",
            drop.file,
            version.number,
            report.invoke_ms,
            report.bytes_each / 1e6,
            "model" if report.is_shared else "worker",
            extra={"model": drop.name},
        )
        for note in report.notes:
            log.warning("Model file %s: %s", drop.file, note, extra={"model": drop.name})
        return version

    async def _rejected(self, file: File, drop: Drop, reason: str, *, is_damaged: bool = False) -> Rejection:
        """The reason may quote untrusted text, so it is shortened and its control characters are removed."""
        unwritten = await asyncio.to_thread(why_unwritten, drop.path, drop.root, is_damaged=is_damaged)
        reason = printable(" ".join([reason[:_MAX_REASON], *([unwritten] if unwritten else [])]))
        self._listener.model_tried(drop.name, "rejected")
        file.rejection = Rejection(drop.file, reason, time.time_ns())
        log.warning("Model file %s is rejected: %s", drop.file, reason, extra={"model": drop.name})
        return file.rejection


def _good_or_withdrawn(version: Version, drop: Drop) -> Version | Rejection:
    return version if version.withdrawn is None else Rejection(drop.file, version.withdrawn, version.withdrawn_ns)


async def _in_thread(work: Callable[[], T]) -> T:
    """Turns an unexpected error into a rejection; otherwise one dropped file would end the service at every start."""
    try:
        return await asyncio.to_thread(work)
    except (ModelError, StoreError):
        raise
    except Exception as error:
        log.exception("A model file cannot be admitted because of an unexpected error.")
        raise ModelError(unexpected(error)) from error
