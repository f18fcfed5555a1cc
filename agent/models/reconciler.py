"""Reconciler: checks the drop folder again and again, so that the best good version of each model serves."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.errors import VersionError
from agent.host.access import explain
from agent.models.candidates import Later
from agent.models.versions import Version
from agent.status import Rejection

if TYPE_CHECKING:
    from agent.models.candidates import Candidates, Files, Found
    from agent.models.folder import Drop, ModelFolder
    from agent.models.history import History
    from agent.models.policy import Times
    from agent.models.serving import Serving
    from agent.models.statuses import Statuses

log = logging.getLogger(__name__)

_SLOW_S = 10.0


class Reconciler:
    """Current problems are in `folder_trouble` and `store_trouble`. On the loop's thread."""

    def __init__(
        self,
        *,
        folder: ModelFolder,
        candidates: Candidates,
        history: History,
        serving: Serving,
        statuses: Statuses,
        keep_versions: int,
        times: Times,
    ) -> None:
        self.folder_trouble: str | None = None
        self.store_trouble: str | None = None
        self._folder = folder
        self._candidates = candidates
        self._history = history
        self._serving = serving
        self._statuses = statuses
        self._keep_versions = keep_versions
        self._times = times

    async def look(self) -> float:
        """One pass over the folder; returns the seconds after which the next one is due."""
        listed_s = self._times.clock()
        drops = await self._listed()
        if drops is None:
            return min(1.0, self._times.rescan_s)
        await self._candidates.check_keys()
        self._expect(drops)
        waits = [Later(self._times.rescan_s)]
        for _, files in sorted(self._candidates.files.items()):
            async with files.turn:
                waits += await self._follow(files, drops.get(files.name, []), listed_s)
        self._report_store(next((wait.store_trouble for wait in reversed(waits) if wait.store_trouble), None))
        await self._tidy()
        return min(wait.wait_s for wait in waits)

    async def admit(self, name: str, number: int) -> None:
        """Examines a version that no pass has examined because a higher one serves. Raises VersionError."""
        files = self._candidates.of(name)
        async with files.turn:
            drops = await self._listed()
            if drops is None:
                raise VersionError(self.folder_trouble or "")
            for drop in drops.get(name, []):
                if drop.version == number:
                    found = await self._judged(files, drop)
                    self._set_candidate(files, None)
                    if isinstance(found, Later):
                        raise VersionError(f"Version {number} is still being copied. Try again in a second.")
                    if isinstance(found, Rejection):
                        raise VersionError(f"Version {number} cannot serve: {found.reason}")

    async def _listed(self) -> dict[str, list[Drop]] | None:
        """None while the folder cannot be listed or its disk is missing; `folder_trouble` then says why."""
        where = f"The models folder {self._folder.path}"
        slow = f"{where} does not respond. Serving continues; check its disk or its file server."
        late = asyncio.get_running_loop().call_later(_SLOW_S, self._report_folder, slow)
        try:
            drops = await asyncio.to_thread(self._folder.list)
        except OSError as error:
            why = explain(error, self._folder.path)
            self._report_folder(f"{where} cannot be listed: {why} Serving continues; restore the folder.")
            return None
        finally:
            late.cancel()
        if self._history.note_folder(self._folder.device, has_models=bool(drops)):
            self._report_folder(
                f"{where} has no models and is on another disk than before: its disk is probably not mounted. Serving "
                "continues with the agent's own copies. Mount the disk, or drop a model here to replace all former "
                "ones."
            )
            return None
        self._report_folder(None)
        return drops

    def _expect(self, drops: dict[str, list[Drop]]) -> None:
        """Announces every new file before the first one is tried, because a trial may take a minute."""
        served = self._serving.served.stable
        for name in sorted(drops.keys() | served.keys()):
            files = self._candidates.of(name)
            if name in drops and name not in served and self._candidates.known(files, drops[name][0]) is None:
                files.candidate = drops[name][0].file
                self._statuses.announce(name)

    async def _follow(self, files: Files, drops: list[Drop], listed_s: float) -> list[Later]:
        """Serves the best good version among `drops`; returns the waits for those that cannot be judged yet.

        `listed_s` is when the folder was listed; since then, the trials of other models may have taken minutes.
        """
        files.keep_only(drops, self._times.clock())
        if not drops:
            return await self._retire(files, listed_s)
        files.gone_since_s = None
        rejected: dict[str, Rejection] = {}
        waits: dict[str, Later] = {}
        for drop in drops:
            found = await self._judged(files, drop)
            if isinstance(found, Later):
                waits[drop.file] = found
            elif isinstance(found, Rejection):
                rejected[drop.file] = found
            version = found if isinstance(found, Version) else self._admitted_as(drop)
            if version is None:
                continue
            await self._serving.reconcile(files.name, best=version.number)
            unloadable = self._serving.why_unloadable(files.name, version)
            if unloadable is None:
                break
            rejected[drop.file] = unloadable
        else:
            await self._serving.reconcile(files.name)
        files.rejected = rejected
        self._set_candidate(files, next(iter(waits), None))
        return list(waits.values())

    async def _judged(self, files: Files, drop: Drop) -> Found:
        """The version of the file, or why it has none; examines the file if that is not known."""
        known = self._candidates.known(files, drop)
        if known is not None:
            return known
        files.candidate = drop.file
        self._statuses.announce(files.name)
        rest_s = self._candidates.rest_s(files, drop)
        if rest_s > 0:
            return Later(rest_s)
        if not self._candidates.is_cut_off(files, drop):
            files.trying = True
            self._statuses.announce(files.name)
        return await self._candidates.examine(files, drop, serving_bytes=self._serving.bytes_to_free(files.name))

    def _admitted_as(self, drop: Drop) -> Version | None:
        """The good version of a version folder whose file has changed: its copy in the store keeps serving."""
        version = self._history[drop.name].find(drop.version)
        return version if version is not None and version.withdrawn is None else None

    async def _retire(self, files: Files, listed_s: float) -> list[Later]:
        """Retires a model only some time after its file is gone, so that rm followed by cp causes no gap."""
        name = files.name
        if name not in self._serving.served.stable:
            await self._forget(name)
            return []
        if files.gone_since_s is None:
            files.gone_since_s = listed_s
        files.rejected = {}
        self._set_candidate(files, None)
        left_s = files.gone_since_s + self._times.retire_after_s - listed_s
        if left_s > 0:
            return [Later(left_s)]
        await self._forget(name)
        log.info("Model %s is retired: its file is gone.", name, extra={"model": name})
        return []

    async def _forget(self, name: str) -> None:
        """Forgets all about the name, except for its version numbers and withdrawn versions."""
        del self._candidates.files[name]
        await self._serving.retire(name)
        self._statuses.forget(name)

    async def _tidy(self) -> None:
        """Updates the notes in the folder, the history and the store to what is known now."""
        reasons = {
            self._folder.path / file: rejection.reason
            for files in self._candidates.files.values()
            for file, rejection in files.rejected.items()
        }
        for name in self._history:
            files = self._candidates.files.get(name)
            present = files.present if files else frozenset()
            self._history[name] = self._history[name].trimmed(self._keep_versions, present)
            self._statuses.announce(name)
        await self._history.save()
        await asyncio.to_thread(self._folder.write_notes, reasons)
        await self._candidates.sweep()

    def _set_candidate(self, files: Files, candidate: str | None) -> None:
        files.candidate, files.trying = candidate, False
        self._statuses.announce(files.name)

    def _report_folder(self, trouble: str | None) -> None:
        if trouble != self.folder_trouble:
            self.folder_trouble = trouble
            if trouble:
                log.error("%s", trouble)
            else:
                log.info("The models folder %s is available again.", self._folder.path)

    def _report_store(self, trouble: str | None) -> None:
        if trouble != self.store_trouble:
            self.store_trouble = trouble
            if trouble:
                log.error("%s", trouble)
