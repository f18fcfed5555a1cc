"""Stream: an answer without an end, such as events or pictures, for a client that looks at a page."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import anyio
from starlette.responses import Response

from agent.rest.connection import IS_STREAM
from agent.rest.upload import client_address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from agent.inference.share import Share

IS_HEAD = "edge_agent.is_head"  # in the scope of a request that was HEAD

_CHECK_ACCESS_S = 2.0


class Stream(Response):
    """Sends `chunks` until they end, the client leaves, or it may not read them any more.

    Each chunk waits until the client has read the earlier ones, apart from 64 kB; `http.body_timeout_s` limits that.
    `places` are divided among the addresses of the readers.
    """

    def __init__(self, chunks: Callable[[], AsyncGenerator[bytes]], *, media_type: str, places: Share) -> None:
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self._chunks = chunks
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises BusyError before it has sent anything."""
        with self._places.held(client_address(scope), 1):
            scope[IS_STREAM] = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if IS_HEAD not in scope:
                await _first_of(partial(self._send, send), partial(_left, receive), partial(_refused, scope))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _first_of(*calls: Callable[[], Awaitable[None]]) -> None:
    """Returns when one of them returns, and cancels the others."""
    async with anyio.create_task_group() as tasks:

        async def until_it_ends(call: Callable[[], Awaitable[None]]) -> None:
            await call()
            tasks.cancel_scope.cancel()

        for call in calls:
            tasks.start_soon(until_it_ends, call)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(scope: Scope) -> None:
    """A token can be revoked, and a session or a certificate ends."""
    while scope["may"]("read"):  # noqa: ASYNC110  (nothing announces it)
        await asyncio.sleep(_CHECK_ACCESS_S)
