"""Inbox: a folder into which other programs put images, each of which is classified once."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from agent.classification import Result
from agent.errors import BusyError, MemoryFullError, ModelError, ModelNotFoundError, SourceError
from agent.frame import Frame
from agent.host.backoff import Backoff
from agent.host.folder_watch import FolderWatch
from agent.image import has_image_name
from agent.sources.inbox_folder import REST_S, InboxFolder
from agent.sources.report import Report
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.errors import AgentError
    from agent.sources.inbox_folder import Taken

T = TypeVar("T")

_LOOK_EVERY_S = 10.0  # if the file system sends no events
_EVENT_SHARE, _IDLE_SHARE = 20, 200  # a look that took a second is repeated after as many seconds at the earliest
_SILENT_S = 20.0
_NEXT_TRY_S = 1.0


class Inbox:
    """Gives the oldest image that rested, and writes its answer in done(), which must follow each read().

    Construct, read and close it on the event loop's thread; `on_status` is called there, only on a change. `source`
    and `after` are as in the configuration.
    """

    has_own_pace = False
    silence_s = 0.0

    def __init__(
        self,
        source: str,
        *,
        after: str,
        on_status: Callable[[CameraStatus], None],
        rest_s: float = REST_S,
        next_try_s: float = _NEXT_TRY_S,
        silent_s: float = _SILENT_S,
        backoff: Backoff | None = None,
    ) -> None:
        self._folder = InboxFolder.of(source, after=after, rest_s=rest_s)
        self._report = Report(on_status)
        self._next_try_s = next_try_s
        self._silent_s = silent_s
        self._backoff = backoff or Backoff(longest_s=10.0)
        self._closed = asyncio.Event()
        self._changed = asyncio.Event()
        self._watch = FolderWatch(self._folder.path, self._changed, has_name=has_image_name)
        self._may_have_changed = True
        self._looked_s = time.monotonic()
        self._look_took_s = 0.0
        self._taken: Taken | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        # A folder on a file server that hangs may not hold the threads of others. Its thread ends with this object.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=source)

    async def read(self) -> Frame | None:
        """Waits without a time limit for an image; None once closed. One reader."""
        while not self._closed.is_set():
            try:
                taken = await self._in_thread(self._next)
            except SourceError as trouble:
                self._may_have_changed = True
                await self._lost(trouble)
                continue
            self._online()
            if taken is None:
                await self._wait_for_images()
            elif taken.trouble is not None:
                await self._answer(taken, {"error": taken.trouble})
            elif not self._closed.is_set():
                self._taken = taken
                self._settled.clear()
                return Frame(taken.content, time.monotonic_ns())
        return None

    async def done(self, outcomes: Mapping[str | None, Result | AgentError]) -> None:
        """Writes the answers of the views to the image that read() gave. The image waits if no model serves it."""
        taken, self._taken = self._taken, None
        if taken is None:
            raise RuntimeError("done() without read()")
        try:
            if all(self._must_wait(taken, outcome) for outcome in outcomes.values()):
                self._folder.put_back(taken)
                await self._pause(self._next_try_s)
            else:
                await self._answer(taken, _document(outcomes))
        finally:
            self._settled.set()

    def close(self) -> None:
        """Wakes read(). An image that was read still gets its answer."""
        self._closed.set()
        self._report.end()
        self._changed.set()
        self._watch.close()

    async def wait_closed(self) -> None:
        """Call it after close(); returns once the image that was read has its answer."""
        await self._settled.wait()

    def _must_wait(self, taken: Taken, outcome: Result | AgentError) -> bool:
        """A version that fails on each image is withdrawn after a few, and its predecessor may classify this one."""
        if isinstance(outcome, ModelError | MemoryFullError):
            return self._folder.may_try_again(taken)
        return isinstance(outcome, ModelNotFoundError | BusyError)

    def _next(self) -> Taken | None:
        """In the thread."""
        since_s = time.monotonic() - self._looked_s
        if since_s >= self._next_look_s():
            begun_s = time.monotonic()
            self._may_have_changed = False
            self._folder.look()
            self._looked_s = time.monotonic()
            self._look_took_s = self._looked_s - begun_s
        return self._folder.take()

    def _next_look_s(self) -> float:
        """Seconds from the last look to the next one: the more files there are, the longer."""
        if self._may_have_changed:
            return _EVENT_SHARE * self._look_took_s
        return max(_LOOK_EVERY_S, _IDLE_SHARE * self._look_took_s)

    async def _wait_for_images(self) -> None:
        now_s = time.monotonic()
        until_s = now_s + min(self._folder.next_rested_s(), self._looked_s + self._next_look_s() - now_s)
        if self._may_have_changed:  # it is known, so the next event matters no more
            await self._pause(until_s - now_s)
            return
        await self._watch.wait(max(0.0, until_s - now_s))
        self._may_have_changed = time.monotonic() < until_s

    async def _answer(self, taken: Taken, document: Mapping[str, Any]) -> None:
        """Tries until it is written: classifying the image again would publish a second Result."""
        write = partial(self._folder.answer, taken, document)
        while not await self._is_done(write) and not self._closed.is_set():
            pass

    async def _is_done(self, write: Callable[[], None]) -> bool:
        try:
            await self._in_thread(write)
        except SourceError as trouble:
            await self._lost(trouble)
            return False
        self._online()
        return True

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Reports that the camera is lost if the call hangs, as with a file server that does not answer."""
        working = asyncio.get_running_loop().run_in_executor(self._worker, call)
        await asyncio.wait({working}, timeout=self._silent_s)
        if not working.done():
            reason = f"{self._folder.path} does not answer. Check its disk or its file server."
            self._report(CameraStatus("lost", reason))
        return await working

    async def _lost(self, trouble: SourceError) -> None:
        self._report(CameraStatus("lost", str(trouble)))
        await self._pause(self._backoff.next_s())

    def _online(self) -> None:
        self._backoff.reset()
        self._report(CameraStatus("online"))

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(max(0.0, seconds)):
            await self._closed.wait()


def _document(outcomes: Mapping[str | None, Result | AgentError]) -> dict[str, Any]:
    """The answer itself, or {"views": ...} with that of each named view."""
    documents = {
        view: outcome.to_json() if isinstance(outcome, Result) else {"error": str(outcome)}
        for view, outcome in outcomes.items()
    }
    return documents.get(None, {"views": documents})
