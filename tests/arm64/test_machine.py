"""Tests a whole emulated arm64 machine with a Debian kernel. The tests depend on each other and run in this order."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from arm64.published import PUBLISHED, Published, assert_same_as_x86_64, lay_out
from system.bundles import unpack_material
from system.root import cache, missing_for_bed
from vm.image import make_bare_image, make_disk
from vm.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.measured import Note

pytestmark = [pytest.mark.assets, pytest.mark.timeout(3600)]

_MODELS = "/var/lib/edge-agent/models"
_URL = "http://127.0.0.1:8501"
# If this machine is busy, a trial may not finish within its minute; then ann drops the file again.
_SERVES = f"""
curl -sS {_URL}/v1/models/{{0}} | grep AVAILABLE && exit
! test -e {_MODELS}/{{0}}.tflite.rejected.txt || runuser --login ann --command 'cp /mnt/models/{{0}}.tflite {_MODELS}'
exit 1
"""
_CAMERA = """
cameras:
  front: {source: /dev/video0, model: uint8, max_fps: 2, score_threshold: 0}
"""


@pytest.fixture(scope="module")
def machine(assets: Path, note: Note) -> Iterator[Machine]:
    """A machine with a broker but without edge-agent; the bundle, the models and the photos are in /mnt."""
    if reason := missing_for_bed("arm64"):
        pytest.skip(reason)
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("qemu-system-aarch64 is not installed: apt install qemu-system-arm")
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".arm64-") as name:
        folder = Path(name)
        try:
            drives = _drives(assets, folder)
            image = make_bare_image(folder, "arm64")
        except FileNotFoundError as error:
            pytest.skip(f"dist/ has no {error}: run make test-arm64")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"arm64 cannot be installed: {error}")
        started_s = time.monotonic()
        with Machine(image, folder / "console.log", drives=[f"file={image.disk}", *drives]) as machine:
            note("machine: from power on to all units started", f"{time.monotonic() - started_s:.0f} s")
            machine.run("mount -o ro /dev/vdb /mnt")
            yield machine


def _drives(assets: Path, folder: Path) -> list[str]:
    material = unpack_material("3.11", folder, "aarch64")
    lay_out(assets, material)
    make_disk(material, folder / "material.img", "400M")
    return [f"file={folder / 'material.img'},readonly=on"]


@pytest.fixture(scope="module")
def installed(machine: Machine, note: Note) -> str:
    """Output of install.sh, run by ann with sudo. A denied system call kills the service, so that tests notice it."""
    machine.run("useradd --create-home ann; echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann")
    machine.override("strict", "SystemCallErrorNumber=kill")
    install = "cd /mnt/good; sudo deploy/systemd/install.sh --bundle /mnt/good"
    started_s = time.monotonic()
    output = machine.run(f"runuser --login ann --command '{install}'", timeout_s=1800)
    note("machine: install.sh, from nothing to ready", f"{time.monotonic() - started_s:.0f} s")
    return output


@pytest.fixture(scope="module")
def serving(machine: Machine, installed: str) -> Machine:
    """The machine serves the models that ann dropped."""
    machine.run(f"runuser --login ann --command 'cp /mnt/models/* {_MODELS}'")
    for published in PUBLISHED:
        machine.wait_for(_SERVES.format(published.dtype), timeout_s=480)
    return machine


def test_the_service_is_ready_after_install(machine: Machine, installed: str) -> None:
    assert "HTTP http://127.0.0.1:8501" in installed
    assert machine.run("uname --machine") == "aarch64"
    assert [machine.show(key) for key in ("ActiveState", "NRestarts")] == ["active", "0"]


def test_the_exposure_of_the_unit_is_at_most_1_5(machine: Machine, installed: str) -> None:
    output = machine.run("systemd-analyze security --no-pager edge-agent.service | tail -1")
    found = re.search(r": ([\d.]+) ", output)
    assert found is not None
    assert float(found[1]) <= 1.5


def test_the_start_time_is_measured(machine: Machine, installed: str, note: Note) -> None:
    took_s = []
    for _ in range(2):
        machine.run("systemctl restart edge-agent")
        stamps = [int(machine.show(f"{key}TimestampMonotonic")) for key in ("ExecMainStart", "ActiveEnter")]
        took_s.append((stamps[1] - stamps[0]) / 1e6)
    note("machine: from start to ready, better of two", f"{min(took_s):.1f} s")


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.dtype)
def test_http_results_are_as_on_x86_64(serving: Machine, assets: Path, note: Note, published: Published) -> None:
    answer = json.loads(
        serving.run(f"curl -sS -F file=@/mnt/photos/{published.photo} '{_URL}/predict?model={published.dtype}'")
    )
    assert_same_as_x86_64(published, answer["categories"][0], assets)
    note(f"machine: invoke of {published.folder}", f"{answer['timing_ms']['invoke']:.1f} ms")


def test_camera_frames_are_classified_and_published_to_mosquitto(serving: Machine) -> None:
    serving.run("modprobe vivid n_devs=1")
    serving.wait_for("test $(stat --format %G /dev/video0) = video")
    serving.run(f"sed -i '/^cameras:/d' /etc/edge-agent/agent.yaml; echo '{_CAMERA}' >>/etc/edge-agent/agent.yaml")
    serving.run("edge-agent check-config /etc/edge-agent/agent.yaml; systemctl restart edge-agent")
    heard = serving.run("mosquitto_sub -t 'edge-agent/+/cameras/front/result' -C 3 -W 200").splitlines()
    results = [json.loads(line) for line in heard]
    assert [result["model"]["name"] for result in results] == ["uint8"] * 3
    assert all(result["categories"] for result in results)
    assert results[0]["seq"] < results[1]["seq"] < results[2]["seq"]


def test_the_doctor_reports_no_fault(serving: Machine) -> None:
    findings = json.loads(serving.run("edge-agent doctor --json 2>/tmp/stderr"))
    facts = {finding["about"]: finding["fact"] for finding in findings}
    assert [finding for finding in findings if finding["level"] == "fault"] == []
    assert facts["processor"] == "aarch64 with asimd"
    assert facts["delegate"].startswith("XNNPACK runs")
    assert facts["disk"].endswith("MB free for /var/lib/edge-agent/state")


def test_no_system_call_was_denied(serving: Machine) -> None:
    assert "SYS" not in re.findall(r"status=\d+/(\w+)", serving.journal())
    assert serving.show("NRestarts") == "0"
