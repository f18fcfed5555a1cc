"""Outbox: results on their way to the broker, oldest first, until it has acknowledged them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to the broker: `payload` is encoded once, however often it is sent."""

    topic: str
    payload: bytes


class Outbox:
    """Keeps at most `max_waiting` results in memory and drops the oldest; they die with the process.

    At most `window` are sent without an acknowledgement, so a slow broker is not flooded. `send` takes a
    message and returns the number under which its acknowledgement will come. One thread only.
    """

    def __init__(self, *, send: Callable[[Message], int], max_waiting: int, window: int = 20) -> None:
        self._send = send
        self._max_waiting = max_waiting
        self._window = window
        self._waiting: deque[Message] = deque()
        self._unacknowledged: dict[int, Message] = {}
        self._open = False
        self._dropped = 0

    def __len__(self) -> int:
        """How many are not acknowledged yet, sent or not."""
        return len(self._waiting) + len(self._unacknowledged)

    @property
    def dropped(self) -> int:
        return self._dropped

    def put(self, message: Message) -> None:
        self._waiting.append(message)
        self._send_next()
        self._drop_oldest()

    def open(self) -> None:
        """The broker is there: what waits is sent, beginning with what it did not acknowledge before."""
        self._open = True
        self._send_next()

    def pause(self) -> None:
        """The broker is gone: what it has not acknowledged waits again, in front; it may get it twice."""
        self._open = False
        self._waiting.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged.clear()
        self._drop_oldest()

    def stop(self) -> None:
        """Sends no more; what is sent may still be acknowledged."""
        self._open = False

    def acknowledge(self, number: int) -> None:
        """Ignores the number of a message that is not of this outbox."""
        if self._unacknowledged.pop(number, None) is not None:
            self._send_next()

    def _send_next(self) -> None:
        while self._open and self._waiting and len(self._unacknowledged) < self._window:
            message = self._waiting.popleft()
            self._unacknowledged[self._send(message)] = message

    def _drop_oldest(self) -> None:
        while len(self._waiting) > self._max_waiting:
            self._waiting.popleft()
            self._dropped += 1
