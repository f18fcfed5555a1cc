"""Checks of output paths, and atomic writes."""

from __future__ import annotations

import os
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from converter.errors import ConverterError, UsageError
from converter.output import check_output, write_whole
from converter.training.export import check_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    OnFsync: TypeAlias = Callable[[Callable[[int], None]], None]


@contextmanager
def file_size_limited_to_1_kb() -> Iterator[None]:
    """Not a fixture, since pytest itself writes to a file between a fixture and its test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def part(folder: Path) -> Path:
    return folder / f".m.tflite.{os.getpid()}.part"


def test_write_whole_does_not_follow_a_link_in_place_of_the_temporary_file(tmp_path: Path) -> None:
    part(tmp_path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConverterError, match="File exists"):
        write_whole(tmp_path / "m.tflite", b"content")
    assert not (tmp_path / "elsewhere").exists()


def test_existing_file_is_refused_without_force(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"earlier")
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "new.tflite", tmp_path / "m.tflite"], force=False)
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} already exists. Use --force to replace it."
    check_output([tmp_path / "m.tflite"], force=True)


def test_missing_folder_is_refused_even_with_force(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "absent" / "m.tflite"], force=True)
    assert str(raised.value) == f"The folder {tmp_path / 'absent'} does not exist. Create it first."


def test_read_only_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # tests may run as root, who may write there
    with pytest.raises(UsageError, match=f"{tmp_path} cannot be written to"):
        check_output([tmp_path / "model.tflite"], force=False)
    with pytest.raises(UsageError, match=f"{tmp_path} cannot be written to"):
        check_folder(tmp_path / "model", force=False)


def test_folder_as_output_file_is_refused_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(UsageError) as raised:
        check_output([tmp_path / "m.tflite"], force=True)
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} is a folder. Give the name of a file."


def test_write_whole_writes_and_replaces_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "m.tflite", b"first")
    write_whole(tmp_path / "m.tflite", b"second, longer")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"second, longer"


def test_open_reader_keeps_reading_the_earlier_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")
    with (tmp_path / "m.tflite").open("rb") as reader:
        write_whole(tmp_path / "m.tflite", b"later")
        assert reader.read() == b"earlier"


def test_full_disk_leaves_only_the_earlier_file(tmp_path: Path, on_fsync: OnFsync) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    on_fsync(full)
    with pytest.raises(ConverterError) as raised:
        write_whole(tmp_path / "m.tflite", b"later")
    assert str(raised.value) == f"{tmp_path / 'm.tflite'} cannot be written: No space left on device."
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"earlier"


def test_incomplete_write_leaves_no_file(tmp_path: Path) -> None:
    cut_off = pytest.raises(ConverterError, match=r"m\.tflite cannot be written: File too large\.$")
    with cut_off, file_size_limited_to_1_kb():
        write_whole(tmp_path / "m.tflite", bytes(4096))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_leaves_only_the_earlier_file(tmp_path: Path, on_fsync: OnFsync) -> None:
    write_whole(tmp_path / "m.tflite", b"earlier")

    def interrupted(descriptor: int) -> None:
        assert part(tmp_path).read_bytes() == b"later"
        raise KeyboardInterrupt

    on_fsync(interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "m.tflite", b"later")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    assert (tmp_path / "m.tflite").read_bytes() == b"earlier"


def test_write_whole_syncs_file_and_folder(tmp_path: Path, on_fsync: OnFsync) -> None:
    synced: list[Path] = []
    on_fsync(lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    write_whole(tmp_path / "m.tflite", b"content")
    assert synced == [part(tmp_path), tmp_path]


def test_removed_folder_raises_a_converter_error(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=r"cannot be written: No such file or directory\.$"):
        write_whole(tmp_path / "gone" / "m.tflite", b"content")


def test_read_only_folder_raises_a_converter_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(ConverterError, match=r"m\.tflite cannot be written: Read-only file system\.$"):
        write_whole(tmp_path / "m.tflite", b"later")
