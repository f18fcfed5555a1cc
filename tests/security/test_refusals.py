from __future__ import annotations

import pytest
from agents.clock import Clock

from agent.security.refusals import Refusals, wait_s


def test_waits_grow_up_to_4_s() -> None:
    assert [wait_s(count) for count in (1, 3, 4, 5, 6, 7, 8, 9, 1000)] == [0, 0, 0.25, 0.5, 1, 2, 4, 4, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"),
        ("fe80::1%eth0", "fe80::2"),
        ("", ""),
    ],
)
def test_addresses_of_one_client_are_counted_together(one: str, other: str) -> None:
    refusals = Refusals()
    assert (refusals.add(one), refusals.add(other)) == (1, 2)


@pytest.mark.parametrize(("one", "other"), [("192.0.2.7", "192.0.2.8"), ("2001:db8:0:1::1", "2001:db8:0:2::1")])
def test_other_clients_are_counted_separately(one: str, other: str) -> None:
    refusals = Refusals()
    assert (refusals.add(one), refusals.add(other)) == (1, 1)


def test_a_client_is_forgotten_after_a_minute_without_a_wrong_token() -> None:
    clock = Clock()
    refusals = Refusals(clock=clock)
    counts = []
    for pause_s in (0, 59, 59, 61):
        clock.now_s += pause_s
        counts.append(refusals.add("192.0.2.7"))
    assert counts == [1, 2, 3, 1]


def test_memory_is_bounded_when_every_address_is_new() -> None:
    refusals = Refusals()
    for number in range(3000):
        refusals.add(f"10.0.{number >> 8}.{number & 255}")
    assert refusals.add("10.0.0.0") == 1
    assert refusals.add(f"10.0.{2999 >> 8}.{2999 & 255}") == 2
