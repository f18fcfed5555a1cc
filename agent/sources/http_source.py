"""HTTP source: a camera or a recording behind an http:// URL; asks once what it is, then reads it accordingly."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from agent.errors import SourceError
from agent.host.backoff import Backoff
from agent.sources.capture import Capture
from agent.sources.http_get import HttpClient
from agent.sources.kind import Answer, ask
from agent.sources.mjpeg import MjpegStream
from agent.sources.recording import Recording
from agent.sources.report import Report
from agent.sources.still import Still
from agent.sources.stream import Stream
from agent.sources.video import VideoUrl
from agent.status import CameraStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.frame import Frame
    from agent.sources.address import Address
    from agent.sources.source import Source


class HttpSource:
    """Becomes a still, a live stream or a recording with the first answer of the server; retries until it answers.

    Construct, read and close it on the event loop's thread; `on_status` is called there, only on a change.
    """

    def __init__(
        self,
        address: Address,
        *,
        loop: bool,
        on_status: Callable[[CameraStatus], None],
        timeout_s: float = 4.0,
        frozen_after_s: float = 30.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._client = HttpClient(address, timeout_s=timeout_s)
        self._again = loop
        self._frozen_after_s = frozen_after_s
        self._report = Report(on_status)
        self._backoff = backoff or Backoff()
        self._loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._released = asyncio.Event()
        self._source: Source | None = None
        # One thread, so that a canceled read(), the next one and close() ask in turn.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"ask {address}")

    @property
    def has_own_pace(self) -> bool:
        """False until the server has answered."""
        return self._source is not None and self._source.has_own_pace

    @property
    def silence_s(self) -> float:
        return 0.0 if self._source is None else self._source.silence_s

    async def read(self) -> Frame | None:
        """Waits without a time limit for the next frame; None at the end and once closed. One reader."""
        while self._source is None and not self._closed.is_set():
            await self._open()
        return None if self._source is None else await self._source.read()

    def close(self) -> None:
        """Wakes read(), for a still or a recording after the call in progress; the connection is closed then, too."""
        if not self._closed.is_set():
            self._closed.set()
            self._report.end()
            if self._source is not None:
                self._source.close()
            self._worker.submit(self._release)
            self._worker.shutdown(wait=False)

    async def wait_closed(self) -> None:
        """Call it after close(); returns once every connection is closed."""
        await self._released.wait()
        if self._source is not None:
            await self._source.wait_closed()

    async def _open(self) -> None:
        asking: asyncio.Future[Any] = self._loop.run_in_executor(self._worker, ask, self._client)
        closed: asyncio.Future[Any] = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((asking, closed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            if self._closed.is_set() or not asking.done():
                asking.add_done_callback(_drop)
        if self._closed.is_set():
            return
        try:
            self._source = self._follow(asking.result())
        except SourceError as trouble:
            self._report(CameraStatus("lost", str(trouble)))
            with anyio.move_on_after(self._backoff.next_s()):
                await self._closed.wait()

    def _follow(self, answer: Answer) -> Source:
        client, address = self._client, self._client.address
        if answer.kind == "mjpeg":
            assert answer.pictures is not None
            stream = MjpegStream(client, answer.pictures)
            return Capture(stream, on_status=self._report, frozen_after_s=self._frozen_after_s)
        if answer.kind == "live":
            patience_s = max(client.timeout_s, answer.silence_s)
            return Capture(
                Stream(address, timeout_s=patience_s),
                on_status=self._report,
                stall_s=patience_s + 1,
                frozen_after_s=self._frozen_after_s,
            )
        footage = Still(client) if answer.kind == "still" else VideoUrl(address, timeout_s=client.timeout_s)
        return Recording(footage, loop=self._again, on_status=self._report)

    def _release(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            self._loop.call_soon_threadsafe(self._released.set)


def _drop(asking: asyncio.Future[Answer]) -> None:
    """Closes the connection of an answer that came too late."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result().close()
