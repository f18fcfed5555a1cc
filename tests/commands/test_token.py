from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from agents.fake_agent import FakeModels, birds, rest_app
from agents.shell import Shell
from peers.web_server import serving

from agent.security.access import AccessRules
from agent.security.tokens import TokensFile, create_token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capfd)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "agent.yaml").write_text("device: {state_folder: state}\n")
    return tmp_path / "agent.yaml"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An agent that knows the tokens of `config`."""
    rules = AccessRules(tokens=TokensFile(tmp_path / "state/tokens", is_required=False), is_local=True)
    with serving(rest_app(FakeModels(birds()), access=rules)) as port:
        yield f"http://127.0.0.1:{port}"


def test_create_prints_only_the_token_on_standard_output(shell: Shell, config: Path) -> None:
    assert shell.run("token", "create", "phone", "--scope", "infer", "--config", config) == 0
    assert re.fullmatch(r"edge_[\w-]{43}\n", shell.out)
    assert shell.err == (
        f"Added phone to {config.parent / 'state/tokens'}. The token is not shown again.\n"
        "From now on, every client needs a token, also on this machine.\n"
    )
    assert shell.run("token", "create", "tablet", "--scope", "read", "--config", config) == 0
    assert "From now on" not in shell.err


def test_list_shows_no_secret(shell: Shell, config: Path) -> None:
    shell.run("token", "create", "phone", "--scope", "infer", "--config", config)
    token = shell.out.strip()
    assert shell.run("token", "list", "--config", config) == 0
    assert [line.split()[:2] for line in shell.out.splitlines()] == [["name", "scope"], ["phone", "infer"]]
    (entry,) = shell.json("token", "list", "--config", config)
    assert (entry["name"], entry["scope"]) == ("phone", "infer")
    assert token not in shell.out


def test_revoke_removes_the_token_and_says_what_the_last_one_means(shell: Shell, config: Path) -> None:
    shell.run("token", "create", "phone", "--scope", "infer", "--config", config)
    assert shell.run("token", "revoke", "phone", "--config", config) == 0
    assert shell.out.startswith("Revoked phone.\nNo token is left, so all clients are refused.")
    assert shell.json("token", "list", "--config", config) == []
    assert shell.run("token", "revoke", "phone", "--config", config) == 1
    assert shell.err == "edge-agent: No token is named phone. See: edge-agent token list\n"


def test_tokens_file_of_the_configuration_is_used(shell: Shell, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("http: {tokens_file: mine}\n")
    assert shell.run("token", "create", "phone", "--scope", "read", "--config", config) == 0
    assert (config.parent / "mine").exists()
    monkeypatch.setenv("EDGE_AGENT_HTTP__TOKENS_FILE", str(config.parent / "other"))
    assert shell.run("token", "create", "phone", "--scope", "read") == 0
    assert (config.parent / "other").exists()


@pytest.mark.parametrize(
    "words", [("create", "phone"), ("create", "phone", "--scope", "root"), ("create", "--scope", "read")]
)
def test_wrong_usage_exits_with_2(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run("token", *words) == 2


def test_models_takes_the_token_from_a_file_or_the_environment(
    shell: Shell, config: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = config.parent / "state/tokens"
    (config.parent / "admin").write_text(f"{create_token(tokens, 'a', 'admin')}\n")
    assert shell.run("models", "list", "--url", url) == 1
    assert shell.err == (
        "edge-agent: An access token is required. Send the header Authorization: Bearer TOKEN. On the device, sudo "
        "edge-agent token create NAME --scope read makes one. The command takes a token from --token-file or the "
        "variable EDGE_AGENT_TOKEN.\n"
    )
    assert shell.run("models", "unpin", "birds", "--url", url, "--token-file", config.parent / "admin") == 0
    monkeypatch.setenv("EDGE_AGENT_TOKEN", create_token(tokens, "r", "read"))
    assert shell.run("models", "list", "--url", url) == 0
    assert shell.run("models", "unpin", "birds", "--url", url) == 1
    assert "The access token r has the scope read; this needs admin." in shell.err
    assert shell.run("models", "unpin", "birds", "--url", url, "--token-file", config.parent / "admin") == 0


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", b"\xff\xfe", b"a\nb", b"a\x1b[2Jb", "edge_\u00e9".encode()]
)
def test_a_token_file_without_a_token_exits_with_2(shell: Shell, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert shell.run("models", "list", "--token-file", tmp_path / "file") == 2
    assert str(tmp_path / "file") in shell.err
    assert shell.run("models", "list", "--token-file", tmp_path / "missing") == 2


def test_the_variable_of_the_token_is_not_a_key_of_the_configuration(
    shell: Shell, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_TOKEN", "edge_x")
    assert shell.run("check-config", config) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "pi-1.local"])
def test_check_config_warns_with_exit_0_when_nobody_could_use_http(shell: Shell, config: Path, host: str) -> None:
    config.write_text(f"device: {{state_folder: state}}\nhttp: {{host: '{host}'}}\n")
    assert shell.run("check-config", config) == 0
    assert shell.err.startswith(f"Warning: HTTP at {host} answers 401 to every client, except on /healthz and /readyz")
    assert "is valid" in shell.out
    assert shell.json("check-config", config)["http"]["host"] == host
    shell.run("token", "create", "phone", "--scope", "read", "--config", config)
    assert (shell.run("check-config", config), shell.err) == (0, "")


@pytest.mark.parametrize("http", ["{}", "{host: '::1'}", "{host: localhost}", "{host: '0.0.0.0', anonymous: true}"])
def test_check_config_does_not_warn_when_somebody_can_use_http(shell: Shell, config: Path, http: str) -> None:
    config.write_text(f"device: {{state_folder: state}}\nhttp: {http}\n")
    assert (shell.run("check-config", config), shell.err) == (0, "")


def test_check_config_warns_when_the_named_tokens_file_is_missing(shell: Shell, config: Path) -> None:
    config.write_text("http: {tokens_file: nowhere}\n")
    assert shell.run("check-config", config) == 0
    assert f"no access token is in {config.parent / 'nowhere'}." in shell.err
