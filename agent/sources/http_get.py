"""HTTP GET: asks a camera on the network; logs in, follows redirects, and turns every failure into a sentence."""

from __future__ import annotations

import http.client
import select
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, build_opener

from agent.errors import SourceError
from agent.sources.login import LoginHandler
from agent.sources.reachability import why_unreachable

if TYPE_CHECKING:
    from agent.sources.address import Address

BROKEN = (OSError, http.client.HTTPException, ValueError)  # what a request or its body may raise
_CHUNK_BYTES = 1 << 16
MAX_BYTES = 1 << 25  # of a picture or a playlist


class HttpClient:
    """Sends GET requests to one camera.

    Certificates are not verified, as FFmpeg does not: nearly every camera signs its own.
    """

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._opener = build_opener(HTTPSHandler(context=context), LoginHandler(address))

    def get(self, url: str | None = None) -> Body:
        """Returns once the headers are there, from the camera's own URL by default. Blocks; raises SourceError."""
        try:
            return Body(self._opener.open(url or self.address.url, timeout=self.timeout_s), self)
        except HTTPError as error:
            error.close()
            raise SourceError(self._refusal(error.code)) from None
        except BROKEN as error:
            raise SourceError(self.explain(error)) from None

    def explain(self, error: Exception) -> str:
        """A sentence about an error of a request or of its body."""
        if why := why_unreachable(self.address, timeout_s=self.timeout_s):
            return why
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            return f"{self.address} sends nothing. If this persists, restart the camera."
        if isinstance(reason, OSError):
            return f"{self.address} ended the connection ({reason.strerror or reason}). Check the camera."
        return f"{self.address} does not answer in HTTP. Check the port and the scheme of its URL."

    def _refusal(self, code: int) -> str:
        if code in (401, 403):
            if not self.address.has_username:
                return f"{self.address} requires a login (status {code}). Set username and password_file of the camera."
            return (
                f"{self.address} refused the user name or the password (status {code}). Correct them."
                f"{self.address.advice or ' In a URL, special characters must be percent-encoded.'}"
            )
        if code in (404, 410):
            return f"{self.address} does not exist (status {code}). Check the path in its URL."
        return f"{self.address} answers with status {code} instead of a picture. Check the camera and its URL."


class Body:
    """The body of a response, read piece by piece. Every method blocks and raises one of BROKEN."""

    def __init__(self, response: Any, client: HttpClient) -> None:
        self.name = str(client.address)
        self.buffer = bytearray()
        self.content_type: str = (response.headers["Content-Type"] or "").partition(";")[0].strip().lower()
        self.url: str = response.url
        self.has_length: bool = response.length is not None
        self._response = response
        self.timeout_s = client.timeout_s

    def fill(self, within_s: float | None = None) -> bool:
        """Adds what arrives next to the buffer; False at the end.

        Raises TimeoutError, after which the body can be read on, if nothing arrives within the client's timeout or
        `within_s`.
        """
        if not self._wait(self.timeout_s if within_s is None else within_s):
            raise TimeoutError
        piece: bytes = self._response.read1(_CHUNK_BYTES)
        self.buffer += piece
        return bool(piece)

    def head(self, size: int, within_s: float | None = None) -> bytes:
        """The first bytes, which stay in the buffer."""
        while len(self.buffer) < size and self.fill(within_s):
            pass
        return bytes(self.buffer[:size])

    def read_all(self) -> bytes:
        """Also raises SourceError if the body is too large or too slow to be a picture."""
        latest_s = time.monotonic() + 3 * self.timeout_s
        while self.fill():
            if len(self.buffer) > MAX_BYTES or time.monotonic() > latest_s:
                raise SourceError(f"{self.name} sends more than one picture. Correct its URL.")
        return bytes(self.buffer)

    def close(self) -> None:
        self._response.close()

    def _wait(self, seconds: float) -> bool:
        """Whether there is something to read. A socket that timed out in a read cannot be read any more."""
        reader = self._response.fp
        if reader is None:  # the whole body was read
            return True
        connection = reader.raw._sock  # noqa: SLF001  (http.client gives no access to it)
        connection.settimeout(0)
        try:
            buffered = len(reader.peek(1))  # without a read only if there are bytes
        except ssl.SSLWantReadError:
            buffered = 0
        finally:
            connection.settimeout(self.timeout_s)
        # After a chunk, its end mark waits there, and reading on would wait for the next chunk.
        if buffered > (2 if self._response.chunked else 0):
            return True
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
