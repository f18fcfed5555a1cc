"""What doctor and check-config, run by root, report about files that the service may not read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.shell import Shell
from peers.mosquitto import free_port

from agent.doctor import unit as unit_module
from agent.doctor.examination import examine
from agent.doctor.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_NAMED = """
models: {folder: models, signatures: if_present, trusted_keys: keys, settings: {birds: {labels: birds.txt}}}
device: {state_folder: state}
cameras:
  door: {source: "rtsp://camera/door", username: ann, password_file: door}
  film: {source: film.mp4, enabled: false}
  drop: {source: inbox:drop, after: move:done}
"""
_MQTT = "mqtt: {host: 127.0.0.1, port: 1, username: ann, password_file: password}\n"


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """A service of the user daemon who may read all its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        for inner in ("models", "keys", "state", "drop", "done"):
            (folder / inner).mkdir()
        for inner in ("state", "drop", "done"):
            (folder / inner).chmod(0o777)
        for file in ("birds.txt", "door", "film.mp4", "password", "keys/a.pub"):
            (folder / file).write_text("a\nb\n")
        (folder / "agent.yaml").write_text(f"{_NAMED}{_MQTT}http: {{port: {free_port()}}}\n")
        folder.chmod(0o755)
        unit = Unit(config=folder / "agent.yaml", state_folder=folder / "state", user="daemon")
        monkeypatch.setattr(unit_module, "INSTALLED", unit)
        for variable in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
            monkeypatch.setenv(variable, "")
            monkeypatch.delenv(variable)  # registers the restore after this test
        yield unit


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


_FILES = {
    "agent.yaml": "agent.yaml",
    "models": "models.folder",
    "keys": "models.trusted_keys",
    "keys/a.pub": "models.trusted_keys",
    "birds.txt": "models.settings.birds.labels",
    "state": "device.state_folder",
    "door": "cameras.door.password_file",
    "film.mp4": "cameras.film.source",
    "password": "mqtt.password_file",
}


@pytest.mark.parametrize("file", _FILES)
def test_check_config_refuses_a_file_that_the_service_may_not_read(unit: Unit, shell: Shell, file: str) -> None:
    path = unit.config.parent / file
    path.chmod(0o700 if path.is_dir() else 0o600)
    assert shell.run("check-config", unit.config) == 2
    right = "x" if path.is_dir() else "r"
    assert f"edge-agent: {_FILES[file]}: The user daemon may not " in shell.err
    assert f"Allow it: sudo chgrp daemon {path}; sudo chmod g+{right} {path}." in shell.err


def test_check_config_accepts_files_that_the_service_may_read(unit: Unit, shell: Shell) -> None:
    assert shell.run("check-config", unit.config) == 0
    assert (shell.out, shell.err) == (
        f"{unit.config} is valid: 3 cameras, models in {unit.config.parent}/models.\n",
        "",
    )


def test_check_config_looks_at_no_rights_of_another_configuration(unit: Unit, shell: Shell) -> None:
    other = unit.config.with_name("other.yaml")
    unit.config.rename(other)
    other.chmod(0o600)
    assert shell.run("check-config", other) == 0


def test_doctor_reports_each_file_that_the_service_may_not_read(unit: Unit) -> None:
    unit.config.chmod(0o600)
    unit.config.with_name("password").chmod(0o600)
    for inner in ("state", "drop", "done"):
        unit.config.with_name(inner).chmod(0o755)
    denied = [
        (finding.about, finding.level, finding.fact)
        for finding in examine(unit.stand_in(None), unit)
        if "may not" in finding.fact
    ]
    assert denied == [
        ("agent.yaml", "fault", f"The user daemon may not read {unit.config}."),
        ("device.state_folder", "fault", f"The user daemon may not write to {unit.state_folder}."),
        ("cameras.drop.source", "fault", f"The user daemon may not write to {unit.config.with_name('drop')}."),
        ("cameras.drop.after", "fault", f"The user daemon may not write to {unit.config.with_name('done')}."),
        ("mqtt.password_file", "fault", f"The user daemon may not read {unit.config.with_name('password')}."),
    ]


def test_doctor_reports_each_file_that_the_unit_hides_from_the_service(unit: Unit) -> None:
    """The files of this test are below /tmp."""
    hidden = {finding.about for finding in examine(unit.stand_in(None), unit) if "The unit hides" in finding.fact}
    assert {"models.folder", "models.trusted_keys", "mqtt.password_file", "camera door", "camera drop"} <= hidden
