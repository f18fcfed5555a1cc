from __future__ import annotations

from agent.mqtt.identity import Identity
from agent.mqtt.message import Incoming, Message
from agent.mqtt.retained import Retained
from agent.mqtt.stale_topics import StaleTopics


class Wire:
    def __init__(self, *, room: int = 100) -> None:
        self.sent: list[Message] = []
        self.size = room
        self.retained = Retained(self)

    def room(self) -> int:
        return self.size - len(self.sent)

    def send(self, message: Message) -> int:
        self.sent.append(message)
        return len(self.sent)

    def payloads(self) -> list[tuple[str, bytes]]:
        assert all(message.retain for message in self.sent)
        return [(message.topic, message.payload) for message in self.sent]


def test_retained_sends_only_the_newest_payload_of_each_topic_after_open() -> None:
    wire = Wire()
    for payload in (b"1", b"2"):
        wire.retained.put("a", payload)
    wire.retained.put("b", b"3")
    assert wire.sent == []
    wire.retained.open()
    assert wire.payloads() == [("a", b"2"), ("b", b"3")]


def test_retained_sends_a_change_at_once_and_the_same_payload_only_on_repeat() -> None:
    wire = Wire()
    wire.retained.open()
    wire.retained.put("a", b"1")
    wire.retained.put("a", b"1")
    assert wire.payloads() == [("a", b"1")]
    wire.retained.repeat("a")
    assert wire.payloads() == [("a", b"1")] * 2


def test_retained_sends_everything_again_at_every_connect() -> None:
    wire = Wire()
    wire.retained.put("a", b"1")
    wire.retained.open()
    wire.retained.pause()
    wire.retained.put("a", b"2")
    wire.retained.open()
    assert wire.payloads() == [("a", b"1"), ("a", b"2")]


def test_retained_waits_for_an_acknowledgment_without_room() -> None:
    wire = Wire(room=1)
    wire.retained.open()
    wire.retained.put("a", b"1")
    wire.retained.put("b", b"2")
    assert wire.payloads() == [("a", b"1")]
    wire.size = 2
    wire.retained.pump()
    assert wire.payloads() == [("a", b"1"), ("b", b"2")]


def test_removal_is_sent_until_it_is_acknowledged() -> None:
    wire = Wire()
    wire.retained.put("a", b"1")
    wire.retained.remove("a")
    assert "a" not in wire.retained
    wire.retained.open()
    wire.retained.pause()
    wire.retained.open()
    assert wire.payloads() == [("a", b""), ("a", b"")]
    wire.retained.acknowledge(2)
    wire.retained.pause()
    wire.retained.open()
    assert len(wire.sent) == 2


def test_topic_put_again_before_its_removal_is_acknowledged_stays() -> None:
    wire = Wire()
    wire.retained.open()
    wire.retained.put("a", b"1")
    wire.retained.remove("a")
    wire.retained.put("a", b"2")
    wire.retained.acknowledge(2)
    assert "a" in wire.retained


def _found(*topics: str, payload: bytes = b"old") -> tuple[Wire, StaleTopics]:
    wire = Wire()
    wire.retained.put("e/pi/models/birds", b"{}")
    stale = StaleTopics(Identity("pi", "e", "boot", ("front",)), retained=wire.retained)
    for topic in topics:
        stale.take(Incoming(topic, payload, retained=True, response_topic=None, correlation=None, receipt=(0, 0, 0)))
    wire.retained.open()
    return wire, stale


def test_stale_topics_of_removed_cameras_and_models_are_removed_and_others_stay() -> None:
    wire, _ = _found(
        "e/pi/cameras/front/state", "e/pi/cameras/back/state", "e/pi/cameras/back/classification/x",
        "e/pi/models/birds", "e/pi/models/cats",
    )  # fmt: skip
    removed = {topic for topic, payload in wire.payloads() if not payload}
    assert removed == {"e/pi/cameras/back/state", "e/pi/cameras/back/classification/x", "e/pi/models/cats"}


def test_stale_label_of_another_model_is_removed_once_the_new_model_has_one() -> None:
    wire, stale = _found("e/pi/cameras/front/classification/old", "e/pi/cameras/front/classification/new")
    assert [payload for _, payload in wire.payloads()] == [b"{}"]
    stale.classified("front", "e/pi/cameras/front/classification/new")
    assert wire.payloads()[1:] == [("e/pi/cameras/front/classification/old", b"")]
    stale.classified("front", "e/pi/cameras/front/classification/newer")
    assert wire.payloads()[2:] == [("e/pi/cameras/front/classification/new", b"")]


def test_stale_topics_leave_those_of_other_devices_alone() -> None:
    wire, _ = _found("homeassistant/status", "e/piano/models/x", "other")
    assert [topic for topic, payload in wire.payloads() if not payload] == []


def test_stale_topics_keep_the_discovery_message_of_an_earlier_run() -> None:
    _, stale = _found("homeassistant/device/pi/config", payload=b"{...}")
    assert stale.discovery == b"{...}"
