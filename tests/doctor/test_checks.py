from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from peers.mosquitto import free_port

from agent.doctor import device, running, software
from agent.doctor.camera import check_camera
from agent.doctor.unit import check_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_what_this_machine_has_is_in_order() -> None:
    findings = [software.check_runtime(), software.check_packages(), software.check_libc(), software.check_processor()]
    assert [finding.level for finding in findings if finding.about != "runtime"] == ["ok", "ok", "ok"]
    assert findings[0].level in ("ok", "warning")  # tflite-runtime on x86_64


def test_a_hidden_processor_is_a_warning(tmp_path: Path) -> None:
    assert "ProcSubset" in str(software.check_processor(tmp_path / "cpuinfo").remedy)
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd\n")
    assert software.check_processor(tmp_path / "cpuinfo", "aarch64").fact == "aarch64 with asimd"
    assert software.check_processor(tmp_path / "cpuinfo", "x86_64").level == "warning"


def test_a_memory_cgroup_that_is_off_is_a_warning(tmp_path: Path) -> None:
    assert device.check_memory_cgroup(tmp_path / "none").level == "warning"
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    assert device.check_memory_cgroup(tmp_path).level == "warning"
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert device.check_memory_cgroup(tmp_path).level == "ok"
    (tmp_path / "v1/memory").mkdir(parents=True)
    assert device.check_memory_cgroup(tmp_path / "v1").level == "ok"


def test_heat_is_told_from_80_degrees_on() -> None:
    assert device.check_heat(79.0).level == "ok"
    assert device.check_heat(80.0).level == "warning"


def test_power_clock_and_disk_are_looked_at(tmp_path: Path) -> None:
    assert device.check_power().about == "power"
    assert device.check_clock().level in ("ok", "warning")
    assert str(tmp_path) in device.check_disk(tmp_path / "not/there/yet").fact


def test_a_worn_card_is_told(tmp_path: Path) -> None:
    assert device.check_wear(tmp_path).level == "ok"
    (tmp_path / "mmcblk0/device").mkdir(parents=True)
    (tmp_path / "mmcblk0/device/life_time").write_text("0x01 0x02\n")
    assert device.check_wear(tmp_path).fact == "mmcblk0: at most 20 % used"
    (tmp_path / "mmcblk0/device/life_time").write_text("0x01 0x0a\n")
    assert device.check_wear(tmp_path).level == "warning"


def test_a_drop_folder_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    assert device.check_drop_folder(tmp_path).fact == f"1 in {tmp_path}"
    (tmp_path / "a.tflite").unlink()
    assert device.check_drop_folder(tmp_path).level == "warning"
    (tmp_path / "birds/1").mkdir(parents=True)
    (tmp_path / "birds/1/model.tflite").touch()
    assert device.check_drop_folder(tmp_path).level == "ok"
    assert device.check_drop_folder(tmp_path / "none").level == "fault"


def test_a_secret_that_others_can_read_is_told(tmp_path: Path) -> None:
    secret = tmp_path / "mqtt_password"
    assert check_secret(secret) is None
    secret.touch(mode=0o644)
    assert (finding := check_secret(secret)) is not None
    assert finding.remedy == f"sudo chmod 600 {secret}"
    secret.chmod(0o600)
    assert (finding := check_secret(secret)) is not None
    assert finding.level == "ok"


def test_a_camera_is_there_or_it_is_a_fault(tmp_path: Path) -> None:
    assert "There is no /dev/video99" in check_camera("front", "99").fact
    assert check_camera("front", str(tmp_path)).level == "ok"
    port = free_port()
    assert f"127.0.0.1:{port}/s does not answer" in check_camera("front", f"rtsp://127.0.0.1:{port}/s").fact
    assert "is not a URL" in check_camera("front", "rtsp://").fact
    assert "sesame" not in check_camera("front", "rtsp://admin:sesame/street@cam/x").fact
    assert check_camera("front", f"rtsp://{'a' * 64}/stream").level == "fault"


def test_the_agent_that_runs_is_asked(server: int) -> None:
    findings = running.check_running(f"http://127.0.0.1:{server}")
    assert [(finding.about, finding.level) for finding in findings] == [
        ("agent", "fault"),
        ("agent", "warning"),
        ("MQTT", "warning"),
    ]
    assert "None answers" in running.check_running(f"http://127.0.0.1:{free_port()}")[0].fact


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n[]", b""])
def test_something_else_at_its_port_is_a_fault(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, answer))
        thread.start()
        (finding,) = running.check_running(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert finding.level == "fault"


def test_json_of_another_service_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        body = b'HTTP/1.0 200 OK\r\n\r\n{"reasons": null}'
        thread = threading.Thread(target=_answer, args=(listener, body))
        thread.start()
        (finding,) = running.check_running(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert finding.fact.endswith("is no agent.")


def _answer(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)


class _Unready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"""{"reasons": ["No model is served yet."], "warnings": ["Model bad: The file is empty."],
            "mqtt": {"state": "unreachable", "reason": null, "queued": 0}}"""
        self.send_response(503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Unready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
