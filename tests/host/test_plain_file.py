from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.host import plain_file
from agent.host.plain_file import open_plain_file, read_plain_file, status_below

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder like a mounted ConfigMap: x -> ..data/x, ..data -> ..2024; it also has a folder in/."""
    folder = tmp_path / "models"
    (folder / "..2024" / "in").mkdir(parents=True)
    (folder / "..2024" / "x").write_bytes(b"inside")
    (folder / "..2024" / "in" / "y").write_bytes(b"deep inside")
    (folder / "..data").symlink_to("..2024")
    (folder / "x").symlink_to("..data/x")
    (folder / "in").symlink_to("..data/in")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


@pytest.mark.parametrize(("name", "content"), [("x", b"inside"), ("in/y", b"deep inside"), ("..2024/x", b"inside")])
def test_link_below_the_root_is_followed(root: Path, name: str, content: bytes) -> None:
    assert read_plain_file(root / name, max_bytes=100, root=root) == content
    status = status_below(root / name, root)
    assert status is not None
    assert stat.S_ISREG(status.st_mode)


def test_link_is_never_followed_without_a_root(root: Path) -> None:
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_plain_file(root / "x")
    assert status_below(root / "x", None) is None


def test_absolute_link_into_the_root_is_followed(root: Path) -> None:
    (root / "absolute").symlink_to(root / "..data" / "x")
    assert read_plain_file(root / "absolute", max_bytes=100, root=root) == b"inside"


BAD_LINKS: dict[str, Callable[[Path], object]] = {
    "out": lambda link: link.symlink_to("../secret"),
    "absolute": lambda link: link.symlink_to("/etc/passwd"),
    "device": lambda link: link.symlink_to("/dev/null"),
    "out and in": lambda link: link.symlink_to("../models/..2024/x"),
    "through a folder": lambda link: link.symlink_to("..data/in/../../../secret"),
    "loop": lambda link: link.symlink_to(link.name),
    "nowhere": lambda link: link.symlink_to("nothing"),
    "fifo": os.mkfifo,
    "folder": lambda link: link.symlink_to("..2024"),
}


@pytest.mark.parametrize("make", BAD_LINKS.values(), ids=list(BAD_LINKS))
def test_other_link_is_refused(root: Path, make: Callable[[Path], object]) -> None:
    make(root / "bad")
    with pytest.raises(OSError, match=r".+"):
        open_plain_file(root / "bad", root=root)
    status = status_below(root / "bad", root)
    assert status is None or not stat.S_ISREG(status.st_mode)


@pytest.mark.parametrize("link", ["x", "..2024"])
def test_link_that_appears_after_the_path_was_resolved_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    """An attacker who may write to the folder replaces a file, or a folder on the way, at the worst moment."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"secret")
    resolve = plain_file._below

    def replace(folder: Path, path: Path) -> Path:
        resolved = resolve(folder, path)
        place = resolved if link == "x" else resolved.parent
        place.rename(root / "old")
        place.symlink_to(outside / "x" if link == "x" else outside)
        return resolved

    monkeypatch.setattr(plain_file, "_below", replace)
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        open_plain_file(root / "x", root=root)


def test_file_on_another_file_system_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lstat = Path.lstat

    def elsewhere(path: Path) -> os.stat_result:  # a mount needs root
        status = lstat(path)
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:])) if "..2024" in str(path) else status

    monkeypatch.setattr(Path, "lstat", elsewhere)
    assert status_below(root / "x", root) is None
