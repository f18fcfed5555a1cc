from __future__ import annotations

from typing import TYPE_CHECKING

from peers.mosquitto import free_port

from agent.doctor.camera import check_camera

if TYPE_CHECKING:
    from pathlib import Path


def test_camera_is_a_fault_when_it_cannot_be_reached(tmp_path: Path) -> None:
    assert "/dev/video99 does not exist" in check_camera("front", "99").fact
    assert check_camera("front", str(tmp_path)).level == "ok"
    port = free_port()
    assert f"127.0.0.1:{port}/s does not answer" in check_camera("front", f"rtsp://127.0.0.1:{port}/s").fact
    assert "is not a valid URL" in check_camera("front", "rtsp://").fact
    assert "sesame" not in check_camera("front", "rtsp://admin:sesame/street@cam/x").fact
    assert check_camera("front", f"rtsp://{'a' * 64}/stream").level == "fault"
