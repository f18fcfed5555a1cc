from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = Path(__file__).parents[1] / "deploy/systemd/install/network_settings.py"


def test_network_settings_are_those_of_index_proxy_and_certificates(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example\nuser = true\nproxy = http://proxy.example\n"
        "[install]\nindex_url = https://two.example\nconstraint = /c\nextra-index-url =\n  https://a\n  https://b\n"
    )
    environment = {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_PROXY": "http://other.example",
        "PIP_TARGET": "/target",
        "HTTPS_PROXY": "http://proxy.example",
    }
    settings, stderr = _settings(tmp_path, environment)
    assert stderr == ""
    assert settings["PIP_INDEX_URL"] == "https://two.example"
    assert settings["PIP_EXTRA_INDEX_URL"] == "https://a https://b"
    assert settings["PIP_PROXY"] == "http://other.example"
    assert settings["HTTPS_PROXY"] == "http://proxy.example"
    assert settings["NETRC"] == str(tmp_path / ".netrc")
    assert not settings.keys() & {"PIP_USER", "PIP_CONSTRAINT", "PIP_TARGET", "PIP_CONFIG_FILE"}


def test_network_settings_name_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("index-url = https://one.example\n")
    settings, stderr = _settings(tmp_path, {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert "PIP_INDEX_URL" not in settings or settings["PIP_INDEX_URL"] != "https://one.example"
    assert stderr.startswith(f"edge-agent: {tmp_path}/pip.conf is ignored: ")


def test_network_settings_ignore_all_files_if_pip_does(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nindex-url = https://one.example\n")
    settings, _ = _settings(tmp_path, {"PIP_CONFIG_FILE": "/dev/null"})
    assert settings.keys() == {"NETRC"}


def _settings(home: Path, environment: dict[str, str]) -> tuple[dict[str, str], str]:
    answer = subprocess.run(
        [sys.executable, "-I", _SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": str(home), **environment},
    )
    return dict(entry.split("=", 1) for entry in answer.stdout.split("\0") if entry), answer.stderr
