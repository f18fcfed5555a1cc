"""Certificate: TLS for gRPC with the files of HTTPS; a new connection gets the certificate that they contain now."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc

from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.security.server_tls import ServerFiles

_LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)


class Certificate:
    """Keeps the last good files. gRPC cannot ask for client certificates that are optional, so it asks for none."""

    def __init__(self, files: ServerFiles) -> None:
        self._files = files
        self._seen = files.fingerprint()

    def credentials(self) -> grpc.ServerCredentials:
        """Raises ConfigError or OSError for files that cannot be used."""
        self._seen = self._files.fingerprint()
        return grpc.dynamic_ssl_server_credentials(self._read(), self._changed, require_client_authentication=False)

    async def changed(self) -> None:
        """Returns once the files differ from those that were read last."""
        while self._files.fingerprint() == self._seen:  # noqa: ASYNC110  (files announce nothing)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _changed(self) -> Any:
        """None if the files have not changed. gRPC calls it for each handshake, from a thread of its own."""
        seen = self._files.fingerprint()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return self._read()
        except (ConfigError, OSError) as error:
            log.warning("%s gRPC keeps the certificate that it has, and looks at the files again.", error)
            return None

    def _read(self) -> Any:
        self._files.context()  # gRPC would not say what is wrong with them
        pair = (self._files.key_file.read_bytes(), self._files.cert_file.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair])
