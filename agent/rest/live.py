"""Live: what a page shows: GET /api/status as one document, GET /api/live with its changes as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from starlette.responses import JSONResponse

from agent.inference.share import Share
from agent.rest.openapi import answers, media
from agent.rest.route_scopes import needs
from agent.rest.stream import Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

_MAX_READERS = 100
_MAX_WAITING = 64  # events
_RETRY = b"retry: 2000\n\n"  # milliseconds until a browser connects again
_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode


class Overview(Protocol):
    def status(self) -> dict[str, Any]: ...
    def watch(self, watcher: Callable[[str, dict[str, Any] | None], None] | None) -> None: ...


def live_router(overview: Overview) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["page"])
    readers = Readers(overview)
    places = Share(_MAX_READERS, guaranteed=8, busy="Too many pages show this agent. Close some of them.")

    @router.get("/status", openapi_extra=needs("read", responses=answers("Overview")))
    async def status() -> JSONResponse:
        """Returns the cameras, the models and the state of the device."""
        return JSONResponse(overview.status())

    @router.get("/live", openapi_extra=needs("read", responses=media("text/event-stream", "Events, without an end.")))
    async def live() -> Stream:
        """Sends the document of /api/status, then each change, as server-sent events."""
        return Stream(readers.events, media_type="text/event-stream", places=places)

    return router


class Readers:
    """Passes the events of the overview to all readers, each encoded once; watches it only while there are any."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._readers: set[_Reader] = set()

    async def events(self) -> AsyncGenerator[bytes]:
        """Ends for a reader that does not keep up: a browser connects again and gets the newest status."""
        reader = _Reader()
        self._readers.add(reader)
        self._overview.watch(self._pass_on)
        try:
            yield _RETRY + _event("status", self._overview.status())
            while (events := await reader.arrived()) is not None:
                yield events
        finally:
            self._readers.remove(reader)
            if not self._readers:
                self._overview.watch(None)

    def _pass_on(self, event: str, document: dict[str, Any] | None) -> None:
        encoded = _event(event, document)
        for reader in self._readers:
            reader.put(encoded)


class _Reader:
    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._is_late = False

    def put(self, event: bytes) -> None:
        if len(self._waiting) == _MAX_WAITING:
            self._is_late = True
        if self._is_late:
            self._waiting.clear()
        else:
            self._waiting.append(event)
        self._wake.set()

    async def arrived(self) -> bytes | None:
        """All events since the last call; None if there were too many."""
        await self._wake.wait()
        self._wake.clear()
        if self._is_late:
            return None
        events = b"".join(self._waiting)
        self._waiting.clear()
        return events


def _event(name: str, document: dict[str, Any] | None) -> bytes:
    return f"event: {name}\ndata: {_TO_JSON(document)}\n\n".encode()
