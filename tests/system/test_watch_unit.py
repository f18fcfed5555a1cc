"""The unit of edge-convert watch under a real systemd, installed by the commands of its guide."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from documents import REPOSITORY, commands
from needs import need
from system.bed import Bed
from system.root import missing_for_bed, skip_or_fail, system_root

if TYPE_CHECKING:
    from pathlib import Path

_UNIT = "edge-convert-watch"
_GUIDE = REPOSITORY / "docs/how-to/watch.md"
_VENV = REPOSITORY / ".venv-converter"

# Of the same Python version as Debian 12. The container's own venv finds these packages; pip would load 1 GB.
_PACKAGES = _VENV / "lib/python3.11/site-packages"
_INSTALLED_OTHERWISE = {
    "sudo python3 -m venv /opt/edge-convert": "python3 -m venv --without-pip /opt/edge-convert",
    "sudo /opt/edge-convert/bin/pip install '.[converter]'": r"""
        printf '/mnt/checkout\n/mnt/packages\n' >/opt/edge-convert/lib/python3.11/site-packages/edge-convert.pth
        cd /opt/edge-convert/bin
        printf '#!/opt/edge-convert/bin/python\nfrom converter.cli import main\nmain()\n' >edge-convert
        chmod 755 edge-convert
    """,
}
_RECIPE = """
source: /srv/exports
output: /var/lib/edge-convert/models
reports: /var/lib/edge-convert/reports
command: [touch, "{name}/{version}/sent"]
models:
  people: {mean: 0, std: 255, calibration: /mnt/photos, evaluate: /mnt/photos, labels: /mnt/labels.txt}
"""

pytestmark = [pytest.mark.first, pytest.mark.assets, pytest.mark.timeout(600)]


@pytest.fixture
def bed(tmp_path: Path, assets: Path) -> Bed:
    """A container that has not started yet, with a checkout, the converter's packages, a SavedModel and photos."""
    if reason := missing_for_bed():
        skip_or_fail(reason)
    need(_PACKAGES.is_dir(), "the packages of .venv-converter for Python 3.11 are missing: make dev-converter")
    material = tmp_path / "material"
    for name in ("checkout", "packages"):
        (material / name).mkdir(parents=True)
    shutil.copytree(assets / "savedmodels/vww_96_savedmodel", material / "trained")
    (material / "photos").mkdir()
    for photo in assets.glob("photos/*.*"):
        shutil.copy(photo, material / "photos")
    shutil.copy(assets / "models/mlperf_vww_96_float/labels.txt", material)
    (material / "watch.yaml").write_text(_RECIPE)
    binds = {"/mnt/checkout": REPOSITORY, "/mnt/packages": _PACKAGES}
    return Bed(system_root("bookworm"), material, tmp_path / "boot.log", binds=binds)


def test_service_converts_signs_and_delivers_within_its_hardening(bed: Bed) -> None:
    with bed:
        bed.run("mkdir -p /srv/exports/people /srv/work && cp -r /mnt/checkout/deploy /mnt/watch.yaml /srv/work/")
        bed.run("mkdir -p /etc/systemd/system/edge-convert-watch.service.d")
        # A denied system call kills the process, so that the test notices it.
        bed.run(
            f"printf '[Service]\\nSystemCallErrorNumber=kill\\n' >/etc/systemd/system/{_UNIT}.service.d/strict.conf"
        )
        bed.run(
            "cd /srv/work; export PYTHONPATH=/mnt/checkout:/mnt/packages; "
            "python3 -m converter.cli keygen flowers.key --no-password"
        )
        lines = [line for line in commands(_GUIDE) if line.startswith("sudo ")]
        assert {*_INSTALLED_OTHERWISE} <= {*lines}
        for line in lines:
            bed.run(f"cd /srv/work; {_INSTALLED_OTHERWISE.get(line, line)}")
        bed.run("cp -r /mnt/trained /srv/exports/people/7")
        journal = f"journalctl --unit {_UNIT} --no-pager"
        bed.wait_for(f"{journal} | grep -E 'command for people 7 succeeded|Trying again|refused'", timeout_s=300)
        assert "succeeded" in (said := bed.run(journal)), said
        assert bed.run("cd /var/lib/edge-convert/models/people/7; ls; stat -c %U:%a model.tflite").split() == [
            *("model.tflite", "model.tflite.minisig", "sent", "edge-convert:640")
        ]
        bed.run("test -s /var/lib/edge-convert/reports/people/7.html")
        assert bed.run(f"systemctl show --property StatusText --value {_UNIT}") == "Waiting for new versions."
        bed.run(f"systemctl stop {_UNIT}")
        assert bed.run(f"systemctl show --property Result --value {_UNIT}") == "success"
        assert "Stopped." in bed.run(journal)


def test_wrong_recipe_stops_the_service_with_its_sentence(bed: Bed) -> None:
    with bed:
        bed.run("mkdir -p /srv/exports /srv/work && cp -r /mnt/checkout/deploy /mnt/watch.yaml /srv/work/")
        bed.run("cd /srv/work; echo 'ource: x' >>watch.yaml; echo no key >flowers.key")
        for line in (line for line in commands(_GUIDE) if line.startswith("sudo ")):
            bed.attempt(f"cd /srv/work; {_INSTALLED_OTHERWISE.get(line, line)}")
        bed.wait_for(f"systemctl is-failed {_UNIT}", timeout_s=60)
        assert bed.run(f"systemctl show --property NRestarts --value {_UNIT}") == "0"
        assert "unknown key ource; did you mean source?" in bed.run(f"journalctl --unit {_UNIT} --no-pager")


def test_hardening_is_that_of_the_agent() -> None:
    """Each difference needs a comment in the unit."""
    agent, watch = (_settings(name) for name in ("edge-agent.service", f"{_UNIT}.service"))
    differing = {key for key in agent.keys() | watch.keys() if agent.get(key) != watch.get(key)}
    assert differing == {
        *("Description", "Documentation", "After", "ExecStart", "ExecReload", "User", "Group", "SupplementaryGroups"),
        *("RestartSec", "WatchdogSec", "LoadCredential", "SetCredential", "TasksMax", "StateDirectory"),
        *("StateDirectoryMode", "PrivateDevices", "DeviceAllow"),
    }


def _settings(unit: str) -> dict[str, list[str]]:
    text = (REPOSITORY / "deploy/systemd" / unit).read_text()
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_and_finds_little_exposure(tmp_path: Path) -> None:
    text = (REPOSITORY / f"deploy/systemd/{_UNIT}.service").read_text()
    unit = tmp_path / f"{_UNIT}.service"
    unit.write_text(re.sub("(?m)^ExecStart=.*", "ExecStart=/bin/true", text))
    assert _analyze("verify", unit) == ""
    found = re.search(r"Overall exposure level for [^:]*: ([\d.]+)", _analyze("security", "--offline=true", unit))
    assert found is not None
    assert float(found[1]) <= 1.5


def _analyze(*words: str | Path) -> str:
    answer = subprocess.run(["systemd-analyze", *words], check=False, capture_output=True, text=True)
    return answer.stdout + answer.stderr
