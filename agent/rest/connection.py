"""Connection: one HTTP connection, which must send its requests in time and may not send an endless head."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from agent.rest.response_headers import with_security
from agent.security.server_tls import certificate_until_s

if TYPE_CHECKING:
    import asyncio

    from agent.rest.body import Reader
    from agent.rest.connections import Connections

MAX_HEAD_BYTES = 16 << 10
_MAX_PIPELINED = 16  # 256 kB can contain 6,000 requests, which take 13 MB
LATE = "edge_agent.late"  # in the scope of a request whose body did not arrive in time
IS_STREAM = "edge_agent.is_stream"  # in the scope of a request whose answer has no end, so that a stop ends it
CERTIFICATE_UNTIL_S = "edge_agent.certificate_until_s"  # in the scope if the client presented a certificate

_NO_TRAILERS: Any = deque(maxlen=0)  # uvicorn would add the fields after a chunked body to the request's headers


class Connection(HttpToolsProtocol):
    """Tells `connections` what it waits for. uvicorn itself waits indefinitely for a head and for a body."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._all = connections
        self.reader: Reader | None = None
        self.awaits_handshake = False
        self._certificate_until_s: float | None = None
        self._unparsed_bytes = 0  # received since the parser last completed a head or gave a piece of a body
        self._refused = False
        self._answered: Any = None  # the cycle of the request that is being answered; self.cycle is the latest one

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """With TLS called twice: when the client connects, and after the handshake."""
        super().connection_made(transport)
        if self.client and "." in self.client[0]:  # an IPv4 client of a socket that listens on :: too
            self.client = (self.client[0].removeprefix("::ffff:"), self.client[1])
        self._certificate_until_s = certificate_until_s(transport.get_extra_info("ssl_object"))
        self._all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells only the latest request
            self._answered.disconnected = True
            self._answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        if len(data) > MAX_HEAD_BYTES and self in self._all.heads:
            view = memoryview(data)  # an allowed head ends in the first part
            self._feed(view[: MAX_HEAD_BYTES + 1])
            data = view[MAX_HEAD_BYTES + 1 :]  # type: ignore[assignment]  # httptools takes any buffer
        self._feed(data)

    def _feed(self, data: bytes | memoryview) -> None:
        if self._refused or self.transport.is_closing():
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)  # type: ignore[arg-type]  # httptools takes any buffer
        if self._unparsed_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.refuse(431, f"The head of the request has more than {MAX_HEAD_BYTES} bytes. Send fewer headers.")

    def on_headers_complete(self) -> None:
        if len(self.pipeline) == _MAX_PIPELINED:
            raise ValueError("too many requests that wait for the answer of an earlier one")  # uvicorn answers 400
        self._unparsed_bytes = 0
        self._all.heads.stop(self)
        if self._certificate_until_s is not None:
            self.scope[CERTIFICATE_UNTIL_S] = self._certificate_until_s  # type: ignore[literal-required]  # a key of our own
        super().on_headers_complete()  # raises if the target is not a URL: then nothing follows
        self._all.bodies.start(self)
        self.headers = _NO_TRAILERS
        if self.reader is not None:
            self.reader.begin(self.cycle, self.flow)

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        if self.reader is not None:
            self.reader.parsed(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        self._all.bodies.stop(self)
        if self.reader is not None:
            self.reader.end()
        super().on_message_complete()
        self._await_head()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def body_has_bypassed_parser(self) -> None:
        """Ends the message in place of the parser, which still waits for the rest of the body."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's signature)
        self.refuse(400, "The request is not valid HTTP/1.1.")

    def shutdown(self) -> None:
        if self._refused or (self._answered is not None and IS_STREAM in self._answered.scope):
            self.end()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        self._all.answers.start(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._all.answers.stop(self)
        super().resume_writing()

    def head_is_late(self) -> None:
        if self._unparsed_bytes:
            self.refuse(408, f"The head of the request did not arrive within {self._all.heads.timeout_s:g} s.")
        else:
            self.end()

    def body_is_late(self) -> None:
        """The application gets LATE in the scope of the request."""
        self.cycle.scope[LATE] = True  # type: ignore[literal-required]  # a key of our own
        self.refuse(408, f"The body did not arrive within {self._all.bodies.timeout_s:g} s. Send it again.")

    def refuse(self, code: int, sentence: str) -> None:
        """Ignores what the client sends from now on, and answers in place of the application.

        If an earlier request has no answer yet, that comes instead: the client would take this one for it.
        """
        self._refused = True
        cycle: Any = self.cycle  # None before the first request
        is_in_body = self in self._all.bodies
        if self.awaits_handshake or (is_in_body and (cycle.response_started or self.pipeline)):
            self.end()
        elif is_in_body:
            cycle.disconnected = True  # the application gets a ClientDisconnect
            cycle.message_event.set()
            self._answer(code, sentence)
        elif cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False  # uvicorn ends the connection after its answer
            self.flow.resume_reading()
        else:
            self._answer(code, sentence)

    def _answer(self, code: int, sentence: str) -> None:
        """Ends soon: if the kernel received more after the end, it would tell the client to discard the answer."""
        body = json.dumps({"error": sentence}).encode()
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
        if code == 503:
            headers.append((b"retry-after", b"1"))
        head = b"".join(b"%s: %s\r\n" % header for header in with_security(headers))
        self.transport.write(STATUS_LINE[code] + head + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._all.linger(self)
        else:  # with TLS, which discards what arrives until the client confirms the end
            self.end()

    def end(self) -> None:
        """Ends at once, even if the client does not read: only the kernel may still hold a part of an answer."""
        self._all.discard(self)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _await_head(self) -> None:
        """If the latest request was answered and its body has arrived; a refused body may still arrive afterwards."""
        if self.cycle.response_complete and self not in self._all.bodies:
            self._all.heads.start(self)
