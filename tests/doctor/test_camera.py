from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from agents.fake_agent import FakeModels, rest_app
from agents.running_agent import RunningAgent, wait_until
from end_to_end.material import model_file
from peers.http_camera import fixed, http_camera
from peers.mosquitto import free_port
from peers.web_server import serving
from sources.footage import write_image, write_video

from agent.config.camera import CameraSection
from agent.config.camera_source import CommandSection
from agent.doctor.camera import check_camera
from agent.security.access import AccessRules
from agent.security.tokens import TokensFile

if TYPE_CHECKING:
    from pathlib import Path

    from peers.http_camera import Viewer

JPEG = cv2.imencode(".jpg", np.full((48, 64, 3), 80, np.uint8))[1].tobytes()


def fact(source: str) -> str:
    finding = check_camera("front", CameraSection(source=source))
    assert finding.level == "fault"
    assert finding.remedy
    return finding.fact


def test_camera_is_ok_only_if_it_gives_a_picture(tmp_path: Path) -> None:
    empty, film = tmp_path / "empty", write_video(tmp_path / "film.avi", frames=2)
    empty.mkdir()
    write_image(tmp_path / "a.png", 50)
    with http_camera({"/still": fixed(JPEG, "image/jpeg"), "/page": fixed(b"<html>", "text/html")}) as camera:
        for source in (str(tmp_path), str(film), camera.url("/still")):
            finding = check_camera("front", CameraSection(source=source, max_fps=1), measured_s=0.3)
            assert finding.level == "ok", finding
            assert finding.fact.startswith("gave a picture of 64 x 48 pixels")
        assert "is a web page or text" in fact(camera.url("/page"))
        assert "does not exist (status 404)" in fact(camera.url("/typo"))
    assert "has no readable images" in fact(str(empty))
    assert "does not exist" in fact(str(tmp_path / "none.mp4"))


def test_command_is_ok_if_it_gives_pictures_and_a_fault_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    run = ["/bin/sh", "-c", f"while cat {tmp_path}/a.jpg; do sleep 0.02; done"]
    finding = check_camera("front", CameraSection(command=CommandSection(run=run)), measured_s=0.3)
    assert finding.level == "ok", finding
    assert "64 x 48 pixels" in finding.fact
    assert "frames/s" in finding.fact
    finding = check_camera("front", CameraSection(command=CommandSection(run=["rpicam-vidd"])))
    assert finding.level == "fault"
    assert finding.fact.startswith("The program rpicam-vidd is not installed, or not in PATH. Install it,")


def test_inbox_is_ok_if_its_folders_can_be_used_and_no_image_is_taken(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 50)
    finding = check_camera("front", CameraSection(source=f"inbox:{tmp_path}"))
    assert (finding.level, finding.fact) == ("ok", f"may take images from {tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert "none does not exist. Create it" in fact(f"inbox:{tmp_path}/none")
    finding = check_camera("front", CameraSection(source=f"inbox:{tmp_path}", after=f"move:{tmp_path}/done"))
    assert (finding.level, finding.fact) == (
        "fault",
        f"{tmp_path}/done does not exist. Create it, or correct the camera's after.",
    )


def _jpeg(level: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()


@pytest.mark.parametrize(("level", "fact", "remedy"), [(2, "Too dark: ", "Uncover"), (254, "Too bright: ", "Turn it")])
def test_camera_with_a_useless_picture_is_a_warning(level: int, fact: str, remedy: str) -> None:
    with http_camera({"/still": fixed(_jpeg(level), "image/jpeg")}) as camera:
        finding = check_camera("front", CameraSection(source=camera.url("/still")), measured_s=0.1)
    assert finding.level == "warning"
    assert finding.fact.startswith(f"{fact}gave a picture of 64 x 48 pixels, ")
    assert finding.remedy is not None
    assert finding.remedy.startswith(remedy)


def test_camera_slower_than_configured_is_a_warning_with_the_measured_rate() -> None:
    def slow(viewer: Viewer) -> None:
        time.sleep(0.1)  # the camera's own rate: at most 10 per second
        fixed(JPEG, "image/jpeg")(viewer)

    with http_camera({"/still": slow}) as camera:
        url = camera.url("/still")
        assert check_camera("front", CameraSection(source=url, max_fps=1), measured_s=0.6).level == "ok"
        finding = check_camera("front", CameraSection(source=url, max_fps=30), measured_s=0.6)
    assert finding.level == "warning"
    rate = re.fullmatch(
        r"Slower than the 30 frames/s that are configured: gave a picture of 64 x 48 pixels, (\S+) frames/s, "
        r"brightness 31%, \d+ ms after its arrival\.",
        finding.fact,
    )
    assert rate is not None, finding.fact
    assert 0 < float(rate[1]) <= 14


def test_camera_is_a_fault_when_it_cannot_be_reached() -> None:
    assert "/dev/video99 does not exist" in fact("99")
    port = free_port()
    assert f"127.0.0.1:{port}/s does not answer" in fact(f"rtsp://127.0.0.1:{port}/s")
    assert "sesame" not in fact(f"http://admin:sesame@127.0.0.1:{port}/x?pwd=sesame")


def test_camera_is_a_fault_when_its_password_file_cannot_be_read(tmp_path: Path) -> None:
    camera = CameraSection(source="http://127.0.0.1:9/x", username="admin", password_file=tmp_path)
    finding = check_camera("front", camera)
    assert finding.level == "fault"
    assert f"password_file {tmp_path} cannot be read: Is a directory." in finding.fact


def test_camera_is_ok_when_the_running_agent_gets_its_pictures(tmp_path: Path) -> None:
    with http_camera({"/still": fixed(JPEG, "image/jpeg")}) as camera:
        source = camera.url("/still")
        with RunningAgent(tmp_path, cameras={"front": {"source": source}}) as agent:
            agent.drop(model_file(1))
            wait_until(lambda: agent.json("/readyz")["ready"], what="the camera is online")
            camera.answers["/still"] = fixed(b"", None, code=404)
            finding = check_camera("front", CameraSection(source=source), agent_url=agent.url)
            assert (finding.level, finding.fact) == ("ok", "gives pictures to the running agent")
            assert check_camera("back", CameraSection(source=source), agent_url=agent.url).level == "fault"


def test_camera_that_does_not_open_is_a_warning_when_the_running_agent_needs_a_token(tmp_path: Path) -> None:
    rules = AccessRules(tokens=TokensFile(tmp_path / "tokens", is_required=True), is_local=True)
    with serving(rest_app(FakeModels(), access=rules)) as port:
        finding = check_camera("front", CameraSection(source="99"), agent_url=f"http://127.0.0.1:{port}")
    assert (finding.level, finding.fact[:32]) == ("warning", "The running agent may have it op")
    assert finding.remedy == "Give a token with the scope read: sudo edge-agent doctor --token-file FILE"
