"""ServerTls: the certificate that the HTTP server presents, and the authority that signs its clients' certificates."""

from __future__ import annotations

import contextlib
import logging
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.security.refusals import Refusals
from agent.security.tls import load_authorities, load_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

# The address of the client whose handshake begins: an event loop does not tell the context whom it serves.
CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")

CERT, KEY, CLIENT_CA = "http.tls_cert", "http.tls_key", "http.client_ca"

# TLS 1.2 with forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PLAIN_BODY = b'{"error": "This port takes HTTPS only. Use an address that starts with https://."}'
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(_PLAIN_BODY), _PLAIN_BODY)
)


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """`client_ca`: None if no client needs to present a certificate."""

    cert_file: Path
    key_file: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """With TLS 1.2 or later. A client may present a certificate, which must be valid. Raises ConfigError."""
        context = _Context(ssl.PROTOCOL_TLS_SERVER)
        load_certificate(context, self.cert_file, self.key_file, settings=(CERT, KEY))
        if self.client_ca is not None:
            load_authorities(context, self.client_ca, setting=CLIENT_CA)
            context.verify_mode = ssl.CERT_OPTIONAL  # the others send a token
        return context

    def fingerprint(self) -> tuple[tuple[int, ...] | None, ...]:
        """Changes whenever one of the files changes."""
        return tuple(_fingerprint(file) for file in self.paths())

    def paths(self) -> list[Path]:
        return [file for file in (self.cert_file, self.key_file, self.client_ca) if file]


class ServerTls:
    """Follows the files: a new connection gets the certificate that they contain now.

    As long as the files cannot be used together, the last good ones stay in use. A server that starts with unusable
    files refuses every connection until they are right.
    """

    def __init__(self, files: ServerFiles, *, on_refused: Callable[[], None] = lambda: None) -> None:
        """`on_refused` is called for each client whose certificate is refused."""
        self._files = files
        self._on_refused = on_refused
        self._refusals = Refusals()
        self._seen = files.fingerprint()
        self._is_usable = False
        self.context: ssl.SSLContext = _Context(ssl.PROTOCOL_TLS_SERVER)  # without a certificate, no handshake succeeds
        self._load()

    def follow_files(self) -> None:
        """Reads files that have changed since the last call. An ACME client replaces the key and the certificate."""
        seen = self._files.fingerprint()
        if seen != self._seen:
            self._seen = seen
            self._load()

    def _load(self) -> None:
        try:
            context = self._files.context()
        except ConfigError as error:
            if self._is_usable:
                log.warning("%s HTTPS keeps the certificate that it has, and looks at the files again.", error)
            else:
                log.error("%s", why_unusable(error))  # noqa: TRY400  (expected; the sentence says it all)
            return
        assert isinstance(context, _Context)
        context.on_refused = self._refused
        self.context = context
        if self._is_usable:
            log.info("HTTPS uses the changed files: %s.", ", ".join(map(str, self._files.paths())))
        self._is_usable = True

    def _refused(self, client: str, why: str) -> None:
        self._on_refused()
        if self._refusals.add(client) == 1:
            log.warning(
                "HTTPS refused the certificate of a client at %s: %s. Further ones from it are only counted.",
                client,
                why,
            )


def why_unusable(error: ConfigError) -> str:
    return f"{error} HTTPS refuses every client until this is fixed. Cameras and MQTT are not affected."


def certificate_until_s(connection: ssl.SSLObject | None) -> float | None:
    """The end of the validity of the client's certificate, in seconds since 1970; None if it presented none.

    To be compared at each request: a connection may outlive the certificate, and a resumed TLS session is not
    verified again.
    """
    certificate: dict[str, Any] | None = connection.getpeercert() if connection is not None else None
    return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None


class _Handshake(ssl.SSLObject):
    """Answers a handshake that fails: asyncio and uvloop would close the connection without the alert.

    The connection stays open, and what arrives on it is discarded, until the client closes it or it is too late.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    client: str
    _has_failed = False

    def do_handshake(self) -> None:
        if self._has_failed:
            self.incoming.read()
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._has_failed = True
            assert isinstance(self.context, _Context)
            self.context.failed(error, self)
            raise ssl.SSLWantReadError from error  # the event loop then sends what is in `outgoing`


class _Context(ssl.SSLContext):
    sslobject_class = _Handshake
    on_refused: Callable[[str, str], None] = staticmethod(lambda _client, _why: None)

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        self.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self.set_ciphers(_CIPHERS)
        self.set_alpn_protocols(["http/1.1"])

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *words: Any, **options: Any) -> ssl.SSLObject:
        handshake = super().wrap_bio(incoming, outgoing, *words, **options)
        assert isinstance(handshake, _Handshake)
        handshake.incoming, handshake.outgoing, handshake.client = incoming, outgoing, CLIENT.get()
        return handshake

    def failed(self, error: ssl.SSLError, handshake: _Handshake) -> None:
        if error.reason == "HTTP_REQUEST":
            handshake.outgoing.write(_PLAIN_ANSWER)
        if isinstance(error, ssl.SSLCertVerificationError):
            self.on_refused(handshake.client, error.verify_message)


def _fingerprint(file: Path) -> tuple[int, ...] | None:
    with contextlib.suppress(OSError):
        status = file.stat()
        return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    return None
