from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import pytest

from agent.security.sessions import LIFETIME_S, Sessions
from agent.security.tokens import Token

if TYPE_CHECKING:
    from pathlib import Path

PHONE = Token("phone", "read", 64 * "a", "2026-11-29T00:00:00Z")
ADMIN = Token("admin", "admin", 64 * "b", "2026-11-29T00:00:00Z")
TOKENS = (PHONE, ADMIN)


def test_session_stands_for_its_token_also_after_a_restart(tmp_path: Path) -> None:
    cookie = Sessions(tmp_path / "key").begin(ADMIN)
    assert Sessions(tmp_path / "key").token_of(cookie, TOKENS) is ADMIN
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_session_ends_after_its_lifetime(tmp_path: Path) -> None:
    now_s = [1_800_000_000.5]
    sessions = Sessions(tmp_path / "key", clock=lambda: now_s[0])
    cookie = sessions.begin(PHONE)
    now_s[0] += LIFETIME_S - 1
    assert sessions.token_of(cookie, TOKENS) is PHONE
    now_s[0] += 1
    assert sessions.token_of(cookie, TOKENS) == "ended"


def test_session_ends_with_its_token(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "key")
    cookie = sessions.begin(PHONE)
    made_again = Token("phone", "admin", 64 * "c", "2026-11-30T00:00:00Z")
    assert sessions.token_of(cookie, (made_again, ADMIN)) == "ended"


def test_session_that_was_signed_out_does_not_come_back(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "key")
    cookie, other = sessions.begin(PHONE), sessions.begin(PHONE)
    sessions.end(cookie)
    sessions.end("nothing")
    assert sessions.token_of(cookie, TOKENS) == "ended"
    assert sessions.token_of(other, TOKENS) is PHONE


def test_signed_out_sessions_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.security.sessions._MAX_ENDED", 2)
    sessions = Sessions(tmp_path / "key")
    cookies = [sessions.begin(PHONE) for _ in range(3)]
    for cookie in cookies:
        sessions.end(cookie)
    assert [sessions.token_of(cookie, TOKENS) == "ended" for cookie in cookies] == [False, True, True]


@pytest.mark.parametrize("part", range(4))
def test_cookie_with_any_part_changed_is_forged(tmp_path: Path, part: int) -> None:
    sessions = Sessions(tmp_path / "key")
    parts = sessions.begin(PHONE).split(".")
    parts[part] = re.sub(".$", lambda last: "1" if last[0] != "1" else "2", parts[part])
    assert sessions.token_of(".".join(parts), TOKENS) == "forged"


@pytest.mark.parametrize("cookie", ["", "x", 1000 * "0", "0" * 16 + ".9999999999." + "a" * 32 + "." + "0" * 64, "…"])
def test_cookie_that_the_agent_did_not_make_is_forged(tmp_path: Path, cookie: str) -> None:
    sessions = Sessions(tmp_path / "key")
    assert sessions.token_of(cookie, TOKENS) == "forged"  # without a key
    sessions.begin(PHONE)
    assert sessions.token_of(cookie, TOKENS) == "forged"


def test_cookie_of_another_agent_is_forged(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Sessions(tmp_path / "key").begin(PHONE)
    cookie = Sessions(tmp_path / "other" / "key").begin(PHONE)
    assert Sessions(tmp_path / "key").token_of(cookie, TOKENS) == "forged"


def test_sessions_last_for_the_run_if_the_key_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = Sessions(tmp_path / "missing" / "key")
    assert sessions.token_of(sessions.begin(PHONE), TOKENS) is PHONE
    assert "Sessions will end with this run." in caplog.text
