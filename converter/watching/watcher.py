"""Watcher: takes the newest version of each model through the pipeline, one step at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from agent.errors import ModelError
from agent.host import systemd
from agent.host.access import explain
from agent.host.backoff import Backoff
from agent.host.clock import FileAges
from agent.host.digest import sha256_of_folder
from agent.host.folder_watch import FolderWatch
from converter.watching.completeness import check_complete
from converter.watching.versions import list_versions

if TYPE_CHECKING:
    from pathlib import Path

    from converter.watching.pipeline import Pipeline
    from converter.watching.versions import Version

log = logging.getLogger(__name__)

_MOST_CRASHES = 3


@dataclass(frozen=True, slots=True)
class Times:
    """A version is taken once it has not changed for `rest_s`; an incomplete one is refused after `patience_s`.

    The source folder is listed at least every `rescan_s`.
    """

    rest_s: float = 5.0
    patience_s: float = 60.0
    rescan_s: float = 10.0
    first_retry_s: float = 5.0
    longest_retry_s: float = 900.0


@dataclass(slots=True)
class Seen:
    """What is known about one state of a version since it was first seen; moments are monotonic."""

    version: Version
    since_s: float
    retries: Backoff
    sha256: str | None = None
    incomplete: str | None = None
    retry_s: float = -math.inf
    trouble: str = ""
    crashes: int = 0


@dataclass(slots=True)
class Look:
    """What one look at a model found: when to look again, and what keeps its newest version from the devices."""

    again_s: float = math.inf
    acted: bool = False
    troubles: list[str] = field(default_factory=list)


class Watcher:
    """Call run() or run_once(), once."""

    def __init__(self, source: Path, models: list[str], pipeline: Pipeline, *, times: Times) -> None:
        self._source = source
        self._models = models
        self._pipeline = pipeline
        self._times = times
        self._ages = FileAges()
        self._seen: dict[str, dict[int, Seen]] = {name: {} for name in models}
        self._said: set[str] = set()

    async def run(self) -> None:
        """Until it is canceled."""
        watch = FolderWatch(self._source, asyncio.Event())
        try:
            await asyncio.to_thread(self._pipeline.sweep)
            while True:
                looks = await self._look()
                troubles = [trouble for look in looks for trouble in look.troubles]
                systemd.notify(f"STATUS={' '.join(troubles) or 'Waiting for new versions.'}")
                await watch.wait(min(self._times.rescan_s, *(look.again_s for look in looks)))
        finally:
            watch.close()

    async def run_once(self) -> list[str]:
        """Until all is done without waiting for a retry; returns what keeps newest versions from the devices."""
        await asyncio.to_thread(self._pipeline.sweep)
        while True:
            looks = await self._look(is_last=True)
            again_s = min(look.again_s for look in looks)
            if again_s == math.inf:
                both = zip(self._models, looks, strict=True)
                return [trouble for name, look in both for trouble in look.troubles or self._missing(name)]
            await asyncio.sleep(again_s)

    def _missing(self, name: str) -> list[str]:
        folder = self._source / name
        return [] if self._seen[name] else [f"{name} has no version: no folder in {folder} has a number as its name."]

    async def _look(self, *, is_last: bool = False) -> list[Look]:
        """Goes on until no model has anything to do at this moment."""
        await asyncio.to_thread(self._report_strangers)
        while True:
            looks = [await self._advance(name, is_last=is_last) for name in self._models]
            if not any(look.acted for look in looks):
                return looks

    async def _advance(self, name: str, *, is_last: bool) -> Look:
        """Takes one step for the highest version that is neither refused nor still being copied.

        Lower ones are left out, because devices serve the highest one.
        """
        look = Look()
        for seen in await self._list(name, look):
            if (rest_s := self._rest_s(seen)) > 0:
                if seen.incomplete is None or not is_last:
                    look.again_s = min(look.again_s, rest_s)
                look.troubles += [seen.incomplete] if seen.incomplete else []
            elif (retry_s := seen.retry_s - time.monotonic()) > 0:
                look.again_s = look.again_s if is_last else min(look.again_s, retry_s)
                look.troubles.append(f"{seen.version}: {seen.trouble}")
                break
            elif not await self._is_refused(seen, look):
                break
        return look

    async def _is_refused(self, seen: Seen, look: Look) -> bool:
        """Takes the next step of the version, unless it is refused."""
        try:
            if seen.sha256 is None:
                seen.sha256 = await asyncio.to_thread(sha256_of_folder, seen.version.path)
            step = await asyncio.to_thread(self._pipeline.next_step, seen.version, seen.sha256)
            if step == "refused":
                look.troubles.append(f"{seen.version} is refused.")
                return True
            if step != "delivered":
                look.acted = True
                await self._take(step, seen, seen.sha256)
        except OSError as error:
            self._failed(seen, f"{error.filename or seen.version.path}: {error.strerror or error}.")
            look.acted = True
        return False

    async def _take(self, step: Literal["convert", "place", "deliver"], seen: Seen, sha256: str) -> None:
        if step == "convert" and not await self._is_complete(seen, sha256):
            return
        systemd.notify(f"STATUS={step.capitalize()} {seen.version}.")
        outcome = await self._pipeline.take(step, seen.version, sha256)
        seen.crashes += outcome.kind == "crashed"
        if outcome.kind == "done":
            seen.retries.reset()
        elif seen.crashes >= _MOST_CRASHES:
            await asyncio.to_thread(self._pipeline.refuse, seen.version, sha256, outcome.reason)
        elif outcome.kind != "refused":
            self._failed(seen, outcome.reason)

    async def _is_complete(self, seen: Seen, sha256: str) -> bool:
        """An incomplete version may still be growing; it is refused if it does not."""
        try:
            await asyncio.to_thread(check_complete, seen.version)
        except ModelError as error:
            if seen.incomplete is None:
                log.info("%s is incomplete; waiting for the rest. %s", seen.version, error)
                seen.incomplete = str(error)
            else:
                await asyncio.to_thread(self._pipeline.refuse, seen.version, sha256, str(error))
            return False
        return True

    async def _list(self, name: str, look: Look) -> list[Seen]:
        """The highest version first. A folder that cannot be listed is a trouble, and has none."""
        try:
            versions = await asyncio.to_thread(list_versions, self._source, name)
        except OSError as error:
            trouble = f"{self._source / name} cannot be listed: {explain(error, self._source)}"
            look.troubles.append(trouble)
            self._say_once(trouble)
            return []
        before = self._seen[name]
        self._seen[name] = {version.number: self._updated(before.get(version.number), version) for version in versions}
        return list(self._seen[name].values())

    def _updated(self, seen: Seen | None, version: Version) -> Seen:
        if seen is not None and seen.version == version:
            return seen
        retries = Backoff(first_s=self._times.first_retry_s, longest_s=self._times.longest_retry_s)
        return Seen(version, time.monotonic(), retries)

    def _rest_s(self, seen: Seen) -> float:
        """Seconds for which the version must not change before the next step; 0.0 if it may be taken now."""
        age_s = min(self._ages.age_s(seen.version.changed_at_s), 3600) if seen.version.stamps else 0.0
        unchanged_s = max(time.monotonic() - seen.since_s, age_s)
        patience_s = 0.0 if seen.incomplete is None else self._times.patience_s
        return max(0.0, self._times.rest_s - unchanged_s, patience_s - unchanged_s)

    def _failed(self, seen: Seen, reason: str) -> None:
        wait_s = seen.retries.next_s()
        seen.retry_s, seen.trouble = time.monotonic() + wait_s, reason
        log.warning("%s: %s Trying again in %.0f s.", seen.version, reason, wait_s)

    def _report_strangers(self) -> None:
        """Folders that look like models but are not in the recipe."""
        found = {path.parent.parent.name for path in self._source.glob("*/*/saved_model.pb")}
        for name in sorted(found.difference(self._models)):
            self._say_once(f"{self._source / name} is ignored: the recipe has no models.{name}.")

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            log.warning("%s", sentence)
        self._said.add(sentence)
