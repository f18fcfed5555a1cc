from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor import device

if TYPE_CHECKING:
    from pathlib import Path


def test_memory_limit_is_a_warning_when_the_cgroup_is_off(tmp_path: Path) -> None:
    assert device.check_memory_cgroup(tmp_path / "none").level == "warning"
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    assert device.check_memory_cgroup(tmp_path).level == "warning"
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert device.check_memory_cgroup(tmp_path).level == "ok"
    (tmp_path / "v1/memory").mkdir(parents=True)
    assert device.check_memory_cgroup(tmp_path / "v1").level == "ok"


def test_heat_is_a_warning_from_80_degrees_on() -> None:
    assert device.check_heat(79.0).level == "ok"
    assert device.check_heat(80.0).level == "warning"


def test_power_clock_and_disk_are_checked(tmp_path: Path) -> None:
    assert device.check_power().about == "power"
    assert device.check_clock().level in ("ok", "warning")
    assert str(tmp_path) in device.check_disk(tmp_path / "not/there/yet").fact


def test_wear_is_a_warning_when_a_card_is_worn(tmp_path: Path) -> None:
    assert device.check_wear(tmp_path).level == "ok"
    (tmp_path / "mmcblk0/device").mkdir(parents=True)
    (tmp_path / "mmcblk0/device/life_time").write_text("0x01 0x02\n")
    assert device.check_wear(tmp_path).fact == "mmcblk0: at most 20 % used"
    (tmp_path / "mmcblk0/device/life_time").write_text("0x01 0x0a\n")
    assert device.check_wear(tmp_path).level == "warning"


def test_drop_folder_is_a_fault_when_it_is_missing_and_a_warning_when_empty(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").touch()
    assert device.check_drop_folder(tmp_path).fact == f"1 found in {tmp_path}"
    (tmp_path / "a.tflite").unlink()
    assert device.check_drop_folder(tmp_path).level == "warning"
    (tmp_path / "birds/1").mkdir(parents=True)
    (tmp_path / "birds/1/model.tflite").touch()
    assert device.check_drop_folder(tmp_path).level == "ok"
    (tmp_path / "birds.zip").touch()
    assert device.check_drop_folder(tmp_path).level == "warning"
    assert device.check_drop_folder(tmp_path).fact.startswith("birds.zip is ignored")
    assert device.check_drop_folder(tmp_path / "none").level == "fault"
