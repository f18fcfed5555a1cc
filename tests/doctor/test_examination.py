from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agents.running_agent import RunningAgent, wait_until
from agents.shell import Shell
from end_to_end.material import model_file
from peers.mosquitto import Mosquitto, free_port

from agent.doctor.examination import examine
from agent.doctor.unit import Unit


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


def write_config(path: Path) -> None:
    """Configures an agent that is not running."""
    path.write_text(f"models: {{folder: models}}\nmqtt: {{enabled: false}}\nhttp: {{port: {free_port()}}}\n")


@pytest.mark.mosquitto
def test_examination_finds_no_fault_on_a_healthy_device(tmp_path: Path, shell: Shell) -> None:
    with Mosquitto(tmp_path) as broker:
        mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port}
        with RunningAgent(tmp_path, mqtt=mqtt) as agent:
            agent.drop(model_file(1))
            wait_until(lambda: agent.json("/readyz")["ready"], what="the model serves")
            config = tmp_path / "agent.yaml"
            config.write_text(config.read_text().replace("port: 0", f"port: {agent.port}"))
            findings = shell.json("doctor", "--config", config)
    assert [finding for finding in findings if finding["level"] == "fault"] == []
    about = [finding["about"] for finding in findings]
    assert {"runtime", "delegate", "clock", "wear", "models", "broker", "agent", "MQTT"} <= set(about)
    facts = {finding["about"]: finding["fact"] for finding in findings}
    assert "XNNPACK" in facts["delegate"]
    assert all(finding["remedy"] for finding in findings if finding["level"] == "warning")


def test_doctor_exits_with_1_and_a_remedy_when_there_is_a_fault(tmp_path: Path, shell: Shell) -> None:
    write_config(tmp_path / "agent.yaml")
    assert shell.run("doctor", "--config", tmp_path / "agent.yaml") == 1
    assert "sudo systemctl start edge-agent" in shell.out


def test_examination_reports_a_bad_configuration_as_one_fault(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "agent.yaml").write_text("htp: {}\n")
    assert shell.run("doctor", "--config", tmp_path / "agent.yaml") == 1
    assert "did you mean http?" in shell.out


def test_examination_checks_the_installed_service_when_no_path_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path / "agent.yaml")
    (tmp_path / "state").mkdir()
    unit = Unit(config=tmp_path / "agent.yaml", state_folder=tmp_path / "state")
    for variable in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)  # registers the restore after this test
    facts = [finding.fact for finding in examine(unit.stand_in(None), unit)]
    assert any(f"free for {tmp_path / 'state'}" in fact for fact in facts)


def test_doctor_reports_packages_that_do_not_load_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')\n")
    answer = subprocess.run(
        [Path(sys.executable).parent / "edge-agent", "doctor"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "COLUMNS": "200"},
    )
    assert answer.returncode == 1
    assert "NumPy and OpenCV do not load: libGL.so.1 is missing" in answer.stdout
    assert answer.stderr == ""
