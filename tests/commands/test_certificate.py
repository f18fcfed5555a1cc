from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from agents.shell import Shell

from agent.config.load import load_config
from agent.errors import AgentError
from agent.security.self_signed import make_certificate, own_names_and_addresses
from agent.wiring.access import server_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "agent.yaml").write_text("device: {state_folder: state}\n")
    return tmp_path / "agent.yaml"


def test_certificate_and_the_printed_settings_work_together(shell: Shell, config: Path) -> None:
    assert shell.run("certificate", "--config", config) == 0
    assert re.search(r"SHA-256 +([0-9A-F]{2}:){31}[0-9A-F]{2}\n", shell.out)
    config.write_text(f"device: {{state_folder: state}}\n{shell.out[shell.out.index('http:') :]}")
    files = server_files(load_config(config))
    assert files is not None
    files.context()
    assert (shell.run("check-config", config), shell.err) == (0, "")
    assert files.key_file.stat().st_mode & 0o777 == 0o600


def test_certificate_is_not_replaced_unless_asked_to(shell: Shell, config: Path) -> None:
    assert shell.run("certificate", "--config", config) == 0
    file = config.parent / "state/tls-cert.pem"
    before = file.read_bytes()
    assert shell.run("certificate", "--config", config) == 1
    assert shell.err == (
        f"edge-agent: {file.with_name('tls-cert.pem')} exists. Add --force to replace it; clients then need the new "
        "certificate.\n"
    )
    assert file.read_bytes() == before
    assert shell.run("certificate", "--force", "--config", config) == 0
    assert file.read_bytes() != before


def test_certificate_replaces_the_files_of_the_configuration(shell: Shell, config: Path) -> None:
    config.write_text("http: {tls_cert: own/a.pem, tls_key: own/b.pem}\n")
    assert shell.run("certificate", "--host", "pi-1", "--days", "10", "--config", config) == 0
    assert "Add this" not in shell.out
    assert (config.parent / "own/a.pem").exists()
    config.write_text("http: {tls_cert: a.pem, tls_key: a.pem}\n")
    assert shell.run("certificate", "--config", config) == 2


def test_certificate_says_what_to_do_when_it_cannot_write(shell: Shell, config: Path) -> None:
    (config.parent / "state").write_text("")
    assert shell.run("certificate", "--config", config) == 1
    assert "Cannot write" in shell.err
    assert "run the command with sudo" in shell.err


@pytest.mark.parametrize("host", ["", "a b", "http://pi", "pi:8501", "pi/1", "1.2.3", "-a", "*", "a..b", "x" * 64])
def test_name_that_no_client_could_use_is_refused(shell: Shell, config: Path, host: str) -> None:
    assert shell.run("certificate", "--host", host, "--config", config) == 1
    assert "is not a host name or an address" in shell.err
    assert not (config.parent / "state").exists()


def test_names_are_given_or_those_of_the_device_with_this_machine_last() -> None:
    assert make_certificate(["Pi-1", "büro.local", "192.168.1.20", "FD00::1"], days=1).names == [
        "pi-1",
        "xn--bro-hoa.local",
        "192.168.1.20",
        "fd00::1",
        "localhost",
        "127.0.0.1",
        "::1",
    ]
    names = own_names_and_addresses()
    assert socket.gethostname().lower() in names
    assert "127.0.0.1" in names
    make_certificate(names, days=1)


def test_long_host_name_is_a_name_of_the_certificate() -> None:
    long = ".".join(["a" * 60] * 3)
    assert make_certificate([long], days=1).names[0] == long
    with pytest.raises(AgentError):
        make_certificate([".".join(["a" * 60] * 5)], days=1)


def test_certificate_passes_the_strictest_checks_of_clients(tmp_path: Path) -> None:
    made = make_certificate(["pi-1.local"], days=1)
    (tmp_path / "cert").write_bytes(made.certificate)
    (tmp_path / "key").write_bytes(made.key)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(tmp_path / "cert"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="pi-1.local"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in (*ends, *ends):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert ends[0].version() == "TLSv1.3"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_files_belong_to_the_owner_of_the_state_folder(shell: Shell, config: Path) -> None:
    (config.parent / "state").mkdir()
    os.chown(config.parent / "state", 1, 1)
    assert shell.run("certificate", "--config", config) == 0
    assert {file.stat().st_uid for file in (config.parent / "state").iterdir()} == {1}
