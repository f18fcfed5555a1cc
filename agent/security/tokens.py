"""Tokens: the access tokens of the HTTP API, kept as hashes in one file.

A token is 256 random bits, which cannot be guessed, so SHA-256 is enough as its hash: slow hashes such as scrypt
protect passwords, which have far fewer possible values. The file has one token per line: name, scope, hash, creation.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, cast, get_args

from agent.errors import AgentError
from agent.host.durable import write_and_rename

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

Scope = Literal["read", "infer", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)  # each includes those before it
CREATE = "sudo edge-agent token create NAME --scope"  # for messages; a scope follows

_MAX_TOKENS = 100  # every request compares with each of them
_MAX_BYTES = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LINE = re.compile(rf"({_NAME.pattern}) ({'|'.join(SCOPES)}) ([0-9a-f]{{64}}) (\S+)")
_HEAD = "# Access tokens of edge-agent: name, scope, SHA-256 of the token, creation. Change it with: edge-agent token\n"


@dataclass(frozen=True, slots=True)
class Token:
    name: str
    scope: Scope
    sha256: str
    created_at: str

    def includes(self, scope: Scope) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class TokensFile:
    """Reads the file again when it has changed. A line that is not a token is logged and ignored."""

    def __init__(self, path: Path, *, is_required: bool) -> None:
        """`is_required`: a missing file counts as one without tokens, since the configuration names it."""
        self.path = path
        self._name = str(path)
        self._is_required = is_required
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] | None = None
        self._is_read = False

    def tokens(self) -> Sequence[Token] | None:
        """None if the file is missing; empty if it cannot be read, so that a fault opens nothing."""
        seen = self._fingerprint()
        if not self._is_read or seen != self._seen:
            self._seen, self._is_read = seen, True
            self._tokens = self._read_again()
        return self._tokens

    def _fingerprint(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self._name)  # noqa: PTH116  (at every request; half the time of Path.stat)
        except OSError as error:
            return (error.errno or 0,)
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode, status.st_uid

    def _read_again(self) -> tuple[Token, ...] | None:
        try:
            tokens, faults = _read(self.path)
        except FileNotFoundError:
            return () if self._is_required else None
        except OSError as error:
            log.error("%s", _unreadable(self.path, error))  # noqa: TRY400  (expected; the sentence says it all)
            return ()
        for number in faults:
            log.warning("%s, line %d is not a token and is ignored. Remove it.", self.path, number)
        log.info("Access tokens: %s, from %s.", ", ".join(f"{each.name} ({each.scope})" for each in tokens), self.path)
        return tokens


def find(token: bytes, tokens: Iterable[Token]) -> Token | None:
    """Compares with every token in constant time."""
    digest, found = hashlib.sha256(token).hexdigest(), None
    for each in tokens:
        if hmac.compare_digest(each.sha256, digest):
            found = each
    return found


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Empty if the file is missing. Raises AgentError."""
    try:
        return _read(path)[0]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise AgentError(_unreadable(path, error)) from None


def create_token(path: Path, name: str, scope: Scope, *, owner: tuple[int, int] | None = None) -> str:
    """Adds a new token to the file and returns it; it is stored nowhere. Raises AgentError.

    `owner`: the user and the group of the service, if root changes the file for it.
    """
    if not _NAME.fullmatch(name):
        raise AgentError(f"{name!r} is not a name of a token. Use up to 64 letters, digits, '_', '-' and '.'.")
    with _changing(path, owner) as tokens:
        if any(each.name == name for each in tokens):
            raise AgentError(f"A token named {name} exists. Revoke it first: edge-agent token revoke {name}")
        if len(tokens) >= _MAX_TOKENS:
            raise AgentError(f"{path} has {_MAX_TOKENS} tokens. Revoke one that is not used any more.")
        token = f"edge_{secrets.token_urlsafe(32)}"
        created_at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        tokens.append(Token(name, scope, hashlib.sha256(token.encode()).hexdigest(), created_at))
    return token


def revoke_token(path: Path, name: str, *, owner: tuple[int, int] | None = None) -> None:
    """Removes a token. The file stays, also without tokens: revoking the last one must not open the agent."""
    with _changing(path, owner) as tokens:
        kept = [each for each in tokens if each.name != name]
        if len(kept) == len(tokens):
            raise AgentError(f"No token is named {name}. See: edge-agent token list")
        tokens[:] = kept


@contextlib.contextmanager
def _changing(path: Path, owner: tuple[int, int] | None) -> Generator[list[Token]]:
    """Yields the tokens and writes them back. Locks the folder, since two commands may run at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            tokens = list(read_tokens(path))
            yield tokens
            _write(path, tokens, owner)
        finally:
            os.close(folder)
    except OSError as error:
        raise AgentError(f"Cannot write {path}: {error.strerror}. {_SUDO}") from None


def _write(path: Path, tokens: Iterable[Token], owner: tuple[int, int] | None) -> None:
    lines = [f"{each.name} {each.scope} {each.sha256} {each.created_at}\n" for each in tokens]
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)  # a power cut may have left it
    write_and_rename(aside, path, "".join([_HEAD, *lines]).encode(), mode=0o600, owner=owner)


def _read(path: Path) -> tuple[tuple[Token, ...], list[int]]:
    """The tokens, and the numbers of the lines that are none. Raises OSError."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES).decode("utf-8", "replace")
    tokens: list[Token] = []
    faults: list[int] = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line.strip())) and len(tokens) < _MAX_TOKENS:
            tokens.append(Token(found[1], cast("Scope", found[2]), found[3], found[4]))
        else:
            faults.append(number)
    return tuple(tokens), faults


_SUDO = "On a device with the installed service, run the command with sudo."


def _unreadable(path: Path, error: OSError) -> str:
    return f"Cannot read the access tokens in {path}: {error.strerror}. Give the agent's user read access. {_SUDO}"
