from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from agent.host import clock as module
from agent.host.clock import Clock, FileAges, kernel_is_synced

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400
NOW_S = 1_800_000_000


class FakeTime:
    """Stands in for the time module: the test sets both clocks."""

    def __init__(self) -> None:
        self.unix_s = float(NOW_S)
        self.steady_s = 50.0

    def time(self) -> float:
        return self.unix_s

    def time_ns(self) -> int:
        return int(self.unix_s * 1e9)

    def monotonic(self) -> float:
        return self.steady_s

    def monotonic_ns(self) -> int:
        return int(self.steady_s * 1e9)


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(module, "time", fake)
    return fake


def clock(folder: Path, *, kernel: bool | None, board: str | None = "Raspberry Pi 4") -> Clock:
    return Clock(
        kernel=lambda: kernel,
        timesyncd=folder / "timesync",
        hardware_clocks=folder / "rtc",
        board=lambda: board,
    )


def put_hardware_clock(folder: Path, unix_s: float) -> None:
    (folder / "rtc/rtc0").mkdir(parents=True)
    (folder / "rtc/rtc0/since_epoch").write_text(f"{unix_s:.0f}\n")


def test_board_without_a_battery_is_not_synced_until_a_time_server_corrects_it(
    tmp_path: Path, fake_time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "timesync").mkdir()
    board = clock(tmp_path, kernel=None)
    seen = [board.is_synced]
    (tmp_path / "timesync/synchronized").touch()
    seen.append(board.is_synced)  # asked again only after a second
    fake_time.steady_s += 1
    seen.append(board.is_synced)
    (tmp_path / "timesync/synchronized").unlink()
    fake_time.steady_s += 1
    seen.append(board.is_synced)
    assert seen == [False, False, True, True]
    assert [record.message[:21] for record in caplog.records] == ["The clock is not set ", "The clock is set."]


@pytest.mark.parametrize(("kernel", "synced"), [(True, True), (False, False)])
def test_board_is_synced_when_its_kernel_says_so(
    tmp_path: Path, fake_time: FakeTime, *, kernel: bool, synced: bool
) -> None:
    assert fake_time.unix_s == NOW_S
    assert clock(tmp_path, kernel=kernel).is_synced is synced


def test_machine_that_can_ask_nobody_is_synced(tmp_path: Path) -> None:
    assert clock(tmp_path, kernel=None).is_synced


def test_machine_without_a_device_tree_is_synced(tmp_path: Path) -> None:
    assert clock(tmp_path, kernel=False, board=None).is_synced


@pytest.mark.parametrize(("since_epoch", "synced"), [(NOW_S + 1, True), (40, False), (NOW_S - DAY_S, False)])
def test_board_is_synced_when_its_hardware_clock_agrees(
    tmp_path: Path, fake_time: FakeTime, since_epoch: float, *, synced: bool
) -> None:
    assert fake_time.unix_s == NOW_S
    put_hardware_clock(tmp_path, since_epoch)
    assert clock(tmp_path, kernel=False).is_synced is synced


def test_no_machine_is_synced_before_this_software_existed(tmp_path: Path, fake_time: FakeTime) -> None:
    fake_time.unix_s = 40.0
    put_hardware_clock(tmp_path, 40)
    assert not clock(tmp_path, kernel=True, board=None).is_synced


def test_kernel_is_asked_unless_the_system_calls_of_the_process_are_filtered(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nSeccomp:\t0\nSeccomp_filters:\t0\n")
    assert kernel_is_synced(status) in (True, False, None)
    status.write_text("Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t17\n")
    assert kernel_is_synced(status) is None


def test_moment_before_a_correction_gets_the_corrected_time(fake_time: FakeTime) -> None:
    captured_ns = fake_time.monotonic_ns()
    fake_time.steady_s += 2
    fake_time.unix_s += 2 + 400 * DAY_S
    assert Clock.unix_ns(captured_ns) == (NOW_S + 400 * DAY_S) * 10**9


def test_unix_time_of_a_moment_is_right() -> None:
    assert Clock.unix_ns(time.monotonic_ns()) == pytest.approx(time.time_ns(), abs=10**9)


def test_file_never_seems_older_than_it_is_when_the_clock_jumps(fake_time: FakeTime) -> None:
    ages, changed_s = FileAges(), fake_time.time() - 3
    assert ages.age_s(changed_s) == pytest.approx(3)
    fake_time.unix_s += DAY_S  # a file from before the jump
    assert ages.age_s(changed_s) == pytest.approx(3)
    fake_time.unix_s -= 2 * DAY_S
    assert ages.age_s(changed_s) < 0
    changed_s = fake_time.time() - 3  # a file from after the jump
    assert ages.age_s(changed_s) == pytest.approx(3)
