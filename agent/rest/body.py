"""Body: the body of a request, which the kernel writes straight into the application's memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from agent.rest.connection import MAX_HEAD_BYTES

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from agent.rest.connection import Connection

BODY = "edge_agent.body"  # in the scope of a request that has a Content-Length, except over TLS

# Of all connections, since each piece is used up at once. A head that fills it is too long.
_HEAD = memoryview(bytearray(MAX_HEAD_BYTES + 1))


class Body:
    """A body of `length` bytes. uvicorn's own way copies each byte five times, which takes 0.1 ms for 280 kB.

    Either read_into() or receive() of ASGI may read it, but not both.
    """

    def __init__(self, length: int, *, cycle: RequestResponseCycle, flow: FlowControl, reader: Reader) -> None:
        self.length = length
        self.left = length  # what the parser and read_into() have not got yet
        self._cycle = cycle
        self._flow = flow
        self._reader = reader
        self._memory: bytearray | None = None
        self._at = 0

    async def read_into(self, memory: bytearray, at: int) -> None:
        """Fills `memory` from `at` on with the next bytes of the body, which must have as many. One caller at a time.

        Raises ClientDisconnect, also if they do not arrive in time.
        """
        cycle = self._cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.waiting_for_100_continue = False
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parsed = cycle.body[: len(memory) - at]  # arrived together with the head
        memory[at : at + len(parsed)] = parsed
        del cycle.body[: len(parsed)]
        if at + len(parsed) < len(memory):
            self._memory, self._at = memory, at + len(parsed)
            self._reader.bypass_parser(self)
            self._flow.resume_reading()
            try:
                while self._is_filling() and not cycle.disconnected:
                    await cycle.message_event.wait()
                    cycle.message_event.clear()
            finally:
                self._memory = None
        if cycle.disconnected:
            raise ClientDisconnect

    def _is_filling(self) -> bool:
        return self._memory is not None

    def room(self) -> memoryview:
        """Where the next bytes belong; if the application wants no more, because it has answered, they go anywhere."""
        return _HEAD[: self.left] if self._memory is None else memoryview(self._memory)[self._at :]

    def arrived(self, size: int) -> None:
        self.left -= size
        if self._memory is None:
            return
        self._at += size
        if self._at == len(self._memory):
            self._memory = None
            self._cycle.message_event.set()
            if self.left and not self._cycle.response_complete:
                self._flow.pause_reading()


class Reader(asyncio.BufferedProtocol):
    """Between a socket and its Connection: passes on heads, and lets bodies past the parser that have a reader."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.reader = self
        self._body: Body | None = None  # of the latest request, until it is complete
        self._is_bypassed = False
        self.connection_made = connection.connection_made  # type: ignore[method-assign,assignment]  # as uvicorn narrows it
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]  # spares a call
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]  # spares a call
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]  # spares a call

    def begin(self, cycle: RequestResponseCycle, flow: FlowControl) -> None:
        """The parser has read the head of a request. It refuses two lengths, and a length with chunks."""
        length = next((value for name, value in cycle.scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and len(length) <= 15 and int(length):
            self._body = Body(int(length), cycle=cycle, flow=flow, reader=self)
            cycle.scope[BODY] = self._body  # type: ignore[literal-required]  # a key of our own

    def parsed(self, size: int) -> None:
        """The parser has read a piece of a body."""
        if self._body is not None:
            self._body.left -= size

    def end(self) -> None:
        """The body is complete."""
        self._body = None
        self._is_bypassed = False

    def bypass_parser(self, body: Body) -> None:
        assert body is self._body
        self._is_bypassed = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio's)
        return self._body.room() if self._body is not None and self._is_bypassed else _HEAD

    def buffer_updated(self, nbytes: int) -> None:
        before = self._body
        if before is not None and self._is_bypassed:
            before.arrived(nbytes)
            if not before.left:
                self._connection.body_has_bypassed_parser()
            return
        self._connection.data_received(_HEAD[:nbytes])  # type: ignore[arg-type]  # httptools takes any buffer
        if self._body is not None and self._body is not before:  # the application decides how the rest is read
            self._connection.flow.pause_reading()

    def eof_received(self) -> None:
        self._connection.eof_received()
