"""The service with recorded events: over HTTP, as server-sent events, over MQTT, and after it was killed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

from agent.image import decode, image_size

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.first, pytest.mark.mosquitto]


def agent_with_events(folder: Path, broker: Mosquitto, **camera: Any) -> RunningAgent:
    front = {"source": str(VIDEO), "loop": True, "model": "digits", **camera}
    agent = RunningAgent(
        folder,
        events={"enabled": True},
        mqtt={"enabled": True, "host": "127.0.0.1", "port": broker.port},
        cameras={"front": front},
    )
    agent.drop(DIGITS.read_bytes())
    return agent


def stored(agent: RunningAgent, query: str = "") -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = agent.json(f"/api/events{query}")["events"]
    return events


def test_events_are_stored_sent_and_published_alike(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard, agent_with_events(tmp_path, broker) as agent:
        with httpx.stream("GET", f"{agent.url}/api/live", timeout=20, trust_env=False) as live:
            lines = iter(live.iter_lines())
            assert any(line == "event: event" for line in lines)
            assert '"type":"' in next(lines)
        wait_until(
            lambda: [each for each in heard.of("/cameras/front/event") if each.json["type"] == "end"],
            what="an event has ended over MQTT",
        )
        messages = [each.json for each in heard.of("/cameras/front/event")]
        assert not any(each.retained for each in heard.of("/cameras/front/event"))
        ended = next(each for each in messages if each["type"] == "end")
        assert agent.json(f"/api/events/{ended['id']}") == ended
        types = [each["type"] for each in messages if each["id"] == ended["id"]]
        assert (types[0], types[-1]) == ("begin", "end")
        assert ended["best"]["categories"][0]["label"] == ended["label"]
        assert 0 < ended["duration_s"] < 20
        frame = agent.get(ended["frame"]).content
        assert image_size(frame)[0] > 0
        assert ended["id"] in [each["id"] for each in stored(agent, f"?label={ended['label']}")]
        newest = stored(agent, "?limit=2")
        assert newest[0]["started_at"] >= newest[1]["started_at"]
        lines = iter(agent.get("/api/events.csv").text.splitlines())
        assert next(lines).startswith("id,camera,")
        assert any(line.startswith(ended["id"]) for line in lines)
        assert ended["label"] in [each["label"] for each in agent.json("/api/events/counts")["counts"]]
        assert agent.json("/api/status")["records_events"]


@pytest.mark.long
def test_events_of_a_killed_agent_have_ended_after_the_next_start(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        with agent_with_events(tmp_path, broker) as agent:
            wait_until(lambda: len(stored(agent)) >= 3, what="events are stored")
            wait_until(
                lambda: (tmp_path / "state/events/events.db-wal").stat().st_size > 0, what="the first commit is done"
            )
            agent.end(signal.SIGKILL)
        with agent_with_events(tmp_path, broker, enabled=False) as agent:
            found = stored(agent)
            assert {each["type"] for each in found} == {"end"}
            assert agent.get(found[-1]["frame"]).status_code == 200


@pytest.mark.long
def test_a_stop_ends_the_events_and_announces_it(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard, agent_with_events(tmp_path, broker) as agent:
        wait_until(lambda: heard.of("/cameras/front/event"), what="an event has begun")
        agent.end()
        messages = [each.json for each in heard.of("/cameras/front/event")]
        assert messages[-1]["type"] == "end"
        begun = {each["id"] for each in messages}
        assert begun == {each["id"] for each in messages if each["type"] == "end"}
        assert "Traceback" not in agent.log


def test_a_masked_pixel_is_in_no_frame(tmp_path: Path) -> None:
    everything = [[0, 0], [1, 0], [1, 1], [0, 1]]
    with Mosquitto(tmp_path) as broker, agent_with_events(tmp_path, broker, masks=[everything]) as agent:
        wait_until(lambda: stored(agent), what="an event has begun, of whatever the model says of a black picture")
        frame = agent.get(stored(agent)[0]["frame"]).content
        assert not decode(frame).pixels.any()
