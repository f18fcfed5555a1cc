"""Tests a read-only root, as many boards in the field have, with one writable disk for the agent's data."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS
from end_to_end.material import digit_png
from vm.agent import drop, wait_until_served
from vm.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from vm.image import Image

pytestmark = pytest.mark.timeout(1200)

_FSTAB = """/dev/vda / ext4 ro 0 1
/dev/vdb /var/lib/edge-agent ext4 defaults 0 2
"""
_UPLOAD = "echo {0} | base64 --decode | curl -sS --data-binary @- http://127.0.0.1:8501/predict"


def test_the_service_works_with_a_read_only_root_and_one_writable_folder(image: Image, tmp_path: Path) -> None:
    drives = [f"file={_with_read_only_root(image, tmp_path)}", f"file={_empty_disk(tmp_path)}"]
    with Machine(image, tmp_path / "console.log", drives=drives, root="ro systemd.mask=mosquitto.service") as machine:
        assert machine.attempt("touch /etc/edge-agent/agent.yaml").returncode != 0
        drop(machine, DIGITS.read_bytes())
        wait_until_served(machine)
        upload = _UPLOAD.format(base64.b64encode(digit_png()).decode())
        assert '"label"' in machine.run(upload)
        machine.wait_for("grep -q . /var/lib/edge-agent/state/outbox/*")
        machine.run("systemctl restart edge-agent")
        wait_until_served(machine)
        assert '"label"' in machine.run(upload)
        assert "Read-only" not in machine.journal()


def _with_read_only_root(image: Image, folder: Path) -> Path:
    disk, fstab = folder / "root.img", folder / "fstab"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    fstab.write_text(_FSTAB)
    for request in ("rm /etc/fstab", f"write {fstab} /etc/fstab"):
        subprocess.run(["debugfs", "-w", "-R", request, disk], check=True, capture_output=True)
    return disk


def _empty_disk(folder: Path) -> Path:
    disk = folder / "state.img"
    subprocess.run(["truncate", "--size", "256M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True)
    return disk
