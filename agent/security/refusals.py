"""Refusals: slows down clients that send wrong tokens, by the address that they come from."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FORGET_S = 60.0
_PROMPT = 3  # wrong tokens that are answered without a wait: a person mistypes
_FIRST_S, _LONGEST_S = 0.25, 4.0
_MAX_ADDRESSES = 1024


class Refusals:
    """Counts wrong tokens per address. The right token is never slowed down.

    Otherwise one client could lock out all others behind the same router or proxy. Guessing a token is hopeless at
    any speed; the wait spares the processor and the log.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by address: how many, and when the last

    def add(self, client: str) -> int:
        """How many wrong tokens the address of `client` has sent, with this one, without a minute's pause."""
        address, now_s = _network(client), self._clock()
        count, last_s = self._counts.pop(address, (0, 0.0))
        count = 1 if now_s - last_s > _FORGET_S else count + 1
        self._counts[address] = count, now_s
        if len(self._counts) > _MAX_ADDRESSES:
            self._counts.popitem(last=False)
        return count


def wait_s(count: int) -> float:
    """How long the answer to the `count`th wrong token waits."""
    return 0.0 if count <= _PROMPT else min(_LONGEST_S, _FIRST_S * 2.0 ** min(count - _PROMPT - 1, 10))


def _network(client: str) -> str:
    """One IPv6 client has a whole /64 network to choose its addresses from."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
