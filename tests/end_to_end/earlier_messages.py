"""Earlier messages: what an agent without views sends over MQTT about two cameras, to compare releases.

`PYTHONPATH=tests .venv/bin/python -m end_to_end.earlier_messages`, run in a checkout of commit 3f05bc8, the last one
before views, wrote earlier_messages.json.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from agents.running_agent import VIDEO, RunningAgent, wait_until
from end_to_end.material import model_file
from peers.mosquitto import Mosquitto
from peers.subscriber import Subscriber

if TYPE_CHECKING:
    from peers.subscriber import Received

RECORDED = Path(__file__).with_suffix(".json")

_FRAMES = (0, 1, 2, 40, 41, 42)
_VARIES = re.compile(
    r'("(?:id|model|boot|captured_at|since|admitted_at|version|sw_version|runtime|workers|threads|sha256)": )'
    r'("[^"]*"|[0-9]+)|("timing_ms": )\{[^}]*\}'
)


def messages(folder: Path) -> dict[str, list[str]]:
    """By topic, in the order of arrival; what differs from run to run is left out."""
    pictures = folder / "pictures"
    pictures.mkdir()
    video = cv2.VideoCapture(str(VIDEO))
    frames = [video.read()[1] for _ in range(max(_FRAMES) + 1)]
    for number in _FRAMES:
        cv2.imwrite(str(pictures / f"{number:02d}.png"), frames[number])
    (folder / "models").mkdir()
    (folder / "models" / "digits.tflite").write_bytes(model_file(1))
    front = {"source": str(pictures), "max_fps": 20, "stable_frames": 2, "snapshots": True, "max_results": 2}
    cameras = {"front": front, "back": {"source": str(pictures), "enabled": False}}
    with Mosquitto(folder) as broker, Subscriber(broker.port) as heard:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        with RunningAgent(folder, cameras=cameras, mqtt=mqtt) as agent:
            wait_until(lambda: "ended" in heard.payloads("front/status"), what="the camera has ended")
            wait_until(lambda: len(heard.of("front/result")) == len(_FRAMES), what="all Results arrived")
            wait_until(lambda: len(heard.of("front/snapshot")) == 2, what="both snapshots arrived")
            wait_until(lambda: heard.of("/stats"), what="statistics arrived")
            agent.end()
        wait_until(lambda: heard.payloads("test/status")[-1:] == ["offline"], what="the agent said goodbye")
        received = heard.of("")
    topics = sorted({each.topic for each in received})
    return {topic: _without_repeats([_shown(each) for each in received if each.topic == topic]) for topic in topics}


def _without_repeats(payloads: list[str]) -> list[str]:
    """The agent may publish the same retained message again."""
    return [payload for number, payload in enumerate(payloads) if payload not in payloads[max(0, number - 1) : number]]


def _shown(message: Received) -> str:
    if message.topic.endswith("/snapshot"):
        image = cv2.imdecode(np.frombuffer(message.content, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return f"JPEG {image.shape[1]} x {image.shape[0]}"
    try:
        document: Any = json.loads(message.payload)
    except ValueError:
        return message.payload
    if not isinstance(document, dict):
        return message.payload
    if message.topic.endswith("/stats"):
        return " ".join(document)  # its numbers are those of the machine
    return _VARIES.sub(lambda found: f"{found[1] or found[3]}...", json.dumps(document))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(json.dumps(messages(Path(folder)), indent=1) + "\n", encoding="utf-8")
