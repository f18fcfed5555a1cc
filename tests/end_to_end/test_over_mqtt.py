"""Requests and commands to a running agent over MQTT, and the topics other than results."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import ROOT, VIDEO, RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from events.made import an_event
from paho.mqtt import publish
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

from agent.image import image_size
from agent.mqtt.outbox.gaps import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.first, pytest.mark.mosquitto]

_BASE = "edge-agent/test"
_SHARED = "$share/workers/edge-agent/classify"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def everything(broker: Mosquitto) -> Iterator[Subscriber]:
    """All messages of the agent since its start: it publishes statistics every 30 s only."""
    with Subscriber(broker.port, topics=f"{_BASE}/#") as everything:
        yield everything


@pytest.fixture(scope="module")
def agent(
    broker: Mosquitto, everything: Subscriber, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningAgent]:
    with _agent(broker, tmp_path_factory.mktemp("agent"), "test") as agent:
        wait_until(lambda: agent.get("/readyz").is_success, what="the agent is ready")
        yield agent


@pytest.fixture
def heard(broker: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(broker.port) as heard:
        yield heard


def _agent(broker: Mosquitto, folder: Path, device: str) -> RunningAgent:
    agent = RunningAgent(
        folder,
        device={"id": device},
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port, "shared_classify": _SHARED},
        cameras={"front": {"source": str(VIDEO), "loop": True, "model": "digits", "snapshots": True}},
    )
    agent.drop(model_file(1))
    return agent


def _documented_request(broker: Mosquitto, image: Path) -> None:
    """The command of docs/reference/mqtt.md, with a picture and a port of this test."""
    lines = (ROOT / "docs/reference/mqtt.md").read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("mosquitto_pub ")]
    line = command.replace("1883", str(broker.port)).replace("demo/digit.jpg", str(image)).replace("pi-1", "test")
    subprocess.run(["bash", "-c", line], check=True, timeout=20)


@pytest.mark.usefixtures("agent")
@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="apt install mosquitto-clients")
def test_an_image_is_classified_by_the_documented_command(broker: Mosquitto, heard: Subscriber, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(digit_png())
    _documented_request(broker, tmp_path / "digit.png")
    wait_until(lambda: heard.of("my/answers"), what="the answer arrives")
    answer = heard.of("my/answers")[0].json
    assert (answer["device"], answer["source"], answer["model"]["name"]) == ("test", "upload", "digits")
    wait_until(lambda: heard.of("/uploads/result"), what="it is published as the result of an upload")
    assert heard.of("/uploads/result")[0].json == answer
    (tmp_path / "digit.png").write_bytes(b"no image")
    _documented_request(broker, tmp_path / "digit.png")
    wait_until(lambda: len(heard.of("my/answers")) == 2, what="bytes that are not an image are answered")
    assert heard.of("my/answers")[1].json.keys() == {"error"}


@pytest.mark.usefixtures("agent")
def test_a_json_request_over_mqtt_3_1_1_is_answered(broker: Mosquitto, heard: Subscriber) -> None:
    request = {"image": base64.b64encode(digit_png()).decode(), "reply_to": "my/answers", "correlation": "7"}
    _publish(broker, f"{_BASE}/classify", json.dumps(request))
    wait_until(lambda: heard.of("my/answers"), what="the answer arrives")
    answer = heard.of("my/answers")[0].json
    assert (answer["correlation"], answer["source"]) == ("7", "upload")
    _publish(broker, f"{_BASE}/classify", json.dumps({**request, "model": "cats"}))
    wait_until(lambda: len(heard.of("my/answers")) == 2, what="an unknown model is answered")
    assert "cats" in heard.of("my/answers")[1].json["error"]


@pytest.mark.long
def test_requests_on_a_shared_topic_are_distributed_among_agents(
    agent: RunningAgent, broker: Mosquitto, heard: Subscriber, tmp_path: Path
) -> None:
    with _agent(broker, tmp_path, "second") as second:
        wait_until(lambda: second.get("/readyz").is_success, what="the second agent is ready")
        wait_until(lambda: heard.payloads("second/status") == ["online"], what="it is connected to the broker")
        image = base64.b64encode(digit_png()).decode()
        messages: list[Any] = [
            (
                "edge-agent/classify",
                json.dumps({"image": image, "reply_to": "my/work", "correlation": number}),
                1,
                False,
            )
            for number in range(40)
        ]
        publish.multiple(messages, hostname="127.0.0.1", port=broker.port)
        wait_until(lambda: len(heard.of("my/work")) == 40, what="all are answered")
        answers = [message.json for message in heard.of("my/work")]
        assert sorted(answer["correlation"] for answer in answers) == list(range(40))
        by_device = [answer["device"] for answer in answers]
        assert by_device.count("test") >= 10
        assert by_device.count("second") >= 10
        assert agent.get("/healthz").is_success


def test_a_camera_is_switched_off_and_on(agent: RunningAgent, broker: Mosquitto, heard: Subscriber) -> None:
    _publish(broker, f"{_BASE}/cameras/front/enabled/set", "OFF")
    wait_until(lambda: heard.payloads("front/enabled")[-1:] == ["OFF"], what="it is off")
    wait_until(lambda: heard.payloads("front/status")[-1:] == ["disabled"], what="its status says so")
    assert agent.get("/readyz").is_success, "a camera that is off does not keep the agent from being ready"
    seen = len(heard.of("front/result"))
    _publish(broker, f"{_BASE}/cameras/front/enabled/set", "on?")
    _publish(broker, f"{_BASE}/cameras/unknown/enabled/set", "ON")
    wait_until(
        lambda: agent.log.count("send ON or OFF, for a camera of the configuration") == 2,
        what="the invalid commands are logged",
    )
    assert len(heard.of("front/result")) <= seen + 1, "one may have been in flight"
    _publish(broker, f"{_BASE}/cameras/front/enabled/set", "ON")
    wait_until(lambda: heard.payloads("front/status")[-2:] == ["starting", "online"], what="it is on")
    wait_until(lambda: len(heard.of("front/result")) > seen + 5, what="results continue")
    assert heard.payloads("front/enabled")[-1] == "ON"


@pytest.mark.usefixtures("agent")
def test_a_picture_is_published_with_a_change_of_state(broker: Mosquitto) -> None:
    with Subscriber(broker.port, topics=f"{_BASE}/cameras/front/snapshot") as heard:
        wait_until(lambda: heard.of("front/snapshot"), what="a picture arrives")
        assert image_size(heard.of("front/snapshot")[0].content) == (320, 320)


@pytest.mark.usefixtures("agent")
def test_statistics_are_published(everything: Subscriber) -> None:
    stats = _statistics(everything)
    assert stats["latency_ms"]["p50"] <= stats["latency_ms"]["p99"]
    assert stats["outbox"] == {"messages": stats["outbox"]["messages"], "bytes": 0, "evicted": 0, "trouble": None}


def test_home_assistant_discovers_the_camera_and_new_labels(
    agent: RunningAgent, broker: Mosquitto, heard: Subscriber
) -> None:
    topic = "homeassistant/device/test/config"
    wait_until(lambda: heard.of(topic), what="the discovery arrives")
    components = heard.of(topic)[-1].json["components"]
    assert {component["platform"] for component in components.values()} >= {"sensor", "switch", "image", "update"}
    _publish(broker, "homeassistant/status", "online")
    wait_until(lambda: len(heard.of(topic)) == 2, what="the birth message of Home Assistant is answered")
    agent.drop(model_file(1, labels=tuple(f"number {n}" for n in range(10))))
    wait_until(lambda: "number 7" in heard.payloads(topic)[-1], what="the new labels are published")


@pytest.mark.usefixtures("agent")
def test_the_documented_payloads_have_the_fields_of_real_ones(everything: Subscriber) -> None:
    assert _statistics(everything)
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs/reference/mqtt.md").read_text(), re.DOTALL)
    result, state, event, info, stats, gap = map(json.loads, blocks[:6])
    for document, topic in ((result, "/front/result"), (state, "/state"), (info, "/info"), (stats, "/stats")):
        wait_until(partial(everything.of, topic), what=f"a message of {topic}")
        assert _fields(document) == _fields(everything.of(topic)[-1].json)
    assert _fields(event) == _fields(an_event("robin").to_json())
    assert gap.keys() == Gap("boot", 1, 2, 2, "memory").to_json().keys()


def _statistics(everything: Subscriber) -> Any:
    """The first statistics with frames of the camera."""

    def with_frames() -> list[Any]:
        published = [message.json for message in everything.of("/stats")]
        return [stats for stats in published if stats["frames_per_s"]["front"] > 0]

    wait_until(with_frames, timeout_s=40, what="statistics with frames arrive")
    return with_frames()[0]


def _fields(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _fields(value) for key, value in document.items()}
    return None


def _publish(broker: Mosquitto, topic: str, payload: str) -> None:
    publish.single(topic, payload, qos=1, hostname="127.0.0.1", port=broker.port)


@pytest.mark.long
def test_topics_of_a_renamed_device_are_removed(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        for name in ("before", "after"):
            with _agent(broker, tmp_path, name) as agent:
                remembered = tmp_path / "state" / "base_topic"
                wait_until(
                    lambda: remembered.exists() and remembered.read_text() == f"edge-agent/{name}\n",  # noqa: B023
                    what="the name is remembered",
                )
                agent.end()
        wait_until(lambda: heard.payloads("/before/status")[-1:] == [""], what="the former status is removed")
        for topic in ("/before/info", "/before/models/digits", "/before/cameras/front/state", "/before/config"):
            assert heard.payloads(topic)[-1] == ""
        assert heard.payloads("/after/status")[-1] == "offline"
