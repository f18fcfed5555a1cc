from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, birds, rest_app
from peers.certificates import Authority, Certificate
from peers.web_server import serving

from agent.config.sections import Config
from agent.doctor.certificate import check_certificate
from agent.doctor.running import check_running
from agent.doctor.tokens import check_tokens
from agent.errors import AgentError, ConfigError
from agent.remote import RemoteAgent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def config(files: Certificate, **http: object) -> Config:
    http = {"tls_cert": files.cert_file, "tls_key": files.key_file, **http}
    return Config(http=http, device={"state_folder": files.cert_file.parent})  # type: ignore[arg-type]


def levels(config: Config) -> list[tuple[str, str]]:
    return [(finding.about, finding.level) for finding in check_certificate(config)]


def test_nothing_is_said_without_tls() -> None:
    assert not levels(Config())


@pytest.mark.parametrize(
    ("valid_days", "age_days", "level", "words"),
    [
        (90, 0, "ok", "SHA-256"),
        (10, 0, "warning", "It expires on"),
        (1, 2, "fault", "It expired on"),
        (1, -2, "fault", "It is valid from"),
    ],
)
def test_dates_are_checked(authority: Authority, valid_days: int, age_days: int, level: str, words: str) -> None:
    files = authority.sign("pi-1", age_days=age_days, valid_days=valid_days)
    finding, *_ = check_certificate(config(files))
    assert (finding.about, finding.level) == ("http.tls_cert", level)
    assert words in finding.fact
    assert finding.remedy or level == "ok"


def test_files_that_do_not_work_are_a_fault_with_the_sentence_of_the_agent(authority: Authority) -> None:
    files = authority.sign("pi-1")
    files.key_file.write_bytes(authority.sign("other").key_file.read_bytes())
    (finding,) = check_certificate(config(files))
    assert finding.level == "fault"
    assert f"http.tls_key {files.key_file} is not the key of http.tls_cert {files.cert_file}." in finding.fact


def test_key_that_everyone_may_read_is_a_warning(authority: Authority) -> None:
    files = authority.sign("pi-1", valid_days=90)
    files.key_file.chmod(0o644)
    assert levels(config(files)) == [("http.tls_cert", "ok"), ("http.tls_key", "warning")]
    files.key_file.chmod(0o640)
    assert levels(config(files)) == [("http.tls_cert", "ok")]


def test_authority_of_the_clients_is_checked_and_counts_as_access(authority: Authority, tmp_path: Path) -> None:
    files = authority.sign("pi-1", valid_days=90)
    settings = config(files, client_ca=authority.ca_file, host="0.0.0.0")
    files.key_file.chmod(0o600)
    assert levels(settings) == [("http.tls_cert", "ok"), ("http.client_ca", "warning")]  # it is valid for a day
    assert check_tokens(settings).fact == f"only for clients with a certificate signed by {authority.ca_file}"


def test_the_agent_is_recognized_by_its_certificate_whatever_names_and_dates_that_has(authority: Authority) -> None:
    files = authority.sign("pi-1", host="pi-1.local", age_days=5)
    with serving(rest_app(FakeModels(birds())), certificate=files) as port:
        url = f"https://127.0.0.1:{port}"
        assert RemoteAgent(url, cert_file=files.cert_file).models()
        assert check_running(url, cert_file=files.cert_file)[0].fact == f"ready at {url}"
        with pytest.raises(AgentError, match="CERTIFICATE_VERIFY_FAILED"):
            RemoteAgent(url).models()
        other = authority.sign("other").cert_file
        with pytest.raises(AgentError, match=r"its certificate is not the one in http\.tls_cert"):
            RemoteAgent(url, cert_file=other).models()
        assert "its certificate is not the one in http.tls_cert" in check_running(url, cert_file=other)[0].fact


def test_unreadable_certificate_is_a_configuration_error_for_commands(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"\xff")
    for name, words in (("missing", "cannot be read: No such file"), ("empty", "contains no certificate")):
        with pytest.raises(ConfigError, match=words):
            RemoteAgent("https://127.0.0.1:1", cert_file=tmp_path / name)
