"""Connections: all open HTTP connections, how many may be open, and how long each may wait for its client."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from agent.rest.connection import Connection

log = logging.getLogger(__name__)

_WARN_EVERY_S = 60
_LINGER_S = 1


class Deadline:
    """The connections that wait for the same thing, the oldest first: looking for late ones costs next to nothing."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._since_s: dict[Connection, float] = {}

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._since_s

    def start(self, connection: Connection) -> None:
        self._since_s.pop(connection, None)
        self._since_s[connection] = time.monotonic()

    def stop(self, connection: Connection) -> None:
        self._since_s.pop(connection, None)

    def late(self, now_s: float) -> list[Connection]:
        late = []
        for connection, since_s in self._since_s.items():
            if now_s - since_s < self.timeout_s:
                break
            late.append(connection)
        return late

    def oldest(self, address: str | None) -> Connection | None:
        """Of this address, or of all."""
        return next((each for each in self._since_s if address is None or each.address == address), None)


class Connections:
    """At most `maximum` connections, half of them from one address that is not in `proxies`.

    One more ends the one that has waited longest for the head of a request. If all have a request in progress, the new
    one is refused.
    """

    def __init__(
        self, *, maximum: int, header_timeout_s: float, body_timeout_s: float, proxies: Container[str] = ()
    ) -> None:
        self.heads = Deadline(header_timeout_s)  # new connections, and those whose last request was answered
        self.bodies = Deadline(body_timeout_s)
        self.answers = Deadline(body_timeout_s)  # clients that do not read their answer
        self._refused = Deadline(_LINGER_S)
        self._maximum = maximum
        self._proxies = proxies
        self._open: set[Connection] = set()
        self._open_of: Counter[str] = Counter()
        self._warned_s = float("-inf")

    def add(self, connection: Connection) -> None:
        """May be called again; the time since the first call counts."""
        if connection in self._open:
            return
        address = connection.address
        self._open.add(connection)
        self._open_of[address] += 1
        greedy = self._open_of[address] > self._maximum // 2 and address not in self._proxies
        if greedy or len(self._open) > self._maximum:
            self._warn(address if greedy else None)
            spare = self.heads.oldest(address if greedy else None)
            if spare is None:
                connection.refuse(503, "Too many requests are in progress. Retry later.")
                connection.end()
                return
            spare.end()
        self.heads.start(connection)

    def discard(self, connection: Connection) -> None:
        """May be called again."""
        self._stop_waiting(connection)
        if connection in self._open:
            self._open.remove(connection)
            self._open_of[connection.address] -= 1
            if not self._open_of[connection.address]:
                del self._open_of[connection.address]

    def linger(self, connection: Connection) -> None:
        """Ends it soon."""
        self._stop_waiting(connection)
        self._refused.start(connection)

    def end_late(self, *, within_s: float) -> None:
        """Ends those whose time is over before the next call, in `within_s`."""
        now_s = time.monotonic() + within_s
        for connection in self.heads.late(now_s):
            connection.head_is_late()
        for connection in self.bodies.late(now_s):
            connection.body_is_late()
        for connection in (*self.answers.late(now_s), *self._refused.late(now_s)):
            connection.end()

    def _stop_waiting(self, connection: Connection) -> None:
        for deadline in (self.heads, self.bodies, self.answers, self._refused):
            deadline.stop(connection)

    def _warn(self, address: str | None) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s > _WARN_EVERY_S:
            self._warned_s = now_s
            log.warning(
                "%d HTTP connections are open%s. Each new one ends the one that has been idle longest.",
                len(self._open) - 1 if address is None else self._open_of[address] - 1,
                f" from {address}" if address else "",
            )
