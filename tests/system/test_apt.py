"""Installs the Debian package with apt, without a network. The tests depend on each other and run in this order.

They use only the first system of BEDS: test_service.py covers the differences between systems, all in install.sh.
test_install_guide.py tests an installation with apt on a running system.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from system.bed import booted_bed
from system.packages import package_of
from system.probes import COMPARE, REMEMBER, SERVES, UPLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.bed import Bed

_SUITE = os.environ.get("BEDS", "bookworm").split()[0]
_NUMBERS = {"good": "0.1.0", "fails": "0.1.1", "next": "0.1.2"}
_APT = "apt-get --quiet --assume-yes"
_STATUS = "dpkg-query --show --showformat '${db:Status-Status}' edge-agent"
# What an administrator decides about the service: the command, how to undo it, and what the package says.
_DECISIONS = {
    "masked": ("systemctl mask edge-agent", "systemctl unmask edge-agent", "is masked, so it was not restarted."),
    "disabled": (
        "systemctl disable --now edge-agent",
        "systemctl enable --now edge-agent",
        "is disabled and stopped, and stays so.",
    ),
    "policy": (
        "printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d",
        "rm /usr/sbin/policy-rc.d",
        "/usr/sbin/policy-rc.d does not allow it, so edge-agent.service was not restarted.",
    ),
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(_SUITE)


@pytest.fixture(scope="module")
def bed(folder: Path) -> Iterator[Bed]:
    with booted_bed(_SUITE, folder) as bed:
        bed.run("useradd --create-home ann")
        bed.run(REMEMBER)
        yield bed


@pytest.fixture(scope="module")
def packages(bed: Bed, folder: Path) -> dict[str, str]:
    """The path in the bed of each bundle's package."""
    names = {bundle: package_of(folder / "material" / bundle, number).name for bundle, number in _NUMBERS.items()}
    return {bundle: f"/mnt/{name}" for bundle, name in names.items()}


@pytest.fixture(scope="module")
def image(bed: Bed, packages: dict[str, str]) -> str:
    """The output of apt for the first package, installed in a chroot as when an image is built."""
    mounts = "mkdir /tmp/image; mount --bind / /tmp/image; "
    mounts += "for part in mnt dev proc; do mount --bind /$part /tmp/image/$part; done"
    install = f"SUDO_USER=ann chroot /tmp/image {_APT} install {packages['good']}"
    return bed.run(f"{mounts}; {install}; umount --recursive /tmp/image")


@pytest.fixture(scope="module")
def started(bed: Bed, image: str) -> None:
    """Simulates the first boot of that image."""
    bed.run("systemctl daemon-reload; systemctl start multi-user.target")
    bed.wait_for("systemctl is-active edge-agent")


@pytest.fixture
def serving(bed: Bed, started: None) -> Bed:
    """The agent serves a model that ann dropped."""
    bed.run("runuser -u ann -- cp /mnt/good/demo/digits.tflite /var/lib/edge-agent/models/")
    bed.wait_for(SERVES)
    return bed


def test_the_service_waits_for_the_first_boot_when_installed_in_an_image(bed: Bed, image: str) -> None:
    assert "the service starts at the first boot" in image
    assert "drop .tflite files into /var/lib/edge-agent/models (as ann" in image
    assert bed.run(_STATUS) == "installed"
    assert bed.show("ActiveState") == "inactive"
    assert bed.run("systemctl is-enabled edge-agent") == "enabled"


def test_a_dropped_model_classifies(serving: Bed) -> None:
    assert json.loads(serving.run(UPLOAD))["label"] in "0123456789"


def test_apt_reports_a_failed_upgrade_and_the_old_version_keeps_serving(serving: Bed, packages: dict[str, str]) -> None:
    before = serving.run("readlink /opt/edge-agent/current")
    answer = serving.attempt(f"{_APT} install {packages['fails']}")
    assert answer.returncode == 100, answer.stdout
    assert "this version is broken" in answer.stdout
    assert f"edge-agent: Rolled back: version {before.removeprefix('versions/')} is running again" in answer.stdout
    assert "run: sudo dpkg --configure edge-agent" in answer.stdout
    assert serving.run(_STATUS) == "half-configured"
    assert serving.run("readlink /opt/edge-agent/current") == before
    serving.wait_for(SERVES)


def test_reinstalling_the_old_package_repairs_dpkg_without_a_restart(serving: Bed, packages: dict[str, str]) -> None:
    pid = serving.show("MainPID")
    serving.run(f"dpkg --install {packages['good']}")
    assert serving.run(_STATUS) == "installed"
    assert serving.show("MainPID") == pid


def test_the_package_makes_a_version_that_does_not_run_again(serving: Bed, packages: dict[str, str]) -> None:
    pid = serving.show("MainPID")
    serving.run("rm -r /opt/edge-agent/current/lib/python3.*/site-packages/pydantic")
    output = serving.run(f"PYTHONPATH=/nowhere PIP_TARGET=/tmp/target dpkg --install {packages['good']}")
    assert "does not run; it is made again." in output
    assert serving.show("MainPID") != pid
    serving.wait_for(SERVES)


@pytest.mark.parametrize("decision", _DECISIONS)
def test_the_package_does_not_start_a_service_against_the_administrator(
    serving: Bed, packages: dict[str, str], decision: str
) -> None:
    command, undo, words = _DECISIONS[decision]
    pid = serving.show("MainPID")
    serving.run(command)
    stopped_pid = serving.show("MainPID")
    output = serving.run(f"dpkg --install {packages['good']} 2>&1")
    assert words in output
    assert serving.run(_STATUS) == "installed"
    assert serving.show("MainPID") == stopped_pid
    assert stopped_pid == ("0" if decision == "disabled" else pid)
    serving.run(undo)


def test_apt_reports_an_invalid_configuration_and_changes_nothing(serving: Bed, packages: dict[str, str]) -> None:
    config = "/etc/edge-agent/agent.yaml"
    serving.run(f"echo '# mine' >>{config}; cp -p {config} /tmp/good.yaml; echo 'htp: {{}}' >>{config}")
    answer = serving.attempt(f"{_APT} install {packages['next']}")
    assert answer.returncode == 100, answer.stdout
    assert "unknown key htp; did you mean http?" in answer.stdout
    assert "Nothing was changed." in answer.stdout
    serving.wait_for(SERVES)
    serving.run(f"cp -p /tmp/good.yaml {config}")


def test_dpkg_configure_completes_an_interrupted_upgrade(serving: Bed) -> None:
    home = "/opt/edge-agent"
    # The state after an upgrade was killed between the switch and the restart.
    serving.run(f"ln -s $(readlink {home}/current) {home}/before")
    serving.run(f"ln -sfn versions/$(ls {home}/versions | tail -1) {home}/current")
    assert "Upgraded from 0.1.0-" in serving.run("dpkg --configure edge-agent")
    assert serving.run(_STATUS) == "installed"
    assert serving.run(f"ls {home}") == "current\nversions"
    assert serving.run(f"ls {home}/versions").startswith("0.1.2-")
    assert "# mine" in serving.run("cat /etc/edge-agent/agent.yaml")
    serving.wait_for(SERVES)


def test_remove_keeps_the_data_of_the_user(bed: Bed, started: None) -> None:
    assert "are still in /etc/edge-agent" in bed.run(f"{_APT} remove edge-agent")
    assert bed.attempt("systemctl cat edge-agent || test -e /opt/edge-agent || test -e /usr/lib/edge-agent").returncode
    bed.run("ls /etc/edge-agent/agent.yaml /var/lib/edge-agent/models/digits.tflite /var/lib/edge-agent/state")


def test_purge_leaves_nothing_behind(bed: Bed, started: None) -> None:
    bed.run(f"{_APT} purge edge-agent")
    assert bed.run(COMPARE) == ""
