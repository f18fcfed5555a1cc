from __future__ import annotations

from agent.mqtt.link.blame import Blame, Suspect
from agent.mqtt.message import CLOSED, TOO_LARGE

_HOUR_S = 3600.0


def _blame(*passed: Suspect) -> Blame:
    blame = Blame()
    blame.opened(0.0)
    for each in passed:
        blame.passed(each, 0.0)
    return blame


def _break(blame: Blame, *in_flight: Suspect, times: int = 1, now_s: float = 0.0) -> None:
    for _ in range(times):
        blame.broke(in_flight, now_s)


def test_message_is_refused_after_three_breaks_when_it_is_the_only_suspect() -> None:
    blame = _blame(Suspect("a", 100), Suspect("b", 10))
    _break(blame, Suspect("a", 50), Suspect("b", 500), times=2)
    assert blame.refusal("b", 500, 0.0) is None
    _break(blame, Suspect("a", 50), Suspect("b", 500))
    assert blame.refusal("b", 500, 0.0) == TOO_LARGE
    assert blame.refusal("b", 499, 0.0) is None
    assert blame.refusal("a", 1000, 0.0) is None
    assert not blame.searching


def test_one_message_at_a_time_is_sent_when_several_are_suspects_at_two_breaks() -> None:
    blame = _blame()
    suspects = [Suspect("a", 1), Suspect("b", 1)]
    searching = []
    for _ in range(2):
        _break(blame, *suspects)
        searching.append(blame.searching)
    assert searching == [False, True], "a broker may restart once"
    blame.passed(suspects[0], 1.0)
    _break(blame, suspects[1])
    assert [blame.refusal(name, 1, 1.0) for name in ("a", "b")] == [None, CLOSED]
    blame.passed(suspects[0], 100.0)
    assert not blame.searching


def test_message_is_innocent_when_it_passes_after_two_breaks() -> None:
    blame = _blame()
    message = Suspect("a", 5)
    _break(blame, message, times=2)
    blame.passed(message, 0.0)
    _break(blame, message, Suspect("a", 3), times=5)
    assert blame.refusal("a", 5, 0.0) is None


def test_whole_topic_is_refused_when_a_smaller_message_breaks_the_link_too_and_none_passed() -> None:
    blame = _blame(Suspect("other", 1000))
    _break(blame, Suspect("a", 100), times=3)
    assert [blame.refusal("a", size, 0.0) for size in (100, 99)] == [CLOSED, None]
    _break(blame, Suspect("a", 99))
    assert blame.refusal("a", 1, 0.0) == CLOSED


def test_smaller_messages_are_not_refused_when_one_of_the_topic_passed() -> None:
    blame = _blame(Suspect("a", 10))
    _break(blame, Suspect("a", 100), times=3)
    _break(blame, Suspect("a", 50))
    assert [blame.refusal("a", size, 0.0) for size in (50, 49)] == [TOO_LARGE, None]


def test_refusal_ends_after_an_hour_and_returns_at_the_next_break() -> None:
    blame = _blame()
    _break(blame, Suspect("a", 5), times=3)
    assert blame.refusal("a", 5, _HOUR_S - 1) is not None
    assert blame.refusal("a", 5, _HOUR_S + 1) is None
    _break(blame, Suspect("a", 5), now_s=_HOUR_S + 1)
    assert blame.refusal("a", 5, _HOUR_S + 1) is not None


def test_retain_flag_is_blamed_first_when_no_retained_message_ever_passed() -> None:
    blame = _blame(Suspect("x", 100))
    _break(blame, Suspect("status", 6, retain=True), times=3)
    assert not blame.may_retain(0.0)
    assert blame.refusal("status", 6, 0.0) is None
    blame.passed(Suspect("status", 6), 0.0)
    _break(blame, Suspect("large", 500), times=3)
    assert not blame.may_retain(0.0)
    assert blame.may_retain(_HOUR_S + 1), "someone may have changed the broker"


def test_topic_is_blamed_when_its_message_breaks_the_link_without_the_retain_flag_too() -> None:
    blame = _blame(Suspect("x", 100))
    _break(blame, Suspect("status", 6, retain=True), times=3)
    _break(blame, Suspect("status", 6))
    assert blame.may_retain(0.0)
    assert blame.refusal("status", 6, 0.0) == CLOSED


def test_number_of_remembered_topics_is_bounded_and_those_in_use_stay() -> None:
    blame = _blame()
    _break(blame, Suspect("a", 5), times=3)
    for number in range(5000):
        blame.passed(Suspect(f"answers/{number}", 1), 0.0)
        blame.passed(Suspect("b", 1), 0.0)
    _break(blame, Suspect("b", 1))
    assert len(blame._topics) == 1000
    assert blame._topics["b"].strikes == 0
