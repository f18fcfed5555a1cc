"""Profiles: settings of cameras that the clock or a person changes while the agent runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from agents.running_agent import DIGITS, VIDEO, RunningAgent, wait_until
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.mosquitto]

_CAMERA = {"source": str(VIDEO), "loop": True}
_PROFILES: dict[str, Any] = {
    "always": {"when": "00:00-24:00", "cameras": {"hall": {"enabled": False}}},
    "strict": {"cameras": {"front": {"score_threshold": 1.0}}},
}


def _labels(agent: RunningAgent) -> list[str]:
    """Those of the newest Result of the camera `front`."""
    result = agent.json("/api/cameras/front")["result"] or {"categories": []}
    return [category["label"] for category in result["categories"]]


def test_profile_follows_the_clock_until_one_is_chosen_and_a_reload_reads_it_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        mqtt = {"enabled": True, "port": broker.port}
        cameras = {"front": _CAMERA, "hall": _CAMERA}
        with RunningAgent(tmp_path, mqtt=mqtt, cameras=cameras, profiles=_PROFILES) as agent:
            agent.drop(DIGITS.read_bytes())
            wait_until(lambda: _labels(agent), what="front has a label")
            assert agent.json("/api/cameras/hall")["state"] == "disabled"
            assert agent.json("/api/status")["profile"]["active"] == "always"

            assert agent.post("/api/profile", json={"profile": "strict"}).json()["active"] == "strict"
            wait_until(lambda: not _labels(agent), what="no score reaches the threshold")
            wait_until(lambda: heard.payloads("/hall/status")[-1:] == ["online"], what="hall is on")

            heard.publish("edge-agent/test/profile/set", b"auto")
            wait_until(lambda: _labels(agent), what="the configuration's threshold counts again")
            wait_until(lambda: heard.payloads("/hall/enabled")[-1:] == ["OFF"], what="hall is off")
            assert [message.json["active"] for message in heard.of("test/profile")] == ["always", "strict", "always"]

            path = tmp_path / "agent.yaml"
            profiles = {"always": {"when": "00:00-24:00", "cameras": {"front": {"score_threshold": 1.0}}}}
            path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "profiles": profiles}))
            agent.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not _labels(agent), what="the profile has its new threshold")
            wait_until(lambda: heard.payloads("/hall/enabled")[-1:] == ["ON"], what="hall is on again")
            assert heard.payloads("/front/status").count("starting") == 1
            assert "Profile: always (by the clock)." in agent.log
