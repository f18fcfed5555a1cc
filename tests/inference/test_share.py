"""How a capacity is divided among client addresses."""

from __future__ import annotations

import pytest

from agent.errors import BusyError
from agent.inference.share import Share


def taken(share: Share, address: str) -> int:
    """How many times the address could take one."""
    count = 0
    try:
        while True:
            share.take(address, 1)
            count += 1
    except BusyError:
        return count


def test_one_address_gets_all_but_a_quarter() -> None:
    share = Share(16, guaranteed=3, busy="Busy.")
    assert [taken(share, address) for address in "abc"] == [12, 3, 1]


def test_address_is_guaranteed_its_share_up_to_the_capacity() -> None:
    share = Share(4, guaranteed=8, busy="Busy.")
    assert [taken(share, address) for address in "ab"] == [4, 0]


def test_what_is_given_back_can_be_taken_again() -> None:
    share = Share(16, guaranteed=3, busy="Busy.")
    assert taken(share, "a") == 12
    share.give_back("a", 12)
    assert taken(share, "b") == 12
    share.give_back("b", 12)
    assert share.free == 16


def test_amount_that_is_refused_takes_nothing() -> None:
    share = Share(16, guaranteed=3, busy="Busy.")
    with pytest.raises(BusyError, match="Busy"):
        share.take("a", 17)
    assert share.free == 16
