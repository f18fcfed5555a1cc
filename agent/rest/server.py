"""Server: uvicorn on a socket that already listens; the service handles signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from agent.errors import StartError
from agent.rest.body import Reader
from agent.rest.connection import Connection
from agent.rest.connections import Connections
from agent.rest.handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from starlette.types import ASGIApp

    from agent.security.server_tls import ServerTls

_STOP_S = 2
_MAX_UNSENT_BYTES = 128 << 10
_MAX_CONNECTIONS = 500  # paho uses select(), which handles only 1023 descriptors


def listen(host: str, port: int) -> socket.socket:
    """Raises StartError with the cause and the remedy."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        both = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)
    except PermissionError:
        raise StartError(
            f"http: this user may not listen on port {port}; ports below 1024 need root. Choose another http.port."
        ) from None
    except OSError as error:
        reason = str(error.strerror).partition(" (while attempting")[0]  # create_server repeats the address there
        raise StartError(
            f"http: cannot listen on {host}:{port}: {reason}. "
            "Stop the program that uses the port, or correct http.host and http.port."
        ) from None
    # Connections inherit it. The kernel would otherwise keep megabytes for a client that does not read.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT_BYTES)
    return listener


class Server(uvicorn.Server):
    """Answers requests once `answering` is set; stop() waits for requests in progress."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        header_timeout_s: float,
        body_timeout_s: float,
        max_connections: int = _MAX_CONNECTIONS,
        trusted_proxies: Sequence[str] = (),
        tls: ServerTls | None = None,
    ) -> None:
        """`trusted_proxies`: addresses and networks whose X-Forwarded-For counts.

        With `tls`, it answers HTTPS only, on an event loop of uvloop.
        """
        proxied: Any = ProxyHeadersMiddleware(app, trusted_hosts=list(trusted_proxies))  # type: ignore[arg-type]  # the same protocol, typed twice
        self._connections = Connections(
            maximum=max_connections,
            header_timeout_s=header_timeout_s,
            body_timeout_s=body_timeout_s,
            proxies=proxied.trusted_hosts,
        )
        self._tls = tls
        protocol: Any = self._protocol
        config = uvicorn.Config(
            proxied if trusted_proxies else app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # its warnings let strangers fill the log: one line per malformed request
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_STOP_S,
        )
        super().__init__(config)
        self.answering = asyncio.Event()
        self._done = asyncio.Event()

    async def answer(self, listener: socket.socket) -> None:
        try:
            await self.serve(sockets=[listener])
        finally:
            self._done.set()

    async def stop(self) -> None:
        self.should_exit = True
        await self._done.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn calls it ten times per second."""
        self._connections.end_late(within_s=0.1)
        if self._tls is not None and counter % 10 == 0:
            self._tls.follow_files()
        return await super().on_tick(counter)

    def _protocol(self, **arguments: Any) -> asyncio.BaseProtocol:
        connection = Connection(self._connections, **arguments)
        if self._tls is None:
            return Reader(connection)
        return Handshake(connection, self._tls.context, timeout_s=self._connections.heads.timeout_s + 1)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
