from __future__ import annotations

from agents.spots import unnamed

from agent.classification import Spot
from agent.mqtt.identity import Identity
from agent.mqtt.message import Incoming, Message
from agent.mqtt.retained import Retained
from agent.mqtt.stale_topics import StaleTopics


class FakeWindow:
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
    window = FakeWindow()
    for payload in (b"1", b"2"):
        window.retained.put("a", payload)
    window.retained.put("b", b"3")
    assert window.sent == []
    window.retained.open()
    assert window.payloads() == [("a", b"2"), ("b", b"3")]


def test_retained_sends_a_change_immediately_and_the_same_payload_only_on_repeat() -> None:
    window = FakeWindow()
    window.retained.open()
    window.retained.put("a", b"1")
    window.retained.put("a", b"1")
    assert window.payloads() == [("a", b"1")]
    window.retained.repeat("a")
    assert window.payloads() == [("a", b"1")] * 2


def test_retained_sends_everything_again_after_every_connect() -> None:
    window = FakeWindow()
    window.retained.put("a", b"1")
    window.retained.open()
    window.retained.pause()
    window.retained.put("a", b"2")
    window.retained.open()
    assert window.payloads() == [("a", b"1"), ("a", b"2")]


def test_retained_waits_for_an_acknowledgment_when_the_window_is_full() -> None:
    window = FakeWindow(room=1)
    window.retained.open()
    window.retained.put("a", b"1")
    window.retained.put("b", b"2")
    assert window.payloads() == [("a", b"1")]
    window.size = 2
    window.retained.pump()
    assert window.payloads() == [("a", b"1"), ("b", b"2")]


def test_removal_is_sent_until_it_is_acknowledged() -> None:
    window = FakeWindow()
    window.retained.put("a", b"1")
    window.retained.remove("a")
    assert "a" not in window.retained
    window.retained.open()
    window.retained.pause()
    window.retained.open()
    assert window.payloads() == [("a", b""), ("a", b"")]
    window.retained.acknowledge(2)
    window.retained.pause()
    window.retained.open()
    assert len(window.sent) == 2


def test_topic_stays_when_it_is_put_again_before_its_removal_is_acknowledged() -> None:
    window = FakeWindow()
    window.retained.open()
    window.retained.put("a", b"1")
    window.retained.remove("a")
    window.retained.put("a", b"2")
    window.retained.acknowledge(2)
    assert "a" in window.retained


def _take(stale: StaleTopics, topic: str, payload: bytes = b"old") -> None:
    stale.take(Incoming(topic, payload, retained=True, response_topic=None, correlation=None, receipt=(0, 0, 0)))


def _found(*topics: str, payload: bytes = b"old") -> tuple[FakeWindow, StaleTopics]:
    window = FakeWindow()
    window.retained.put("e/pi/models/birds", b"{}")
    stale = StaleTopics(
        Identity("pi", "e", "boot", unnamed("front")), cameras=unnamed("front"), retained=window.retained
    )
    for topic in topics:
        _take(stale, topic, payload)
    window.retained.open()
    return window, stale


def test_stale_topics_of_former_cameras_and_models_are_removed_and_others_stay() -> None:
    window, _ = _found(
        "e/pi/cameras/front/state", "e/pi/cameras/back/state", "e/pi/cameras/back/classification/x",
        "e/pi/models/birds", "e/pi/models/cats",
    )  # fmt: skip
    removed = {topic for topic, payload in window.payloads() if not payload}
    assert removed == {"e/pi/cameras/back/state", "e/pi/cameras/back/classification/x", "e/pi/models/cats"}


def test_stale_topics_of_former_views_are_removed_and_those_of_others_stay() -> None:
    window = FakeWindow()
    spots = {"front": (Spot("front", "door"),)}
    stale = StaleTopics(Identity("pi", "e", "boot", spots), cameras=spots, retained=window.retained)
    topics = [f"cameras/front/{part}" for part in ("state", "status", "classification/x")]
    topics += [
        f"cameras/front/views/{view}/{part}" for view in ("door", "gate") for part in ("state", "classification/x")
    ]
    for topic in topics:
        _take(stale, f"e/pi/{topic}")
    window.retained.open()
    removed = {topic.removeprefix("e/pi/cameras/front/") for topic, payload in window.payloads() if not payload}
    assert removed == {"state", "classification/x", "views/gate/state", "views/gate/classification/x"}


def test_stale_profile_is_removed_unless_there_are_profiles() -> None:
    window, stale = _found("e/pi/profile")
    assert ("e/pi/profile", b"") in window.payloads()
    assert "e/pi/profile" in stale.filters


def test_stale_label_of_another_model_is_removed_once_the_new_model_has_one() -> None:
    window, stale = _found("e/pi/cameras/front/classification/old", "e/pi/cameras/front/classification/new")
    assert [payload for _, payload in window.payloads()] == [b"{}"]
    stale.classified(Spot("front"), "e/pi/cameras/front/classification/new")
    assert window.payloads()[1:] == [("e/pi/cameras/front/classification/old", b"")]
    stale.classified(Spot("front"), "e/pi/cameras/front/classification/newer")
    assert window.payloads()[2:] == [("e/pi/cameras/front/classification/new", b"")]


def test_stale_topics_keeps_the_topics_of_other_devices() -> None:
    window, _ = _found("homeassistant/status", "e/piano/models/x", "other")
    assert [topic for topic, payload in window.payloads() if not payload] == []


def test_stale_topics_keeps_the_discovery_message_of_an_earlier_run() -> None:
    _, stale = _found("homeassistant/device/pi/config", payload=b"{...}")
    assert stale.discovery == b"{...}"
