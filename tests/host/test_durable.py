from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.host import durable
from agent.host.durable import replace_file, write_and_rename

if TYPE_CHECKING:
    from pathlib import Path


def test_replace_writes_a_file_in_a_new_folder_without_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.json"
    replace_file(path, b"first")
    replace_file(path, b"second, longer")
    assert path.read_bytes() == b"second, longer"
    assert [file.name for file in path.parent.iterdir()] == ["history.json"]


def test_replace_works_when_a_power_cut_left_a_temporary_file(tmp_path: Path) -> None:
    (tmp_path / ".history.json.new").write_bytes(b"half of an earlier atte")
    replace_file(tmp_path / "history.json", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["history.json"]
    assert (tmp_path / "history.json").read_bytes() == b"whole"


def test_replace_keeps_the_earlier_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "history.json", b"earlier")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "history.json", b"later")
    assert [file.name for file in tmp_path.iterdir()] == ["history.json"]
    assert (tmp_path / "history.json").read_bytes() == b"earlier"


def test_replace_does_not_remove_the_file_of_the_next_writer_after_its_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_file = tmp_path / ".history.json.new"
    monkeypatch.setattr(durable, "flush_folder", lambda _: next_file.write_bytes(b"of the next writer"))
    replace_file(tmp_path / "history.json", b"first")
    assert next_file.read_bytes() == b"of the next writer"


def test_file_gets_the_given_time_of_modification(tmp_path: Path) -> None:
    write_and_rename(tmp_path / "aside", tmp_path / "a", b"content", modified_ns=7_000_000_001)
    assert (tmp_path / "a").stat().st_mtime_ns == 7_000_000_001
