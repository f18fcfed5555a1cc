"""ScriptedBroker: a broker that misbehaves on demand, unlike a real one."""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _UNSUBSCRIBE, _PINGREQ, _DISCONNECT = 1, 3, 4, 8, 10, 12, 14


@dataclass(frozen=True)
class Published:
    topic: str
    payload: str
    number: int
    connection: int
    retain: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class ScriptedBroker:
    """Speaks MQTT 5 (level 5) and 3.1.1 (level 4) to publishers; the test sends the acknowledgments for QoS 1.

    It closes the connection at a CONNECT with a protocol level in `hangs_up_on`, at a retained last will if
    `hangs_up_on_retained_will`, at a subscription to `hangs_up_on_filter`, and at a message for which `hangs_up_at` is
    true. `connack` are the properties of its MQTT 5 CONNACK. While `swallows` is set, it accepts everything and
    answers nothing. Each subscription is answered with the next of `suback_codes`, if any are left.
    """

    def __init__(self, *, hangs_up_on: set[int] | None = None) -> None:
        self.hangs_up_on = hangs_up_on or set()
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._level = 0
        self.hangs_up_on_retained_will = False
        self.hangs_up_at: Callable[[Published], bool] = lambda message: False
        self.hangs_up_on_filter = ""
        self.connack = b""
        self.acknowledges = False
        self.swallows = False
        self.suback_codes: list[int] = []
        self.connections = 0
        self.levels: list[int] = []
        self.connects: list[bytes] = []
        self.published: list[Published] = []
        self.subscribed: list[bytes] = []
        self.acknowledged: list[int] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()

    def results(self) -> list[Published]:
        return [message for message in self.published if message.topic.endswith("/result")]

    def acknowledge(self, message: Published) -> None:
        assert self._writer is not None
        self._writer.write(b"\x40\x02" + struct.pack(">H", message.number))

    def hang_up(self, *, reason: int | None = None) -> None:
        """Sends an MQTT 5 DISCONNECT with the code `reason` first, if it is given."""
        if self._writer is not None:
            self._writer.write(b"" if reason is None else bytes([0xE0, 2, reason, 0]))
            self._writer.close()

    def deliver(self, topic: str, payload: bytes, *, number: int = 0) -> None:
        """Sends with QoS 1 if `number` is given, otherwise with QoS 0."""
        assert self._writer is not None
        name = topic.encode()
        body = struct.pack(">H", len(name)) + name + (struct.pack(">H", number) if number else b"")
        body += (b"\0" if self._level == 5 else b"") + payload
        assert len(body) < 128, "the remaining length must fit in one byte"
        self._writer.write(bytes([0x32 if number else 0x30, len(body)]) + body)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first = (await reader.readexactly(1))[0]
        kind = first >> 4
        body = await reader.readexactly(await _remaining_length(reader))
        if self.swallows:
            return True
        if kind == _CONNECT:
            return self._accept(body, writer)
        if kind == _PUBLISH:
            return self._keep(body, qos=first >> 1 & 3, retain=bool(first & 1))
        if kind == _PUBACK:
            self.acknowledged.append(int(struct.unpack_from(">H", body)[0]))
        elif kind in {_SUBSCRIBE, _UNSUBSCRIBE}:
            return self._confirm(kind, body, writer)
        elif kind == _PINGREQ:
            writer.write(b"\xd0\0")
        return kind != _DISCONNECT

    def _accept(self, body: bytes, writer: asyncio.StreamWriter) -> bool:
        self._level = body[6]
        self.levels.append(self._level)
        self.connects.append(body)
        if self._level in self.hangs_up_on or (self.hangs_up_on_retained_will and body[7] & 0x20):
            return False
        properties = bytes([len(self.connack)]) + self.connack if self._level == 5 else b""
        writer.write(bytes([0x20, 2 + len(properties), 0, 0]) + properties)
        return True

    def _confirm(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        self.subscribed.append(body)
        properties = b"\0" if self._level == 5 else b""
        filters = _filters(body[2 + len(properties) :], options=1 if kind == _SUBSCRIBE else 0)
        if kind == _SUBSCRIBE and self.hangs_up_on_filter in filters:
            return False
        codes = b"".join(bytes([self.suback_codes.pop(0) if self.suback_codes else 1]) for _ in filters)
        if kind == _UNSUBSCRIBE:
            codes = bytes(len(filters)) if self._level == 5 else b""
        answer = body[:2] + properties + codes
        writer.write(bytes([(kind << 4) + 16, len(answer)]) + answer)
        return True

    def _keep(self, body: bytes, *, qos: int, retain: bool) -> bool:
        length = struct.unpack_from(">H", body)[0]
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        number = int(struct.unpack_from(">H", rest)[0]) if qos else 0
        payload = rest[(2 if qos else 0) + (1 if self._level == 5 else 0) :]  # MQTT 5 has an empty list of properties
        self.published.append(Published(topic, payload.decode(), number, self.connections, retain))
        if self.hangs_up_at(self.published[-1]):
            return False
        if self.acknowledges and qos:
            self.acknowledge(self.published[-1])
        return True


def _filters(body: bytes, *, options: int) -> list[str]:
    """Each filter has a length of two bytes before it, and `options` bytes after it."""
    filters = []
    while body:
        length = int(struct.unpack_from(">H", body)[0])
        filters.append(body[2 : 2 + length].decode())
        body = body[2 + length + options :]
    return filters


async def _remaining_length(reader: asyncio.StreamReader) -> int:
    """Seven bits per byte, lowest first; the eighth bit marks that more bytes follow (MQTT 3.1.1, 2.2.3)."""
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return length
