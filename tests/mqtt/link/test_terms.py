from __future__ import annotations

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.mqtt.link.failure import NO_QOS_1, NO_RETAIN
from agent.mqtt.link.terms import Terms, TermsChoice


def _tried(choice: TermsChoice, refusal: str | None) -> list[Terms]:
    """The terms that are tried without a pause in between."""
    tried = [choice.current]
    while choice.lower(refusal):
        tried.append(choice.current)
    return tried


def test_limits_of_a_connack_are_taken_over() -> None:
    properties = Properties(PacketTypes.CONNACK)  # type: ignore[no-untyped-call]
    properties.MaximumQoS = properties.RetainAvailable = 0
    properties.MaximumPacketSize = 1000
    assert Terms().announced(properties) == Terms(qos=0, retain=False, max_packet_bytes=1000)
    assert Terms(will=False).announced(None) == Terms(will=False)


def test_will_without_what_the_broker_names_is_tried_once() -> None:
    choice = TermsChoice()
    assert _tried(choice, NO_RETAIN) == [Terms(), Terms(retain=False)]
    assert _tried(choice, NO_QOS_1) == [Terms(retain=False), Terms(qos=0, retain=False)]


def test_connection_without_a_will_is_tried_after_the_first_of_ten_refused_logins() -> None:
    choice = TermsChoice()
    tried = [_tried(choice, "Not authorized") for _ in range(11)]
    once = [Terms()]
    assert tried == [[Terms(), Terms(will=False)], *[once] * 9, [Terms(), Terms(will=False)]]


def test_terms_that_worked_are_tried_after_all_others_were_refused_again() -> None:
    choice = TermsChoice()
    _tried(choice, NO_RETAIN)
    choice.accept()
    choice.restart()
    assert choice.current == Terms()
    assert choice.lower(None)
    assert choice.current == Terms(retain=False)


def test_a_wrong_password_changes_nothing_about_the_will() -> None:
    choice = TermsChoice()
    assert _tried(choice, "Bad user name or password") == [Terms()]
