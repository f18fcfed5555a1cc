from __future__ import annotations

from agent.publishers.outbox import Message, Outbox


def _outbox(sent: list[str], *, max_waiting: int = 100, window: int = 2) -> Outbox:
    """Its messages are numbered 1, 2, 3… in the order in which they are sent."""

    def send(message: Message) -> int:
        sent.append(message.topic)
        return len(sent)

    return Outbox(send=send, max_waiting=max_waiting, window=window)


def _put(outbox: Outbox, *topics: str) -> None:
    for topic in topics:
        outbox.put(Message(topic, b""))


def test_nothing_is_sent_before_the_broker_is_there_and_then_the_oldest_first() -> None:
    sent: list[str] = []
    outbox = _outbox(sent)
    _put(outbox, "a", "b", "c")
    assert sent == []
    outbox.open()
    assert sent == ["a", "b"]
    assert len(outbox) == 3


def test_each_acknowledgement_lets_one_more_through_the_window() -> None:
    sent: list[str] = []
    outbox = _outbox(sent)
    outbox.open()
    _put(outbox, "a", "b", "c", "d")
    outbox.acknowledge(2)
    assert sent == ["a", "b", "c"]
    outbox.acknowledge(99)
    outbox.acknowledge(2)
    assert sent == ["a", "b", "c"]
    assert len(outbox) == 3


def test_window_is_twenty_unless_told_otherwise() -> None:
    sent: list[Message] = []

    def send(message: Message) -> int:
        sent.append(message)
        return len(sent)

    outbox = Outbox(send=send, max_waiting=100)
    outbox.open()
    _put(outbox, *"abcdefghijklmnopqrstuvwxyz")
    assert len(sent) == 20


def test_what_was_not_acknowledged_goes_again_before_what_waits() -> None:
    sent: list[str] = []
    outbox = _outbox(sent)
    outbox.open()
    _put(outbox, "a", "b", "c")
    outbox.acknowledge(1)
    outbox.pause()
    _put(outbox, "d")
    assert sent == ["a", "b", "c"]
    outbox.open()
    assert sent == ["a", "b", "c", "b", "c"]


def test_full_outbox_drops_the_oldest_and_counts_them() -> None:
    sent: list[str] = []
    outbox = _outbox(sent, max_waiting=3)
    outbox.open()
    _put(outbox, "a", "b", "c", "d")
    outbox.pause()
    _put(outbox, "e")
    assert (len(outbox), outbox.dropped) == (3, 2)
    outbox.open()
    assert sent[2:] == ["c", "d"]


def test_stopped_outbox_sends_no_more_but_still_takes_acknowledgements() -> None:
    sent: list[str] = []
    outbox = _outbox(sent)
    outbox.open()
    _put(outbox, "a", "b", "c")
    outbox.stop()
    outbox.acknowledge(1)
    outbox.acknowledge(2)
    assert sent == ["a", "b"]
    assert len(outbox) == 1
