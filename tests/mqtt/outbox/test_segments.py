from __future__ import annotations

import os
import random
import resource
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import SegmentError
from agent.host.clock import Clock
from agent.mqtt.outbox.blocks import Entry, Position
from agent.mqtt.outbox.segments import Found, Hole, Segments

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOT = "01M8AAAAAAAAAAAAAAAAAAAAAA"
_LATER = "01M8BBBBBBBBBBBBBBBBBBBBBB"
_START = Position(0, 0)


def _clock(*, is_set: bool) -> Clock:
    return Clock(kernel=lambda: is_set, hardware_clocks=Path("/none"), board=lambda: "a board")


_SET = _clock(is_set=True)


def _entries(first: int, last: int, boot: str = _BOOT) -> list[Entry]:
    return [Entry(boot, seq, "edge-agent/pi/uploads/result", b'{"seq":%d}' % seq) for seq in range(first, last + 1)]


def _segments(
    folder: Path,
    boot: str = _BOOT,
    *,
    segment_bytes: int = 1 << 20,
    reserve_bytes: int = 0,
    clock: Clock = _SET,
) -> Segments:
    return Segments(
        folder, boot=boot, segment_bytes=segment_bytes, segment_s=3600.0, reserve_bytes=reserve_bytes, clock=clock
    )


def _opened(segments: Segments) -> Found:
    found = segments.open()
    segments.repair()
    return found


def _seqs(segments: Segments, found: Found) -> list[int]:
    return [entry.seq for each in found.segments for entry in segments.read(each, 0, each.count)[0]]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def test_next_run_finds_appended_entries(tmp_path: Path) -> None:
    first = _segments(tmp_path)
    first.append(_entries(1, 300), _START)
    first.append(_entries(301, 303), _START)
    later = _segments(tmp_path, _LATER)
    found = _opened(later)
    assert [(each.boot, each.count, each.seqs) for each in found.segments] == [(_BOOT, 303, (1, 303))]
    assert (found.holes, found.killed, found.cursor) == ((), None, _START)
    (entries, end) = later.read(found.segments[0], 0, 10_000)
    assert entries == _entries(1, 303)
    assert end == found.segments[0].size


def test_read_continues_where_it_stopped(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    for seq in range(1, 6):
        segment, first = segments.append(_entries(seq, seq), _START)
        assert first == seq - 1
    entries, offset = segments.read(segment, 0, 2)
    assert [entry.seq for entry in entries] == [1, 2]
    entries, offset = segments.read(segment, offset, 99)
    assert [entry.seq for entry in entries] == [3, 4, 5]
    segments.append(_entries(6, 6), _START)
    assert [entry.seq for entry in segments.read(segment, offset, 99)[0]] == [6]


def test_full_segment_or_new_run_starts_another_segment(tmp_path: Path) -> None:
    segments = _segments(tmp_path, segment_bytes=1)
    numbers = [segments.append(_entries(seq, seq), _START)[0].number for seq in (1, 2)]
    later = _segments(tmp_path, _LATER)
    _opened(later)
    numbers.append(later.append(_entries(1, 1, _LATER), _START)[0].number)
    assert numbers == [1, 2, 3]


def test_next_run_removes_entries_before_the_newest_cursor(tmp_path: Path) -> None:
    segments = _segments(tmp_path, segment_bytes=1)
    for seq in (1, 2, 3):
        segments.append(_entries(seq, seq), _START)
    segments.append([], Position(2, 1))
    later = _segments(tmp_path, _LATER)
    assert _seqs(later, _opened(later)) == [3]
    assert [path.name[:12] for path in _files(tmp_path)] == ["000000000003"]


def test_torn_end_of_a_killed_run_is_not_damage(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    segments.begin()
    segments.append(_entries(1, 5), _START)
    segments.append(_entries(6, 9), _START)
    (path,) = _files(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    later = _segments(tmp_path, _LATER)
    found = _opened(later)
    assert (_seqs(later, found), found.holes, found.killed) == ([1, 2, 3, 4, 5], (), _BOOT)


def test_torn_end_of_a_cleanly_stopped_run_is_damage_even_after_a_later_kill(tmp_path: Path) -> None:
    _segments(tmp_path).append(_entries(1, 5), _START)
    (path,) = _files(tmp_path)
    os.truncate(path, path.stat().st_size - 3)
    _segments(tmp_path, _LATER).begin()
    found = _opened(_segments(tmp_path, "01M8CCCCCCCCCCCCCCCCCCCCCC"))
    assert (found.holes, found.killed) == ((Hole(1, _BOOT, None, None),), _LATER)


def test_open_distinguishes_a_clean_stop_from_a_kill(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    segments.begin()
    assert _opened(_segments(tmp_path, _LATER)).killed == _BOOT
    segments.end()
    assert _opened(_segments(tmp_path, _LATER)).killed is None


def test_damage_loses_one_block_and_is_reported_with_the_adjacent_seqs(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    ends = []
    for seq in (1, 11, 21):
        segments.append(_entries(seq, seq + 9), _START)
        ends.append(_files(tmp_path)[0].stat().st_size)
    (path,) = _files(tmp_path)
    content = bytearray(path.read_bytes())
    content[ends[0] + 60] ^= 1
    path.write_bytes(content)
    later = _segments(tmp_path, _LATER)
    found = _opened(later)
    assert found.holes == (Hole(1, _BOOT, 10, 21),)
    assert _seqs(later, found) == [*range(1, 11), *range(21, 31)]
    assert path.with_name(path.name + ".damaged").read_bytes() == content
    again = _opened(_segments(tmp_path, _LATER))
    assert (again.holes, again.segments[0].count) == ((), 20), "damage is reported once"


@pytest.mark.parametrize("content", [b"", bytes(4096), b"eao1" * 100, b"no segment at all"])
def test_file_without_a_whole_block_is_set_aside(tmp_path: Path, content: bytes) -> None:
    segments = _segments(tmp_path)
    segments.append(_entries(1, 5), _START)
    (path,) = _files(tmp_path)
    path.write_bytes(content)
    found = _opened(_segments(tmp_path, _LATER))
    assert (found.segments, found.holes) == ((), (Hole(1, _BOOT, None, None),))
    assert _files(tmp_path) == []
    assert path.with_name(path.name + ".damaged").read_bytes() == content


def test_folder_in_the_place_of_a_segment_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / f"000000000001-{_BOOT}.segment").mkdir()
    (tmp_path / f"000000000000-{_BOOT}.segment.damaged" / "full").mkdir(parents=True)
    segments = _segments(tmp_path, _LATER)
    assert _opened(segments).segments == ()
    assert segments.append(_entries(1, 1, _LATER), _START)[0].number == 2


def test_random_damage_neither_fails_nor_changes_an_entry(tmp_path: Path) -> None:
    good = _segments(tmp_path / "good")
    for seq in range(1, 101, 5):
        good.append(_entries(seq, seq + 4), _START)
    (path,) = _files(tmp_path / "good")
    whole = path.read_bytes()
    dice = random.Random(5)
    for number in range(100):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            content[dice.randrange(len(content))] ^= dice.randint(1, 255)
        if dice.random() < 0.3:
            del content[dice.randrange(len(content)) :]
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / path.name).write_bytes(content)
        later = _segments(folder, _LATER)
        found = _opened(later)
        seqs = _seqs(later, found)
        assert set(seqs) <= set(range(1, 101))
        assert len(seqs) == 100 or found.holes, "missing entries are reported, unless the cut was between two blocks"


def test_segment_damaged_or_removed_at_run_time_raises_an_error(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    segment, _ = segments.append(_entries(1, 5), _START)
    (path,) = _files(tmp_path)
    path.write_bytes(bytes(segment.size))
    with pytest.raises(SegmentError):
        segments.read(segment, 0, 9)
    path.unlink()
    with pytest.raises(SegmentError):
        segments.read(segment, 0, 9)
    segments.set_aside(segment)
    with pytest.raises(OSError, match="No such file"):
        _vanished(segments, tmp_path)
    assert segments.append(_entries(7, 7), _START)[1] == 0, "the next entry starts a new file"


def _vanished(segments: Segments, folder: Path) -> None:
    segments.append(_entries(6, 6), _START)
    _files(folder)[-1].unlink()
    segments.append(_entries(7, 7), _START)


def test_append_writes_nothing_while_the_disk_is_nearly_full(tmp_path: Path) -> None:
    segments = _segments(tmp_path, reserve_bytes=1 << 60)
    with pytest.raises(OSError, match="MB are free"):
        segments.append(_entries(1, 1), _START)
    assert _files(tmp_path) == []


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """Limits files to `size` bytes, so that a write fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_failed_write_leaves_the_file_unchanged(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    segments.append(_entries(1, 5), _START)
    before = _files(tmp_path)[0].read_bytes()
    with _largest_file(len(before) + 10), pytest.raises(OSError, match="No space left"):
        segments.append(_entries(6, 6), _START)
    assert _files(tmp_path)[0].read_bytes() == before
    segments.append(_entries(6, 6), _START)
    later = _segments(tmp_path, _LATER)
    assert _seqs(later, _opened(later)) == [1, 2, 3, 4, 5, 6]


def test_damage_before_the_cursor_does_not_hide_later_entries(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    for seq in (1, 11, 21):
        segments.append(_entries(seq, seq + 9), _START)
    segments.append([], Position(1, 15))
    (path,) = _files(tmp_path)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    later = _segments(tmp_path, _LATER)
    found = _opened(later)
    assert (found.cursor, _seqs(later, found)) == (Position(1, 0), [*range(11, 31)])


def test_failed_repair_loses_no_entry(tmp_path: Path) -> None:
    segments = _segments(tmp_path)
    for seq in (1, 11, 21):
        segments.append(_entries(seq, seq + 9), _START)
    (path,) = _files(tmp_path)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    later = _segments(tmp_path, _LATER)
    in_the_way = path.with_name(f".{path.name}.new")
    in_the_way.mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match="Is a directory"):
            _opened(later)
    in_the_way.rmdir()
    found = _opened(later)
    assert found.holes[-1] == Hole(1, _BOOT, None, 11)
    assert _seqs(later, found) == [*range(11, 31)]


def test_unreadable_file_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    segments = _segments(tmp_path, segment_bytes=1)
    for seq in (1, 2, 3):
        segments.append(_entries(seq, seq), _START)
    read = type(tmp_path).read_bytes
    troubles = {"000000000001": PermissionError(13, "Permission denied"), "000000000002": OSError(5, "I/O error")}

    def fail(path: Path) -> bytes:
        if (error := troubles.get(path.name[:12])) is not None:
            raise error
        return read(path)

    monkeypatch.setattr(type(tmp_path), "read_bytes", fail)
    later = _segments(tmp_path, _LATER)
    found = _opened(later)
    assert (found.holes, _seqs(later, found)) == ((Hole(2, _BOOT, None, None),), [3])
    assert "Make it readable for the agent's user and its results will be sent." in caplog.text
    later.append([], Position(4, 0))
    monkeypatch.undo()
    assert _seqs(later, _opened(_segments(tmp_path, _LATER))) == [1], (
        "a file that is readable again is delivered, though late"
    )


def test_entries_do_not_age_over_a_restart_while_the_clock_is_not_set(tmp_path: Path) -> None:
    def age_s(clock: Clock) -> float:
        (segment,) = _opened(_segments(tmp_path, _LATER, clock=clock)).segments
        return time.monotonic() - segment.written_s

    _segments(tmp_path).append(_entries(1, 3), _START)
    (file,) = _files(tmp_path)
    os.utime(file, (0, time.time() - 1000))
    assert 999 < age_s(_SET) < 1100
    assert age_s(_clock(is_set=False)) < 100
    os.utime(file, (0, time.time() + 1000))
    assert age_s(_SET) < 100


def test_entries_written_while_the_clock_was_not_set_do_not_age_over_a_restart(tmp_path: Path) -> None:
    _segments(tmp_path, clock=_clock(is_set=False)).append(_entries(1, 3), _START)
    (segment,) = _opened(_segments(tmp_path, _LATER)).segments
    assert time.monotonic() - segment.written_s < 100
