from __future__ import annotations

from agent.mqtt.link.in_flight import InFlight


def test_nothing_is_overdue_while_nothing_is_in_flight() -> None:
    assert not InFlight(timeout_s=15).is_overdue(1e6)


def test_any_acknowledgment_restarts_the_timeout_of_all_messages() -> None:
    in_flight = InFlight(timeout_s=15)
    for number in (1, 2):
        in_flight.add(number, size=0, now_s=100)
    in_flight.discard(1, now_s=110)
    assert not in_flight.is_overdue(125)
    assert in_flight.is_overdue(125.1)
    in_flight.discard(2, now_s=126)
    assert not in_flight.is_overdue(1000)


def test_timeout_starts_when_the_message_is_sent() -> None:
    in_flight = InFlight(timeout_s=15)
    in_flight.add(1, size=0, now_s=0)
    in_flight.discard(1, now_s=1)
    in_flight.add(2, size=0, now_s=100)
    assert not in_flight.is_overdue(101)


def test_timeout_is_up_to_twice_as_long_when_much_is_in_flight() -> None:
    in_flight = InFlight(timeout_s=15)
    in_flight.add(1, size=20480, now_s=0)
    assert not in_flight.is_overdue(20)
    assert in_flight.is_overdue(20.1)
    in_flight.add(2, size=10 << 20, now_s=1)
    assert not in_flight.is_overdue(30)
    assert in_flight.is_overdue(30.1)


def test_message_is_overdue_before_its_number_is_used_again() -> None:
    in_flight = InFlight(timeout_s=15)
    in_flight.add(1, size=0, now_s=0)
    for now_s in range(1, 200):
        in_flight.add(2, size=0, now_s=now_s)
        in_flight.discard(2, now_s=now_s)
    assert not in_flight.is_overdue(200)
    assert in_flight.is_overdue(201)
