"""Handshake: the start of an HTTPS connection, which counts as a connection before its TLS handshake is complete."""

from __future__ import annotations

import asyncio
import contextlib
import types
from typing import TYPE_CHECKING, Any

from agent.security.server_tls import CLIENT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Generator

    from agent.rest.connection import Connection

_SHUTDOWN_S = 1  # how long a client may take to confirm the end; by then it is not counted any more


class Handshake(asyncio.Protocol):
    """Makes `connection` known as soon as the client connects, and hands the client over once it may send requests.

    If the event loop's server did the handshake, a client that never begins it would be invisible to the limits.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext, *, timeout_s: float) -> None:
        """`timeout_s` must not be shorter than the deadline of `connection`, which goes on after the handshake."""
        self._connection = connection
        self._connection.awaits_handshake = True
        self._context = context
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None  # the event loop keeps only a weak reference

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        self._connection.connection_made(transport)
        if transport.is_closing():
            self._connection.connection_lost(None)
            return
        # Started here and not by the task: uvloop reads as soon as this method returns, and the first bytes would
        # come to this protocol instead of to start_tls().
        shaking = self._shake_hands(transport)
        with contextlib.suppress(StopIteration):
            self._task = asyncio.create_task(_go_on(shaking, shaking.send(None)))

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        limits: dict[str, Any] = {"ssl_handshake_timeout": self._timeout_s, "ssl_shutdown_timeout": _SHUTDOWN_S}
        secured: asyncio.Transport | None = None
        CLIENT.set(self._connection.address)
        with contextlib.suppress(OSError):  # the client left, or was too slow
            secured = await asyncio.get_running_loop().start_tls(
                transport, self._connection, self._context, server_side=True, **limits
            )
        if secured is None or transport.is_closing():
            self._connection.connection_lost(None)
        else:
            self._connection.awaits_handshake = False
            self._connection.connection_made(secured)


async def _go_on(started: Coroutine[Any, Any, None], waits_for: object) -> None:
    await _resumed(started, waits_for)  # since Python 3.12, a task takes nothing but an async function


@types.coroutine
def _resumed(started: Coroutine[Any, Any, None], waits_for: object) -> Generator[Any, Any, None]:
    """Goes on with a coroutine that ran until it waits for `waits_for`."""
    with contextlib.suppress(Exception):  # `started` gets it from `waits_for` too
        yield waits_for
    yield from started.__await__()
