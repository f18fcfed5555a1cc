"""Decisions: those of an operator, a probation or a crash. Each changes the history, and Serving applies it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from agent.errors import VersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.classification import Timing
    from agent.errors import ModelError
    from agent.listeners import Listener, WithdrawalCause
    from agent.models.history import History
    from agent.models.probation import Failed
    from agent.models.serving import ServedModel, Serving
    from agent.models.statuses import Statuses
    from agent.models.store import Store

log = logging.getLogger(__name__)

_SURVIVED_S = 60.0


class Decisions:
    """On the loop's thread."""

    def __init__(
        self,
        *,
        history: History,
        store: Store,
        serving: Serving,
        statuses: Statuses,
        listener: Listener,
        look_again: asyncio.Event,
        clock: Callable[[], float],
    ) -> None:
        """Sets `look_again` after each decision, because the file of a withdrawn version counts as rejected."""
        self._history = history
        self._store = store
        self._serving = serving
        self._statuses = statuses
        self._listener = listener
        self._look_again = look_again
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def restore(self) -> None:
        """At startup: withdraws the versions that ended the last run, and loads those that served."""
        for name, number, reason in self._history.blame_last_run():
            self._withdraw(name, number, reason, "crash")
        for name in self._history:
            if self._history[name].good:
                await self._serving.reconcile(name)
        await self._history.save()

    async def close(self) -> None:
        """Records a clean stop, so that no version is blamed for it."""
        for task in self._tasks:
            task.cancel()
        self._history.end_well()
        await self._history.save()

    async def rollback(self, name: str) -> None:
        """Withdraws the canary, or the stable version if there is none. Raises VersionError."""
        history, served = self._history[name], self._serving.served
        if history.pinned is not None:
            raise VersionError(f"Model {name} is pinned to version {history.pinned}. Unpin it, or pin another version.")
        doomed = served.canaries.get(name) or served.stable.get(name)
        if doomed is None or not self._has_other_than(doomed.identity.version, name):
            raise VersionError(
                f"Model {name} has no other good version in the store to roll back to. Drop one, or pin one of those "
                f"listed by edge-agent models show {name}."
            )
        number = doomed.identity.version
        reason = (
            f"Version {number} was rolled back by hand. Drop another version, or restore this one: "
            f"edge-agent models pin {name} {number}."
        )
        self._withdraw(name, number, reason, "operator")
        await self._decided(name)

    async def pin(self, name: str, number: int) -> None:
        """Serves only this version until unpin(). Raises VersionError if it is not in the store or does not load."""
        before = self._history[name]
        version = before.find(number)
        if version is None or not (self._store.has(version.sha256) or version.number == before.stable):
            known = ", ".join(str(each.number) for each in before.versions if each.is_kept) or "none"
            raise VersionError(f"Model {name} has no version {number} in the store. Available: {known}.")
        log.info("Model %s is pinned to version %d by hand.", name, number, extra={"model": name})
        self._history[name] = before.pinned_to(number)
        self._serving.retry(name, number)
        await self._decided(name)
        served = self._serving.served.stable.get(name)
        if served is None or served.identity.version != number:
            unloadable = self._serving.why_unloadable(name, version)
            reason = unloadable.reason if unloadable else "Its copy in the store is damaged. Drop it again."
            self._history[name] = self._history[name].with_pin_undone(number, before)
            await self._decided(name)
            raise VersionError(f"Version {number} of model {name} cannot serve: {reason}")

    async def unpin(self, name: str) -> None:
        self._history[name] = dataclasses.replace(self._history[name], pinned=None)
        log.info("Model %s is unpinned by hand.", name, extra={"model": name})
        await self._decided(name)

    async def promote(self, name: str) -> None:
        """Makes the canary the stable version. Raises VersionError if there is none."""
        canary = self._serving.served.canaries.get(name)
        if canary is None:
            raise VersionError(
                f"Model {name} has no canary to promote. Set models.canary to start new versions as canaries."
            )
        self._history[name] = dataclasses.replace(self._history[name], stable=canary.identity.version)
        log.info("Model %s version %d is promoted by hand.", name, canary.identity.version, extra={"model": name})
        await self._decided(name)

    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None:
        """Records the outcome of an inference; a version on probation may be withdrawn for it."""
        probation = self._serving.served.probation_of(served)
        if probation is None:
            return
        failed = probation.observe(outcome)
        if failed or probation.is_over:
            self._conclude(served.identity.name, served.identity.version, failed or probation.end())

    def review(self) -> None:
        """Ends probations and clears start counts when their time is over, even without images. Call it regularly."""
        for name, model in self._serving.served.models.items():
            for number in {version.number for version in model.versions.values()}:
                probation = model.probations.get(number)
                if probation is not None and probation.is_over:
                    self._conclude(name, number, probation.end())
                if self._clock() - model.loaded_s > _SURVIVED_S:
                    self._clear_starts(name, number)

    def _clear_starts(self, name: str, number: int) -> None:
        """A version on probation stays a suspect if the agent crashes, but its earlier starts no longer count."""
        version = self._history[name].find(number)
        if version is not None and version.starts:
            self._history.survived(name, number, starts=0 if version.proven else 1)

    def _has_other_than(self, number: int, name: str) -> bool:
        good = self._history[name].good
        return any(version.number != number and self._store.has(version.sha256) for version in good)

    def _conclude(self, name: str, number: int, failed: Failed | None) -> None:
        if failed is None:
            self._prove(name, number)
            self._start(self._history.save())
        else:
            del self._serving.served.models[name].probations[number]
            self._start(self._fail(name, number, failed))

    async def _fail(self, name: str, number: int, failed: Failed) -> None:
        others = any(version.number != number for version in self._history[name].good)
        if failed.cause == "slow" and not others:  # a slow answer is better than none
            log.warning("Model %s version %d is slow: %s.", name, number, failed.reason, extra={"model": name})
            self._prove(name, number)
            return
        reason = (
            f"Version {number} was withdrawn while on probation: {failed.reason}. Drop a fixed version, or restore "
            f"this one: edge-agent models pin {name} {number}."
        )
        self._withdraw(name, number, reason, failed.cause)
        await self._decided(name)

    def _prove(self, name: str, number: int) -> None:
        if model := self._serving.served.models.get(name):
            model.probations.pop(number, None)
        self._history.survived(name, number, proven=True)
        self._announce(name)

    def _withdraw(self, name: str, number: int, reason: str, cause: WithdrawalCause) -> None:
        self._history[name] = self._history[name].withdrawn(number, reason, time.time_ns())
        self._listener.version_withdrawn(name, cause)
        log.warning("Model %s version %d is withdrawn: %s", name, number, reason, extra={"model": name})

    async def _decided(self, name: str) -> None:
        await self._serving.reconcile(name)
        self._announce(name)
        await self._history.save()

    def _announce(self, name: str) -> None:
        self._statuses.announce(name)
        self._look_again.set()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="models-decision")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
