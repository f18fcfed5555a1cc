"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from converter.errors import ConverterError, UsageError
from converter.output import check_output, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    OnFsync: TypeAlias = Callable[[Callable[[int], None]], None]


@contextmanager
def at_most_a_kilobyte_a_file() -> Iterator[None]:
    """Not as a fixture: pytest itself writes to a file between a fixture and its test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def part(folder: Path) -> Path:
    return folder / f".m.tflite.{os.getpid()}.part"


def test_nobody_can_lead_the_writing_elsewhere_by_a_link(tmp_path: Path) -> None:
    part(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConverterError, match="File exists"):
        write_whole(tmp_path / "m.tflite", b"content")
    assert not (tmp_path / "elsewhere").exists()


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"earlier")
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "new.tflite", tmp_path / "m.tflite"], force=False)
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} already exists. Use --force to replace it."
    check_output([tmp_path / "m.tflite"], force=True)


def test_a_missing_folder_is_named_even_with_force(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "absent" / "m.tflite"], force=True)
    assert str(raised.value) == f"The folder {tmp_path / 'absent'} does not exist. Create it first."


def test_a_folder_in_the_files_place_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "m.tflite"], force=True)
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} is a folder. Give the name of a file."


def test_a_file_is_written_and_replaced_and_nothing_left_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "m.tflite", b"first")
    write_whole(tmp_path / "m.tflite", b"second, longer")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"second, longer"


def test_who_reads_the_earlier_file_reads_it_to_its_end(tmp_path: Path) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")
    with (tmp_path / "m.tflite").open("rb") as reader:
        write_whole(tmp_path / "m.tflite", b"later")
        assert reader.read() == b"earlier"


def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, on_fsync: OnFsync) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    on_fsync(full)
    with pytest.raises(ConverterError) as raised:
        write_whole(tmp_path / "m.tflite", b"later")
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} cannot be written: No space left on device."
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"earlier"


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    cut_off = pytest.raises(ConverterError, match=r"m\.tflite cannot be written: File too large\.$")
    with cut_off, at_most_a_kilobyte_a_file():
        write_whole(tmp_path / "m.tflite", bytes(4096))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, on_fsync: OnFsync) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")

    def interrupted(descriptor: int) -> None:
        assert part(tmp_path).read_bytes() == b"later"
        raise KeyboardInterrupt

    on_fsync(interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "m.tflite", b"later")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"earlier"


def test_content_and_name_are_both_on_the_disk_when_it_returns(tmp_path: Path, on_fsync: OnFsync) -> None:
    synced: list[Path] = []
    on_fsync(lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    write_whole(tmp_path / "m.tflite", b"content")
    assert synced == [part(tmp_path), tmp_path]


def test_a_folder_that_vanished_meanwhile_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=r"cannot be written: No such file or directory\.$"):
        write_whole(tmp_path / "gone" / "m.tflite", b"content")


def test_a_folder_that_cannot_be_written_to_is_told_in_the_same_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(ConverterError, match=r"m\.tflite cannot be written: Read-only file system\.$"):
        write_whole(tmp_path / "m.tflite", b"later")
