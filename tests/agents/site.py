"""Site: the real HTTP server in this process, with the REST application, and clients with one connection each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
from agents.fake_agent import (
    NO_COLLECTION,
    OPEN,
    FakeDataPlane,
    FakeHealth,
    FakeMetrics,
    FakeModels,
    FakeOverview,
    FakeProfiles,
)

from agent.inference.share import places_for_uploads
from agent.rest.app import Limits, create_app
from agent.rest.server import Server, listen

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.types import ASGIApp

    from agent.security.access import AccessRules
    from agent.security.server_tls import ServerTls

OTHER = "127.0.0.2"
GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
STALLED = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc"
UPLOAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
MAX_BYTES = 100_000


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, Any]:
        self.writer.write(request)
        return await self.answer()

    async def head(self, request: bytes) -> str:
        """Only the head of the answer, in lower case."""
        self.writer.write(request)
        return (await self.until(b"\r\n\r\n")).lower().decode()

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self._reader.readuntil(end), 10)

    async def answer(self) -> tuple[int, Any]:
        """Status and JSON."""
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), json.loads(await self._reader.readexactly(length))

    async def end(self) -> bytes:
        """Returns once the server has closed the connection, with what it sent before."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self._reader.read(), 10)
        return b""

    async def drip(self, head: bytes, *, every_s: float = 0.02) -> None:
        """Sends one byte at a time, without an end, until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(head)
            while not self._reader.at_eof() and not self.writer.is_closing():
                self.writer.write(b"a")
                await self.writer.drain()
                await asyncio.sleep(every_s)


class Site:
    """The running server; `connect` opens a connection to it."""

    def __init__(self, port: int, server: Server, metrics: FakeMetrics, clients: contextlib.ExitStack) -> None:
        self.port = port
        self._server = server
        self.metrics = metrics
        self._clients = clients

    def stopping(self) -> asyncio.Task[float]:
        """Stops the server; returns the seconds that it took."""

        async def stop() -> float:
            started_s = time.monotonic()
            await self._server.stop()
            return time.monotonic() - started_s

        return asyncio.create_task(stop())

    async def connect(self, address: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0), ssl=tls)
        self._clients.callback(writer.close)
        return Client(reader, writer)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110  (the server announces nothing)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def site(
    app: ASGIApp | None = None,
    *,
    header_timeout_s: float = 20,
    body_timeout_s: float = 20,
    max_connections: int = 100,
    trusted_proxies: Sequence[str] = (),
    host: str = "127.0.0.1",
    access: AccessRules = OPEN,
    tls: ServerTls | None = None,
) -> AsyncIterator[Site]:
    """Needs an event loop of uvloop."""
    metrics = FakeMetrics()
    app = app or create_app(
        version="1",
        data_plane=FakeDataPlane(),
        models=FakeModels(),
        cameras=FakeOverview(),
        profiles=FakeProfiles(),
        collection=NO_COLLECTION,
        overview=FakeOverview(),
        health=FakeHealth(),
        metrics=metrics,
        limits=Limits(max_upload_bytes=MAX_BYTES, per_client=2),
        places=places_for_uploads(8, per_client=2),
        access=access,
    )
    server = Server(
        app,
        header_timeout_s=header_timeout_s,
        body_timeout_s=body_timeout_s,
        max_connections=max_connections,
        trusted_proxies=trusted_proxies,
        tls=tls,
    )
    with listen(host, 0) as listener, contextlib.ExitStack() as clients:
        running = asyncio.create_task(server.answer(listener))
        await server.answering.wait()
        try:
            yield Site(listener.getsockname()[1], server, metrics, clients)
        finally:
            await server.stop()
            await running
