"""Window: the messages that the broker has not acknowledged yet, at most 20."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.mqtt.message import Message, compact_json

if TYPE_CHECKING:
    from agent.mqtt.link.connection import Connection
    from agent.mqtt.outbox.blocks import Entry
    from agent.mqtt.outbox.gaps import Gap

_MOST = 20


class Window:
    """All publishing goes through it while the connection is open. Its size is below 20 if the broker asks for it.

    Each send method returns a number that identifies the acknowledgment.
    """

    def __init__(self, connection: Connection, *, base: str) -> None:
        self._connection = connection
        self._base = base
        self._unacknowledged: set[int] = set()

    def room(self) -> int:
        """The number of messages that can be sent now."""
        return self._size - len(self._unacknowledged)

    def backlog_room(self) -> int:
        """The number of backlog results that can be sent now: a fifth of the window is reserved for live ones."""
        return self.room() - self._size // 5

    def send(self, message: Message) -> int:
        number = self._connection.publish(message)
        self._unacknowledged.add(number)
        return number

    def send_result(self, entry: Entry, *, late: bool) -> int:
        """A `late` result gets `replayed` in its payload."""
        payload = entry.payload[:-1] + b',"replayed":true}' if late else entry.payload
        return self.send(Message(entry.topic, payload))

    def send_gap(self, gap: Gap) -> int:
        return self.send(Message(f"{self._base}/gaps", compact_json(gap.to_json())))

    def acknowledge(self, number: int) -> None:
        self._unacknowledged.discard(number)

    def clear(self) -> None:
        """The connection was lost, so its messages will not be acknowledged."""
        self._unacknowledged.clear()

    @property
    def _size(self) -> int:
        return min(_MOST, self._connection.receive_maximum)
