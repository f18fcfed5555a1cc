"""The service with an inbox: every image gets exactly one answer, whatever happens to the agent."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import digit_png, model_file
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


def ids(inbox: Path) -> set[str]:
    """Of the Results in the answers."""
    return {answer["id"] for path in inbox.glob("*.json") if "id" in (answer := json.loads(path.read_bytes()))}


@pytest.mark.mosquitto
def test_images_are_classified_once_although_the_agent_is_stopped_and_killed(tmp_path: Path) -> None:
    inbox, damaged = tmp_path / "inbox", b"\xff\xd8\xff damaged"
    inbox.mkdir()
    front = {"source": "inbox:inbox", "max_fps": 100}
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:

        def published() -> set[str]:
            return {message.json["id"] for message in heard.of("/front/result")}

        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        with RunningAgent(tmp_path, mqtt=mqtt, cameras={"front": front}) as agent:
            for number in range(100):
                (inbox / f"{number}.png").write_bytes(digit_png())
            (inbox / "damaged.jpg").write_bytes(damaged)
            wait_until(lambda: "Camera front is waiting" in agent.get("/readyz").text, what="the images wait")
            assert not [*inbox.glob("*.json")]
            agent.drop(model_file(1))
            wait_until(lambda: len(ids(inbox)) > 20, what="some images are classified")
            agent.end(signal.SIGTERM)
            stopped = ids(inbox)
            assert len(stopped) < 80
            wait_until(lambda: published() == stopped, what="the Results are published")
            agent.restart()
            wait_until(lambda: len(ids(inbox)) > len(stopped) + 10, what="more images are classified")
            agent.end(signal.SIGKILL)
            assert stopped < ids(inbox)
            assert len(ids(inbox)) < 100
            agent.restart()
            wait_until(lambda: len([*inbox.glob("*.json")]) == 101, what="each image has its answer")
            wait_until(lambda: len(published() & ids(inbox)) >= 99, what="the Results are published")
            assert "The image is" in json.loads((inbox / "damaged.jpg.json").read_bytes())["error"]
            assert len(ids(inbox)) == 100
            # The kill came between a Result and its answer at most once.
            assert len(published() | ids(inbox)) <= 101
            assert agent.json("/readyz")["ready"]
    labels = {json.loads(path.read_bytes())["categories"][0]["label"] for path in inbox.glob("*.png.json")}
    assert labels == {"3"}
    assert not [path for path in inbox.iterdir() if not re.fullmatch(r"(\d+\.png|damaged\.jpg)(\.json)?", path.name)]
