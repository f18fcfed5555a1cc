"""The service with cameras on the network: how often it asks them, and what it shows of their passwords."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import model_file
from faults.scrape import scraped
from peers.http_camera import fixed, http_camera
from peers.mosquitto import Mosquitto, free_port
from peers.subscriber import Subscriber

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 80, np.uint8))[1].tobytes()


@pytest.mark.long
def test_still_is_requested_at_max_fps(tmp_path: Path) -> None:
    with http_camera({"/still": fixed(JPEG, "image/jpeg")}) as camera:
        front = {"source": camera.url("/still"), "max_fps": 4}
        with RunningAgent(tmp_path, cameras={"front": front}) as agent:
            agent.drop(model_file(1))
            wait_until(lambda: agent.json("/readyz")["ready"], what="the model serves, the camera is online")
            before, begun_s = camera.count("/still"), time.monotonic()
            wait_until(lambda: camera.count("/still") >= before + 6, what="the camera is asked again and again")
            assert time.monotonic() - begun_s > 5 / 4 - 0.2
            assert agent.json("/readyz")["ready"]


def test_still_scene_is_classified_until_its_state_is_stable_and_then_skipped(tmp_path: Path) -> None:
    with http_camera({"/still": fixed(JPEG, "image/jpeg")}) as camera:
        front = {"source": camera.url("/still"), "max_fps": 50, "motion": {"enabled": True}, "score_threshold": "auto"}
        with RunningAgent(tmp_path, cameras={"front": front}) as agent:
            agent.drop(model_file(1))

            def skipped() -> float:
                return sum(value for _, value in scraped(agent, "edge_agent_motion_skipped_total", camera="front"))

            wait_until(lambda: skipped() >= 10, what="frames are skipped")
            classified = scraped(agent, "edge_agent_camera_frames_total", camera="front", result="classified")
            assert [value for _, value in classified] == [3]
            (shown,) = agent.json("/api/status")["cameras"]
            assert shown["stable"]["since"] <= shown["result"]["captured_at"]
            assert agent.json("/readyz")["ready"]


@pytest.mark.mosquitto
def test_password_of_a_camera_appears_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("opensesame")
    refusing = fixed(b"no", "text/plain", code=401, WWW_Authenticate='Digest realm="cam", nonce="1"')
    film = fixed(b"\0\0\0\x18ftypisom" + bytes(500), "video/mp4")
    with (
        Mosquitto(tmp_path) as broker,
        Subscriber(broker.port) as heard,
        http_camera({"/a": refusing, "/b": film}) as web,
    ):
        user = "admin:opensesame@"
        cameras = {
            "refused": {"source": web.url("/a?pwd=opensesame", user)},
            "film": {"source": web.url("/b?pwd=opensesame", user)},
            "keys": {"source": web.url("/a"), "username": "admin", "password_file": "secret"},
            "off": {"source": f"rtsp://{user}127.0.0.1:{free_port()}/x"},
            "unknown": {"source": f"rtsp://{user}camera.invalid/x"},
        }
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        with RunningAgent(tmp_path, mqtt=mqtt, cameras=cameras, logging={"level": "debug"}) as agent:
            wait_until(
                lambda: sum(" is lost: " in reason for reason in agent.json("/readyz")["reasons"]) == 5,
                what="all cameras are lost",
            )
            wait_until(lambda: len(heard.of("/status")) >= 6, what="the states of the cameras are published")
            process = Path("/proc", str(agent.process.pid))
            shown = [agent.get("/readyz").text, agent.get("/metrics").text, (process / "cmdline").read_text()]
            shown += [str(message) for message in heard.of("")]
        shown += [agent.log]
    for text in shown:
        assert "opensesame" not in text
    assert "refused the user name or the password (status 401)" in agent.log
