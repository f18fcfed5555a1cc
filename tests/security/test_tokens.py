from __future__ import annotations

import hashlib
import multiprocessing
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.errors import AgentError
from agent.security.tokens import Token, TokensFile, create_token, find, read_tokens, revoke_token

if TYPE_CHECKING:
    from pathlib import Path

_needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state/tokens"


def names(file: Path) -> list[str]:
    return [token.name for token in read_tokens(file)]


def test_a_token_is_stored_as_a_hash_in_a_file_for_its_owner_only(file: Path) -> None:
    umask = os.umask(0)
    try:
        token = create_token(file, "phone", "infer")
    finally:
        os.umask(umask)
    assert token not in file.read_text()
    (stored,) = read_tokens(file)
    assert (stored.name, stored.scope, stored.sha256) == ("phone", "infer", hashlib.sha256(token.encode()).hexdigest())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["tokens"]


def test_tokens_differ_and_have_256_bits(file: Path) -> None:
    tokens = [create_token(file, f"t{number}", "read") for number in range(50)]
    assert len(set(tokens)) == 50
    assert {len(token) for token in tokens} == {len("edge_") + 43}


def test_a_token_is_found_by_its_whole_text(file: Path) -> None:
    tokens = [create_token(file, name, "read").encode() for name in ("one", "two")]
    stored = read_tokens(file)
    assert [find(token, stored) for token in tokens] == list(stored)
    assert [find(wrong, stored) for wrong in (b"", tokens[0][:-1], tokens[0] + tokens[1])] == [None] * 3


def test_a_scope_includes_those_before_it() -> None:
    included = {
        scope: [each for each in ("read", "infer", "admin") if Token("", scope, "", "").includes(each)]
        for scope in ("read", "infer", "admin")
    }
    assert included == {"read": ["read"], "infer": ["read", "infer"], "admin": ["read", "infer", "admin"]}


def test_a_file_is_read_again_when_it_changes(file: Path) -> None:
    tokens = TokensFile(file, is_required=False)
    assert tokens.tokens() is None
    create_token(file, "one", "read")
    create_token(file, "two", "read")
    assert [token.name for token in tokens.tokens() or ()] == ["one", "two"]
    revoke_token(file, "one")
    assert [token.name for token in tokens.tokens() or ()] == ["two"]
    revoke_token(file, "two")
    assert tokens.tokens() == ()
    file.unlink()
    assert tokens.tokens() is None


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    create_token(file, "one", "read")
    tokens = TokensFile(file, is_required=False)
    assert tokens.tokens() is tokens.tokens()


def test_a_missing_file_counts_as_empty_when_the_configuration_names_it(file: Path) -> None:
    assert TokensFile(file, is_required=True).tokens() == ()


def test_a_file_that_cannot_be_read_opens_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.mkdir(parents=True)
    assert TokensFile(file, is_required=False).tokens() == ()
    assert f"Cannot read the access tokens in {file}: Is a directory." in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        *(
            "phone",
            "phone infer",
            f"phone root {64 * 'a'} now",
            f"phone infer {63 * 'a'} now",
            f"a b infer {64 * 'a'} now",
        ),
        *("\0", "\x1b[2J", "\u00e9" * 100, 5000 * "x", f"phone infer {64 * 'A'} now"),
    ],
)
def test_a_damaged_line_is_ignored_and_the_others_hold(file: Path, caplog: pytest.LogCaptureFixture, line: str) -> None:
    create_token(file, "one", "read")
    create_token(file, "two", "read")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], line, lines[2]]))
    assert [token.name for token in TokensFile(file, is_required=False).tokens() or ()] == ["one", "two"]
    assert f"{file}, line 3 is not a token and is ignored. Remove it." in caplog.text


def test_a_file_of_other_bytes_has_no_tokens(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(os.urandom(200_000))
    assert TokensFile(file, is_required=False).tokens() == ()


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "\x1b[2J", "ü", 65 * "a", "a/b"])
def test_a_name_that_would_damage_the_file_is_refused(file: Path, name: str) -> None:
    with pytest.raises(AgentError, match="is not a name of a token"):
        create_token(file, name, "read")
    assert not file.exists()


def test_a_name_is_used_once_and_must_exist_to_be_revoked(file: Path) -> None:
    create_token(file, "one", "read")
    with pytest.raises(AgentError, match=r"A token named one exists\. Revoke it first: edge-agent token revoke one"):
        create_token(file, "one", "admin")
    with pytest.raises(AgentError, match=r"No token is named two\. See: edge-agent token list"):
        revoke_token(file, "two")
    assert names(file) == ["one"]


def test_tokens_are_limited_since_every_request_compares_with_each(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("".join(f"t{number} read {number:064x} now\n" for number in range(100)))
    with pytest.raises(AgentError, match=r"has 100 tokens\. Revoke one that is not used any more\."):
        create_token(file, "more", "read")


def test_commands_at_the_same_time_lose_no_token(file: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(create_token, [(file, f"t{number}", "read") for number in range(20)])
    assert sorted(names(file)) == sorted(f"t{number}" for number in range(20))


def test_a_link_next_to_the_file_is_not_written_through(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    (tmp_path / "other").write_text("kept")
    (file.parent / ".tokens.new").symlink_to(tmp_path / "other")
    create_token(file, "one", "read")
    assert (tmp_path / "other").read_text() == "kept"
    assert names(file) == ["one"]


def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(AgentError, match=r"Cannot write .*/state/tokens: .*\. On a device with the installed service"):
        create_token(tmp_path / "state/tokens", "one", "read")


@_needs_root
def test_root_gives_the_file_to_the_service_and_others_cannot_read_it(file: Path) -> None:
    create_token(file, "one", "read", owner=(12345, 12346))
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o600)
    code = f"import os; os.setgid(12347); os.setuid(12347); open({str(file)!r})"
    answer = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "PermissionError" in answer.stderr
