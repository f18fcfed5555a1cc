"""What another user may not use, asked by root, and what this user may not use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.host.access import Account, Denied, explain

if TYPE_CHECKING:
    from collections.abc import Iterator

_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_USERS = 100  # a group of Debian without members
_DAEMON = Account("daemon", 1, 1, (1,))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; those of tmp_path are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(os.path.realpath(folder))


def secret_in(folder: Path, mode: int, *, group: int = 0, owner: int = 0) -> Path:
    file = folder / "secret"
    file.write_text("secret")
    os.chown(file, owner, group)
    file.chmod(mode)
    return file


@_as_root
@pytest.mark.parametrize(
    ("mode", "group", "owner", "remedy"),
    [
        (0o600, 0, 0, "Allow it: sudo chgrp daemon {file}; sudo chmod g+r {file}."),
        (0o640, 0, 0, "Allow it: sudo chgrp daemon {file}; sudo chmod g+r {file}."),
        (0o640, _USERS, 0, "Add the user to its group: sudo usermod -aG users daemon."),
        (0o600, 2, 2, "It belongs to the user bin: run this as that user (sudo -u bin), or give another path."),
        (0o000, 0, 1, "Allow it: chmod u+r {file}."),
    ],
)
def test_denied_file_is_named_with_the_command_that_allows_it(
    place: Path, mode: int, group: int, owner: int, remedy: str
) -> None:
    file = secret_in(place, mode, group=group, owner=owner)
    assert _DAEMON.why_denied(file) == Denied(f"The user daemon may not read {file}.", remedy.format(file=file))


@_as_root
def test_file_is_allowed_through_an_additional_group(place: Path) -> None:
    file = secret_in(place, 0o640, group=_USERS)
    account = Account.named("daemon", groups=("users", "no such group"))
    assert account is not None
    assert account.why_denied(file) is None
    assert Account.named("no such user") is None


@_as_root
def test_commands_of_denied_allow_the_file(place: Path) -> None:
    file = secret_in(place, 0o600)
    denied = _DAEMON.why_denied(file)
    assert denied is not None
    commands = denied.remedy.removeprefix("Allow it: ").removesuffix(".").replace("sudo ", "")
    subprocess.run(commands, shell=True, check=True)
    assert _DAEMON.why_denied(file) is None


@_as_root
def test_closed_folder_on_the_way_is_named_also_behind_a_link(place: Path) -> None:
    closed = place / "closed" / "inner"
    closed.mkdir(parents=True)
    file = secret_in(closed, 0o644)
    link = place / "link"
    link.symlink_to(file)
    assert _DAEMON.why_denied(link) is None
    closed.parent.chmod(0o700)
    for path in (file, link):
        denied = _DAEMON.why_denied(path)
        assert denied is not None
        assert denied.fact == f"The user daemon may not enter {closed.parent}."


@_as_root
def test_folder_must_allow_writing_only_if_that_is_asked(place: Path) -> None:
    assert _DAEMON.why_denied(place) is None
    denied = _DAEMON.why_denied(place, write=True)
    assert denied is not None
    assert denied.fact == f"The user daemon may not write to {place}."


@_as_root
@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed: apt install acl")
def test_access_control_list_allows_a_file(place: Path) -> None:
    file = secret_in(place, 0o600)
    subprocess.run(["setfacl", "-m", "u:1:r", file], check=True)
    assert _DAEMON.why_denied(file) is None


def test_explanation_of_other_errors_is_the_error_only(tmp_path: Path) -> None:
    assert explain(FileNotFoundError(2, "No such file or directory"), tmp_path) == "No such file or directory."
    assert explain(PermissionError(13, "Permission denied"), tmp_path) == "Permission denied."
