"""Signing in at the page of an agent that needs tokens, below a path as behind a reverse proxy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agents.running_agent import DIGITS, VIDEO, RunningAgent
from page.test_page import assert_accessible
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from page.conftest import Look
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="module")
def agent(folder: Path) -> Iterator[RunningAgent]:
    cameras = {"digits": {"source": str(VIDEO), "loop": True}}
    agent = RunningAgent(folder, http={"base_path": "/edge"}, cameras=cameras)
    agent.drop(DIGITS.read_bytes())
    with agent:
        yield agent


@pytest.fixture(scope="module")
def tokens(folder: Path, agent: RunningAgent) -> dict[str, str]:
    return {scope: _create_token(folder, scope) for scope in ("read", "admin")}


def _create_token(folder: Path, scope: str) -> str:
    program = str(Path(sys.executable).with_name("edge-agent"))
    command = [program, "token", "create", scope, "--scope", scope, "--config", str(folder / "agent.yaml")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_a_wrong_token_is_refused_and_the_right_one_stays_until_sign_out(
    agent: RunningAgent, tokens: dict[str, str], look: Look
) -> None:
    page = look(f"{agent.url}/edge", errors=True)
    assert page.url == f"{agent.url}/edge/"
    sign_in(page, "edge_wrong")
    expect(page.get_by_role("alert").filter(has_text="token")).to_be_visible()
    assert_accessible(page)
    sign_in(page, tokens["admin"])
    expect(page.get_by_role("heading", level=1)).to_have_text("test")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("test")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Access token")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Access token")).to_be_visible()


def test_what_the_scope_does_not_allow_is_not_offered(agent: RunningAgent, tokens: dict[str, str], look: Look) -> None:
    page = look(f"{agent.url}/edge/")
    offers = [
        page.get_by_role("heading", name="Classify an image"),
        page.get_by_role("switch", name="Camera digits"),
        page.get_by_role("button", name="Pin version 1"),
    ]
    for scope in ("read", "admin"):
        sign_in(page, tokens[scope])
        page.get_by_text("1 version").click()
        for offer in offers:
            expect(offer).to_have_count(0 if scope == "read" else 1)
        page.get_by_role("button", name="Sign out").click()
