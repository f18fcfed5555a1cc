"""Link: a TCP proxy between an agent and its broker, which records messages and can close, block or delay them."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from peers.mosquitto import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4


class Link:
    """Relays TCP from its own `port` to the broker's. It accepts connections only after open().

    `published` has the payload of every PUBLISH of the agent. `acknowledged` has the payloads whose PUBACK was sent
    to the agent. `most_unacknowledged` is the highest number of unacknowledged messages at one time.
    """

    def __init__(self, broker_port: int) -> None:
        self.port = free_port()
        self.ack_delay_s = 0.0
        self.drops_data = False
        self.connections = 0
        self.published: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.most_unacknowledged = 0
        self._broker_port = broker_port
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept, self._listener)

    def close(self) -> None:
        """Also closes open connections, and waits until no data is relayed."""
        listener, self._listener = self._listener, None
        for each in (listener, *self._sockets):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if listener is not None:
            listener.close()
        self._sockets, self._threads = [], []

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                agent, _ = listener.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self._broker_port))
                except OSError:
                    agent.close()
                    continue
                self.connections += 1
                self._sockets += [agent, broker]
                unacknowledged: dict[int, bytes] = {}
                self._start(self._carry_up, agent, broker, unacknowledged)
                self._start(self._carry_down, broker, agent, unacknowledged)

    def _carry_up(self, agent: socket.socket, broker: socket.socket, unacknowledged: dict[int, bytes]) -> None:
        level = 0
        with agent, suppress(OSError):
            for kind, body, raw in _packets(agent):
                if kind >> 4 == _CONNECT:
                    level = body[6]
                elif kind >> 4 == _PUBLISH and kind & 6:
                    number, payload = _published(body, level)
                    unacknowledged[number] = payload
                    self.published.append(payload)
                    self.most_unacknowledged = max(self.most_unacknowledged, len(unacknowledged))
                if not self.drops_data:
                    broker.sendall(raw)
        _hang_up(broker)

    def _carry_down(self, broker: socket.socket, agent: socket.socket, unacknowledged: dict[int, bytes]) -> None:
        with broker, suppress(OSError):
            for kind, body, raw in _packets(broker):
                if self.drops_data:
                    continue
                if kind >> 4 == _PUBACK:
                    time.sleep(self.ack_delay_s)
                    self.acknowledged.append(unacknowledged.pop(struct.unpack_from(">H", body)[0]))
                agent.sendall(raw)
        _hang_up(agent)


def _hang_up(other: socket.socket) -> None:
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


def _packets(stream: socket.socket) -> Iterator[tuple[int, bytes, bytes]]:
    """The first byte, the body and the raw bytes of each packet, until the end of the stream."""
    file = stream.makefile("rb")
    while first := file.read(1):
        head, length, shift = first, 0, 0
        while True:
            byte = file.read(1)
            if not byte:
                return
            head += byte
            length |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                break
        body = file.read(length)
        if len(body) < length:
            return
        yield first[0], body, head + body


def _published(body: bytes, level: int) -> tuple[int, bytes]:
    """Packet number and payload of a PUBLISH of QoS 1 (MQTT 5, 3.3.2)."""
    start = 2 + int(struct.unpack_from(">H", body)[0])
    number = int(struct.unpack_from(">H", body, start)[0])
    start += 2
    if level == 5:
        start += 1 + body[start]  # properties; the agent sends fewer than 128 bytes of them
    return number, body[start:]
