"""Manager: the interface to models for the engine, HTTP and MQTT."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.host.throttling import never
from agent.models.acceleration import Acceleration
from agent.models.candidates import Candidates
from agent.models.decisions import Decisions
from agent.models.reconciler import Reconciler
from agent.models.serving import Served, Serving
from agent.models.statuses import Statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.classification import Timing
    from agent.errors import ModelError, ModelNotFoundError
    from agent.listeners import Listener
    from agent.models.acceleration import Selector
    from agent.models.admission import Admission
    from agent.models.folder import ModelFolder
    from agent.models.history import History
    from agent.models.loader import Loader
    from agent.models.policy import Rules, Times
    from agent.models.serving import ServedModel
    from agent.models.store import Store
    from agent.status import ModelStatus


class ModelManager:
    """The interface to everything about models. On the loop's thread."""

    def __init__(
        self,
        *,
        folder: ModelFolder,
        store: Store,
        history: History,
        admission: Admission,
        loader: Loader,
        rules: Rules,
        listener: Listener,
        times: Times,
        selector: Selector | None = None,
        is_throttled: Callable[[], bool] = never,
    ) -> None:
        """`listener` is called at every change: model_changed, model_tried, version_withdrawn and swap_gap.

        Without a `selector`, no accelerator is tried.
        """
        self.has_looked = asyncio.Event()  # set once run() has tried the files that were in the folder
        self._folder = folder
        self._history = history
        self._times = times
        self._look_again = asyncio.Event()
        self._served = Served()
        self._candidates = Candidates(admission=admission, history=history, store=store, listener=listener, times=times)
        self._statuses = Statuses(files=self._candidates.files, history=history, served=self._served, listener=listener)
        self._serving = Serving(
            served=self._served,
            history=history,
            loader=loader,
            rules=rules,
            clock=times.clock,
            listener=listener,
            announce=self._swapped,
            is_throttled=is_throttled,
        )
        self._acceleration = Acceleration(selector, served=self._all_served, announce=self._statuses.announce)
        self._decisions = Decisions(
            history=history,
            store=store,
            serving=self._serving,
            statuses=self._statuses,
            listener=listener,
            look_again=self._look_again,
            clock=times.clock,
        )
        self._reconciler = Reconciler(
            folder=folder,
            candidates=self._candidates,
            history=history,
            serving=self._serving,
            statuses=self._statuses,
            keep_versions=rules.keep_versions,
            times=times,
        )

    @property
    def served(self) -> Mapping[str, ServedModel]:
        """The stable versions."""
        return self._served.stable

    @property
    def canaries(self) -> Mapping[str, ServedModel]:
        return self._served.canaries

    @property
    def statuses(self) -> list[ModelStatus]:
        return self._statuses.all

    @property
    def store_trouble(self) -> str | None:
        return self._reconciler.store_trouble or self._history.trouble

    @property
    def troubles(self) -> list[str]:
        """The current troubles of the drop folder and of the store, and the files there that are overlooked."""
        troubles = [trouble for trouble in (self._reconciler.folder_trouble, self.store_trouble) if trouble]
        return [*troubles, *self._folder.overlooked]

    def get(self, name: str | None, version: str | None = None) -> ServedModel:
        """The served `version` (a label or a number, default: stable) of model `name` (default: the first by name).

        Raises ModelNotFoundError.
        """
        served = self._served.get(min(self.served, default="") if name is None else name, version)
        if served is None:
            raise self._missing(name, version)
        return served

    def for_upload(self, name: str | None, version: str | None = None) -> ServedModel:
        """Like get(), but if `version` is None, the canary gets its share of the calls."""
        served = self.get(name, version)
        return served if version is not None else self._serving.for_upload(served.identity.name) or served

    def observe(self, served: ServedModel, outcome: Timing | ModelError) -> None:
        """Records the outcome of an inference; a version on probation may be withdrawn for it."""
        self._decisions.observe(served, outcome)

    async def start(self) -> None:
        """Serves the versions that served before."""
        await self._decisions.restore()

    async def run(self) -> None:
        """Follows the folder until canceled."""
        watch = self._folder.watch(self._look_again)
        try:
            while True:
                wait_s = await self.reconcile()
                if self.served or wait_s > self._times.rest_s:  # no new file is still waiting
                    self.has_looked.set()
                await watch.wait(wait_s)
        finally:
            watch.close()

    async def accelerate(self) -> None:
        """Moves versions to an accelerator where that pays, until canceled."""
        await self._acceleration.run()

    async def close(self) -> None:
        """Stops cleanly, so that no version is blamed for it."""
        await self._decisions.close()

    async def reconcile(self) -> float:
        """Brings the served versions in line with the folder; returns the seconds after which to look again."""
        self._decisions.review()
        self._serving.retry_unreadable()
        return await self._reconciler.look()

    async def rollback(self, name: str) -> None:
        """Withdraws the canary or the stable version and serves another. Raises ModelNotFoundError, VersionError."""
        self._check_known(name)
        await self._decisions.rollback(name)

    async def pin(self, name: str, version: int) -> None:
        """Serves only this version until unpin(). Raises ModelNotFoundError, VersionError."""
        self._check_known(name)
        try:
            if self._history[name].find(version) is None:
                await self._reconciler.admit(name, version)
            await self._decisions.pin(name, version)
        finally:
            self._look_again.set()

    async def unpin(self, name: str) -> None:
        self._check_known(name)
        await self._decisions.unpin(name)

    async def promote(self, name: str) -> None:
        self._check_known(name)
        await self._decisions.promote(name)

    def _all_served(self) -> list[ServedModel]:
        return [*self._served.stable.values(), *self._served.canaries.values()]

    def _swapped(self, name: str) -> None:
        self._statuses.announce(name)
        self._acceleration.look()

    def _check_known(self, name: str) -> None:
        if not self._statuses.knows(name):
            raise self._missing(name, None)

    def _missing(self, name: str | None, version: str | None) -> ModelNotFoundError:
        return self._statuses.missing(name, version, folder=self._folder.path)
