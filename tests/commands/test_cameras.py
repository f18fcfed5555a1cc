from __future__ import annotations

import builtins
import errno
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from agents.shell import Shell
from peers.onvif_camera import PASSWORD, USER, onvif_camera
from sources.fake_v4l2 import Board, FakeDriver, webcam

from agent.config.load import load_config
from agent.sources import devices, discovery

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


@pytest.fixture(autouse=True)
def _no_camera_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_devices", list)
    monkeypatch.setattr(devices, "csi_stack", lambda: None)


def _plug_in(monkeypatch: pytest.MonkeyPatch, folder: Path, drivers: Mapping[int, FakeDriver | OSError]) -> None:
    listed = Board(folder, drivers).devices()
    monkeypatch.setattr(devices, "list_devices", lambda: listed)


def _accepted(lines: str, folder: Path) -> dict[str, Any]:
    """The source, size and format of each camera in the printed lines, which the configuration accepts."""
    path = folder / "agent.yaml"
    path.write_text(lines[lines.index("cameras:") :].replace(f"{folder}/dev/", "/dev/"))
    return {name: (each.source, each.size, each.format) for name, each in load_config(path).cameras.items()}


def test_cameras_prints_a_table_and_lines_that_the_configuration_accepts(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _plug_in(monkeypatch, tmp_path, {0: webcam(), 2: webcam()})
    assert shell.run("cameras") == 0
    lines = [line.split() for line in shell.out.splitlines()]
    node = str(tmp_path / "dev/video0")
    assert ["HD", "Webcam", node, "mjpeg", "1280x720", "30,", "15"] in lines
    assert ["HD", "Webcam", node, "yuyv", "1280x720", "10,", "7.5"] in lines
    assert ["HD", "Webcam", "exposure_time_absolute", "1", "to", "5000", "0"] in lines
    assert _accepted(shell.out, tmp_path) == {
        "hd-webcam": ("/dev/video0", (1280, 720), "mjpeg"),
        "hd-webcam-2": ("/dev/video2", (1280, 720), "mjpeg"),
    }


def test_cameras_prints_json(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _plug_in(monkeypatch, tmp_path, {0: webcam()})
    answer = shell.json("cameras")
    (device,) = answer["devices"]
    assert device["formats"][0]["format"] == "mjpeg"
    assert device["formats"][0]["sizes"][1] == {"width": 640, "height": 480, "rates": [30.0]}
    assert device["controls"][1]["menu"] == {"1": "Manual Mode", "3": "Aperture Priority Mode"}
    assert answer["configuration"] == {"hd-webcam": {"source": device["source"], "size": "1280x720", "format": "mjpeg"}}
    assert (answer["csi"], answer["network"]) == (None, None)


def test_cameras_says_what_to_do_without_a_camera_or_permission(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shell.run("cameras") == 0
    assert shell.err.startswith("No camera is plugged in. Plug a USB camera in and run the command again;")
    _plug_in(monkeypatch, tmp_path, {0: OSError(errno.EACCES, "Permission denied")})
    assert shell.run("cameras") == 1
    assert "/dev/video0. Run the command with sudo, or add this user to the group video." in shell.err
    assert _accepted(shell.out, tmp_path) == {"old-webcam": ("/dev/video0", None, None)}


def test_cameras_says_whether_a_csi_camera_can_be_read(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "csi_stack", lambda: ("rpicam-vid", False))
    assert shell.run("cameras") == 0
    assert "rpicam-vid is installed, but /dev/media* does not exist, so a CSI" in shell.out
    monkeypatch.setattr(devices, "csi_stack", lambda: ("rpicam-vid", True))
    assert shell.run("cameras") == 0
    assert "This board reads CSI cameras with rpicam-vid; `csi:1` is its second camera." in shell.out
    assert _accepted(shell.out, tmp_path) == {"csi": ("csi", None, None)}


def test_discover_prints_the_streams_of_a_network_camera_without_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    command = [sys.executable, "-m", "agent.cli", "cameras", "--discover", "--json"]
    with onvif_camera("Yard%20gate", has_services=False) as camera:
        login = ["--username", USER, "--password-file", str(password)]
        ran = subprocess.run([*command, *login], capture_output=True, text=True, check=False)
        assert "GetCapabilities" in camera.operations
    assert "Traceback" not in ran.stderr
    answer = json.loads(ran.stdout)
    (seen,) = [each for each in answer["network"] if each["port"] == camera.port]
    assert (seen["name"], seen["address"], seen["trouble"]) == ("Yard gate IPC-1", "127.0.0.1", None)
    assert [(each["name"], each["width"], each["height"], each["fps"]) for each in seen["profiles"]] == [
        ("main", 1920, 1080, 25),
        ("sub", 640, 360, 25),
    ]
    assert answer["configuration"]["yard-gate-ipc-1"] == {
        "source": "rtsp://127.0.0.1:8554/main?channel=1&pwd=***",
        "username": USER,
        "password_file": str(password),
    }
    assert "same" not in ran.stdout
    assert _accepted(yaml.safe_dump({"cameras": answer["configuration"]}), tmp_path)


def test_discover_prints_the_streams_of_a_camera_that_answers_only_media2(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    with onvif_camera("Yard", has_media2=True) as camera:
        found = [discovery.Announced("127.0.0.1", camera.port, "http", "Yard")]
        monkeypatch.setattr(discovery, "discover", lambda: found)
        assert shell.run("cameras", "--discover", "--json", "--username", USER, "--password-file", password) == 0
    ((profile,),) = [each["profiles"] for each in json.loads(shell.out)["network"]]
    assert profile == {
        "name": "main",
        "encoding": "H265",
        "width": 2560,
        "height": 1440,
        "fps": 20.0,
        "source": "rtsp://127.0.0.1:8554/main?channel=1&pwd=***",
    }


def test_discover_says_which_login_is_wrong_or_missing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    with onvif_camera("Yard") as camera:
        found = [discovery.Announced("127.0.0.1", camera.port, "http", "Yard\x1b[2J")]
        monkeypatch.setattr(discovery, "discover", lambda: found)
        assert shell.run("cameras", "--discover") == 1
        assert "Yard?[2J at 127.0.0.1: It asks for a login. Add --username and --password-file." in shell.err
        assert shell.run("cameras", "--discover", "--username", USER, "--password-file", wrong) == 1
        assert "It refused the user name or the password." in shell.err
    assert shell.run("cameras", "--discover") == 1
    assert "127.0.0.1: It cannot be asked (ClientConnectorError" in shell.err


def test_discover_says_what_to_do_when_no_camera_answers(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "discover", list)
    assert shell.run("cameras", "--discover") == 0
    assert shell.err.startswith("No ONVIF camera answered. Switch ONVIF on in the camera's web page")


def test_discover_without_the_extra_says_how_to_install_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_onvif(name: str, *rest: Any) -> Any:
        if name == "onvif":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_onvif)
    assert shell.run("cameras", "--discover") == 1
    assert shell.err.endswith(f"{sys.executable} -m pip install 'edge-agent[discovery]'\n")


def test_discover_options_are_refused_when_they_have_no_effect(shell: Shell, tmp_path: Path) -> None:
    assert shell.run("cameras", "--username", "admin") == 2
    assert "--username and --password-file are for --discover. Add it." in shell.err
    assert shell.run("cameras", "--discover", "--username", "admin") == 2
    assert "Give both." in shell.err
    assert shell.run("cameras", "--discover", "--username", "admin", "--password-file", tmp_path / "none") == 1
    assert "No such file" in shell.err
