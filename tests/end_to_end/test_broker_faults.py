"""The broker starts late, restarts or refuses the agent: classification and HTTP continue, and results arrive later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.mosquitto]

_RETAINED = {
    "status",
    "info",
    "models/digits",
    "cameras/front/status",
    "cameras/front/enabled",
    "cameras/front/state",
    "cameras/front/classification/digits",
}


def test_a_broker_that_starts_late_gets_every_result(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path, config="persistence true")
    with broker, Subscriber(broker.port, client_id="archive"):
        broker.stop()  # it keeps the subscription, so it collects every message after its next start
        with _agent_at(broker, tmp_path) as agent:
            wait_until(lambda: "cannot be reached" in agent.log, what="the missing broker is logged")
            first = agent.post("/predict", content=digit_png()).json()
            wait_until(lambda: agent.get("/readyz").is_success, what="the agent is ready without a broker")
            assert "edge_agent_mqtt_connected 0.0" in agent.get("/metrics").text
            broker.start()
            wait_until(lambda: "edge_agent_mqtt_connected 1.0" in agent.get("/metrics").text, what="it is connected")
            with Subscriber(broker.port, client_id="archive") as heard:
                wait_until(lambda: heard.of("/uploads/result"), what="the upload's result arrives")
                wait_until(lambda: len(heard.of("/front/result")) > 60, what="the camera's results arrive")
                assert heard.of("/uploads/result")[0].json["id"] == first["id"]
                backlog = [message.json["seq"] for message in heard.of("/result") if "replayed" in message.json]
                assert backlog == list(range(1, len(backlog) + 1))
                wait_until(lambda: _no_result_is_missing(heard), what="no result is missing")


def test_a_broker_that_restarts_without_its_data_gets_the_retained_topics_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, _agent_at(broker, tmp_path) as agent:
        with Subscriber(broker.port) as heard:
            wait_until(lambda: heard.of("/front/state"), what="the camera's state arrives")
            last = max(message.json["seq"] for message in heard.of("/front/result"))
        broker.kill()
        wait_until(lambda: "edge_agent_mqtt_connected 0.0" in agent.get("/metrics").text, what="the loss is noticed")
        assert agent.post("/predict", content=digit_png()).is_success
        broker.start()
        with Subscriber(broker.port) as heard:
            wait_until(lambda: _last_seq(heard) > last, what="results continue")
            wait_until(lambda: heard.of("homeassistant/device/test/config"), what="the discovery is published again")
        with Subscriber(broker.port) as late:
            own = {*(f"edge-agent/test/{topic}" for topic in _RETAINED), "homeassistant/device/test/config"}
            wait_until(lambda: late.retained().keys() == own, what="the retained topics are back")
            assert late.retained()["edge-agent/test/status"] == "online"


def test_a_wrong_password_is_reported_and_http_continues(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    secret = {"username": "pi", "password_file": "password"}
    with Mosquitto(tmp_path, users={"pi": "right"}) as broker, _agent_at(broker, tmp_path, **secret) as agent:
        wait_until(lambda: "refuses this agent" in agent.log, what="the refusal is logged")
        assert "Correct mqtt.username and mqtt.password_file" in agent.log
        assert "sesame" not in agent.log
        assert agent.post("/predict", content=digit_png()).is_success
        wait_until(lambda: agent.get("/readyz").is_success, what="the agent is ready without a broker")
        mqtt = agent.json("/readyz")["mqtt"]
        assert mqtt["state"] == "refused"
        assert "Correct mqtt.username and mqtt.password_file" in mqtt["reason"]
        assert "edge_agent_mqtt_connected 0.0" in agent.get("/metrics").text
        assert agent.end() < 5
        assert agent.process.returncode == 0


def test_the_agent_publishes_with_the_right_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("right\n")
    secret = {"username": "pi", "password_file": "password"}
    with (
        Mosquitto(tmp_path, users={"pi": "right"}) as broker,
        Subscriber(broker.port, username="pi", password="right") as heard,
        _agent_at(broker, tmp_path, **secret),
    ):
        wait_until(lambda: heard.of("/front/result"), what="results arrive")


def _no_result_is_missing(heard: Subscriber) -> bool:
    seqs = {message.json["seq"] for message in heard.of("/result")}
    return seqs == set(range(1, max(seqs) + 1))


def _last_seq(heard: Subscriber) -> int:
    return max((message.json["seq"] for message in heard.of("/result")), default=0)


def _agent_at(broker: Mosquitto, folder: Path, **mqtt: Any) -> RunningAgent:
    agent = RunningAgent(
        folder,
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port, **mqtt},
        cameras={"front": {"source": str(VIDEO), "loop": True, "model": "digits", "max_fps": 30}},
    )
    agent.drop(model_file(1))
    return agent
