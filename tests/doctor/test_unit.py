from __future__ import annotations

from pathlib import Path

from agent.doctor.unit import Unit, check_hidden, check_secret


def test_secret_is_a_warning_when_others_can_read_it(tmp_path: Path) -> None:
    secret = tmp_path / "mqtt_password"
    assert check_secret(secret) is None
    secret.touch(mode=0o644)
    assert (finding := check_secret(secret)) is not None
    assert finding.remedy == f"sudo chmod 600 {secret}"
    secret.chmod(0o600)
    assert (finding := check_secret(secret)) is not None
    assert finding.level == "ok"


def test_unit_checks_only_the_secrets_that_exist(tmp_path: Path) -> None:
    unit = Unit(config=tmp_path / "agent.yaml")
    assert unit.check_secrets() == []
    (tmp_path / "mqtt_key").touch(mode=0o600)
    assert [finding.about for finding in unit.check_secrets()] == ["mqtt_key"]


def test_unit_hides_home_folders_from_the_service() -> None:
    assert (finding := check_hidden("models", Path("/home/ann/models"))) is not None
    assert finding.level == "fault"
    assert check_hidden("models", Path("/srv/models")) is None


def test_unit_replaces_only_its_own_configuration(tmp_path: Path) -> None:
    unit = Unit(config=tmp_path / "agent.yaml")
    assert unit.stand_in(None) is None
    unit.config.touch()
    assert unit.stand_in(tmp_path / "other.yaml") == tmp_path / "other.yaml"
