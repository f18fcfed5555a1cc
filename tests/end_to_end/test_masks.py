"""A masked pixel never leaves: every way out of the agent is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import model_file
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from pathlib import Path

_LEFT_HALF = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
_SECRET = (40, 40, 255)  # of the left half, blue, green, red


def _shows_secret(jpeg: bytes) -> bool:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    blue, _, red = (picture[..., channel].astype(int) for channel in range(3))
    return bool((red - blue > 60).any())


def _camera(folder: Path, name: str, **keys: Any) -> dict[str, Any]:
    """Its picture changes the label of each view, so that there are snapshots."""
    pictures = folder / name
    pictures.mkdir()
    for number in range(2):
        picture = np.full((240, 320, 3), 90 + 90 * number, np.uint8)
        picture[:, :160] = _SECRET
        cv2.imwrite(str(pictures / f"{number}.png"), picture)
    shown = {"max_fps": 20, "stable_frames": 1, "snapshots": True, "score_threshold": 0, "collect": {"between": [0, 1]}}
    return {"source": str(pictures), "loop": True, **shown, **keys}


@pytest.mark.mosquitto
def test_masked_pixels_leave_the_agent_on_no_way(tmp_path: Path) -> None:
    views = {"left": {"region": [0, 0, 0.6, 1]}, "right": {"region": [0.4, 0, 1, 1]}}
    cameras = {
        "masked": _camera(tmp_path, "masked", masks=[_LEFT_HALF], views=views),
        "turned": _camera(tmp_path, "turned", masks=[_LEFT_HALF], rotate=90, mirror=True),
        "open": _camera(tmp_path, "open"),
    }
    spots = ["masked", "masked/views/left", "masked/views/right", "turned", "open"]
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        with RunningAgent(tmp_path, cameras=cameras, mqtt=mqtt, events={"enabled": True}) as agent:
            agent.drop(model_file(1))
            wait_until(lambda: all(heard.of(f"{spot}/snapshot") for spot in spots[1:]), what="all snapshots came")
            out = {f"snapshot of {spot} over MQTT": heard.of(f"{spot}/snapshot")[0].content for spot in spots[1:]}
            for spot in spots:
                out[f"picture of {spot}"] = agent.get(f"/api/cameras/{spot}/snapshot.jpg").content
            wait_until(lambda: len(_frames(agent, "events")) >= len(spots) - 1, what="each view has an event")
            wait_until(lambda: len(_frames(agent, "collection")) == len(spots) - 1, what="each view has a kept frame")
            for kind in ("events", "collection"):
                for path, name in _frames(agent, kind).items():
                    out[f"{kind} of {name}, {path}"] = agent.get(path).content
    assert {way.split(",")[0] for way, jpeg in out.items() if _shows_secret(jpeg)} == {
        "snapshot of open over MQTT",
        "picture of open",
        "events of open",
        "collection of open",
    }


def _frames(agent: RunningAgent, kind: str) -> dict[str, str]:
    """The path of each stored picture, with its camera."""
    if kind == "events":
        events = agent.json("/api/events")["events"]
        return {event["frame"].removeprefix(agent.url): event["camera"] for event in events if event["frame"]}
    frames = agent.json("/api/collection")["frames"]
    return {f"/api/collection/{frame['id']}.jpg": frame["camera"] for frame in frames}
