from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.config.sections import Config
from agent.doctor.tokens import check_tokens
from agent.host.access import Account
from agent.security.tokens import create_token

if TYPE_CHECKING:
    from pathlib import Path


def config(folder: Path, **http: object) -> Config:
    return Config(device={"state_folder": folder}, http=http)  # type: ignore[arg-type]  # pydantic converts it


def test_tokens_is_ok_on_this_machine_without_tokens(tmp_path: Path) -> None:
    finding = check_tokens(config(tmp_path))
    assert (finding.level, finding.fact) == ("ok", "open to programs on this machine only")


def test_tokens_is_a_warning_with_a_remedy_when_nobody_can_use_http(tmp_path: Path) -> None:
    finding = check_tokens(config(tmp_path, host="0.0.0.0"))
    assert finding.level == "warning"
    assert finding.fact.startswith("HTTP at 0.0.0.0 answers 401 to every client")
    assert finding.remedy == "sudo edge-agent token create NAME --scope infer"


def test_tokens_counts_the_tokens(tmp_path: Path) -> None:
    create_token(tmp_path / "tokens", "one", "read")
    assert check_tokens(config(tmp_path, host="0.0.0.0")).fact == f"1 token in {tmp_path / 'tokens'}"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_tokens_is_a_warning_when_others_can_add_tokens(tmp_path: Path, mode: int) -> None:
    create_token(tmp_path / "tokens", "one", "read")
    (tmp_path / "tokens").chmod(mode)
    finding = check_tokens(config(tmp_path))
    assert (finding.level, finding.remedy) == ("warning", f"sudo chmod 600 {tmp_path / 'tokens'}")


def test_tokens_says_that_anonymous_lets_everyone_in(tmp_path: Path) -> None:
    assert "lets everyone in" in check_tokens(config(tmp_path, host="0.0.0.0", anonymous=True)).fact


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask for another user")
def test_tokens_are_a_warning_when_the_service_cannot_read_them(tmp_path: Path) -> None:
    account = Account.named("daemon")
    assert account is not None
    create_token(tmp_path / "tokens", "one", "read")
    finding = check_tokens(config(tmp_path), account)
    assert finding.level == "warning"
    assert finding.fact.startswith("The user daemon may not ")
    assert finding.remedy == f"sudo chown daemon: {tmp_path / 'tokens'}"


def test_tokens_is_a_warning_that_names_grpc_when_nobody_can_use_it(tmp_path: Path) -> None:
    closed = Config(device={"state_folder": tmp_path}, grpc={"enabled": True, "host": "0.0.0.0"})  # type: ignore[arg-type]
    finding = check_tokens(closed)
    assert finding.level == "warning"
    assert finding.fact.startswith("gRPC at 0.0.0.0 answers UNAUTHENTICATED to every client, except about its health: ")
    create_token(tmp_path / "tokens", "one", "infer")
    assert check_tokens(closed).level == "ok"
