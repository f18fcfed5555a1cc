"""Server: grpc.aio on a port of its own, on the agent's event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import grpc

from agent.errors import ConfigError, StartError

if TYPE_CHECKING:
    from agent.rpc.certificate import Certificate
    from agent.rpc.door import Door
    from agent.rpc.health import HealthService

log = logging.getLogger(__name__)

_STOP_S = 2.0
_MAX_CONNECTIONS = 200  # with those of HTTP, fewer than the 1023 descriptors that paho's select() handles
_MAX_STREAMS = 64  # requests in progress, per connection
_MAX_METADATA_BYTES = 16 << 10
_IDLE_S = 300
_KEEPALIVE_S = 60  # a client that answers no ping for 20 s is gone; one that sends pings too often is disconnected
_ONLY_UNCOMPRESSED = 1  # a message of 16 MB can expand to 16 GB; images are compressed already


def _is_about_the_agent(record: logging.LogRecord) -> bool:
    """False for the traceback that grpc logs if a client leaves while its answer is being sent."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__name__ != "ExecuteBatchError"


class Server:
    """Answers from start() to stop()."""

    def __init__(
        self,
        door: Door,
        *,
        health: HealthService,
        host: str,
        port: int,
        max_message_bytes: int,
        handshake_timeout_s: float,
        certificate: Certificate | None = None,
    ) -> None:
        """With `certificate`, it takes only TLS. Construct it inside a running loop."""
        self._health = health
        self._certificate = certificate
        self._host = host
        self.port = port
        self._starting: asyncio.Task[None] | None = None
        self._server = grpc.aio.server(
            handlers=[door],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_concurrent_streams", _MAX_STREAMS),
                ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
                ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
                ("grpc.server_handshake_timeout_ms", int(handshake_timeout_s * 1e3)),
                ("grpc.max_connection_idle_ms", _IDLE_S * 1000),
                ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1000),
                ("grpc.compression_enabled_algorithms_bitset", _ONLY_UNCOMPRESSED),
            ],
        )

    async def start(self) -> None:
        """Sets `port` if it was 0. Raises StartError with the cause and the remedy.

        With a certificate that cannot be used, it answers as soon as the files are right.
        """
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_about_the_agent)
        try:
            await self._start()
        except (ConfigError, OSError) as error:
            log.error(  # noqa: TRY400  (expected; the sentence says it all)
                "%s gRPC answers once this is fixed. Cameras and MQTT are not affected.", error
            )
            self._starting = asyncio.create_task(self._start_once_usable(), name="grpc")

    async def _start_once_usable(self) -> None:
        """Follows the files of the certificate, as HTTPS does."""
        assert self._certificate is not None
        while True:
            await self._certificate.changed()
            try:
                await self._start()
            except (ConfigError, OSError, StartError) as error:
                log.warning("%s gRPC does not answer yet, and looks at the files again.", error)
            else:
                log.info("gRPC answers at %s.", self.address)
                return

    async def _start(self) -> None:
        credentials = None if self._certificate is None else self._certificate.credentials()
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(self.address)
            else:
                self.port = self._server.add_secure_port(self.address, credentials)
        except RuntimeError:
            raise StartError(
                f"grpc: cannot listen on {self._host}:{self.port}: {_why(self._host, self.port)}. "
                "Stop the program that uses the port, or correct grpc.host and grpc.port."
            ) from None
        await self._server.start()

    @property
    def address(self) -> str:
        return _target(self._host, self.port)

    async def stop(self) -> None:
        """Waits a moment for requests in progress."""
        self._health.stop()
        if self._starting is not None:
            self._starting.cancel()
        await self._server.stop(_STOP_S)


def _target(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _why(host: str, port: int) -> str:
    """Grpc does not say why it cannot listen."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            return "the port was in use a moment ago"
    except OSError as error:
        return str(error.strerror).partition(" (while attempting")[0]
