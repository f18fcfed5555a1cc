"""Recovery: takes over the results that earlier runs left in the outbox's folder, and finds lost ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.mqtt.outbox.gaps import Gap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.mqtt.outbox.backlog import Backlog
    from agent.mqtt.outbox.gaps import Gaps
    from agent.mqtt.outbox.segments import Found, Segments
    from agent.mqtt.outbox.storage import Storage


class Recovery:
    """Coroutines may raise OSError; call them again then. No loss is counted twice.

    `lose` is called with the losses of earlier runs; `save_gaps` saves all announcements to disk.
    """

    def __init__(
        self,
        storage: Storage,
        segments: Segments,
        *,
        backlog: Backlog,
        gaps: Gaps,
        lose: Callable[[list[Gap]], None],
        save_gaps: Callable[[], Awaitable[None]],
    ) -> None:
        self._storage = storage
        self._segments = segments
        self._backlog = backlog
        self._gaps = gaps
        self._lose = lose
        self._save_gaps = save_gaps
        self._taken_over = self._damaged = False
        self.opened = False  # the backlog includes the results of earlier runs
        self.begun = False  # the next run will notice if this one is killed

    async def open(self) -> None:
        """Saves the announcement of damage before it repairs the damage."""
        if self._storage.durability == "none" and not self._storage.folder.is_dir():
            self.opened = self.begun = True
            return
        if not self._taken_over:
            await self._take_over()
            self._taken_over = True
        if self._damaged:
            await self._save_gaps()
        await self._backlog.in_thread(self._segments.repair)
        self.opened = True

    async def begin(self) -> None:
        """Saves the losses of earlier runs, then marks that a kill may lose results from now on."""
        await self._save_gaps()
        keeps = self._storage.durability != "none"
        await self._backlog.in_thread(self._segments.begin if keeps else self._segments.end)
        self.begun = True

    async def _take_over(self) -> None:
        gaps = await self._backlog.in_thread(self._gaps.load)
        found = await self._backlog.open()
        self._gaps.add(gaps)
        self._lose(_losses(found))
        self._damaged = bool(found.holes)


def _losses(found: Found) -> list[Gap]:
    """The results that a killed run had only in memory, and those in unreadable parts of files."""
    gaps = []
    if found.killed is not None:
        known = [segment.seqs[1] for segment in found.segments if segment.boot == found.killed]
        gaps.append(Gap(found.killed, max(known) + 1 if known else None, None, None, "killed"))
    for hole in found.holes:
        first = None if hole.before is None else hole.before + 1
        last = None if hole.after is None else hole.after - 1
        gaps.append(Gap(hole.boot, first, last, None, "damaged"))
    return gaps
