from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest
from sources.fake_v4l2 import CAPTURE, IO_MC, MEMORY_TO_MEMORY, METADATA, Board, FakeDriver, webcam

from agent.errors import SourceError
from agent.sources import v4l2_node
from agent.sources.devices import csi_stack, set_controls
from agent.sources.v4l2_node import control_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_requests_have_the_numbers_of_the_kernel() -> None:
    # Printed by a C program that includes linux/videodev2.h; -m32 gives the same sizes.
    assert v4l2_node.QUERYCAP == 0x80685600
    assert v4l2_node.ENUM_FMT == 0xC0405602
    assert v4l2_node.ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2_node.ENUM_FRAMEINTERVALS == 0xC034564B
    assert v4l2_node.QUERYCTRL == 0xC0445624
    assert v4l2_node.QUERYMENU == 0xC02C5625
    assert v4l2_node.S_CTRL == 0xC008561C


def test_camera_is_listed_with_its_formats_sizes_rates_and_controls(tmp_path: Path) -> None:
    (device,) = Board(tmp_path, {0: webcam()}).devices()
    assert (device.name, device.source, device.trouble) == ("HD Webcam", str(tmp_path / "dev/video0"), None)
    assert {each.name: {(size.width, size.height): size.rates for size in each.sizes} for each in device.formats} == {
        "mjpeg": {(1280, 720): (30.0, 15.0), (640, 480): (30.0,)},
        "yuyv": {(640, 480): (30.0,), (1280, 720): (10.0, 7.5)},
    }
    assert {each.name: each.range for each in device.controls} == {
        "brightness": "-64 to 64",
        "auto_exposure": "1 (Manual Mode), 3 (Aperture Priority Mode)",
        "exposure_time_absolute": "1 to 5000",
        "power_line_frequency": "0 (50), 1 (60)",
        "zoom_absolute": "100 to 200 in steps of 10",
        "firmware": "0 to 255",
    }


def test_stepwise_sizes_are_offered_as_the_usual_ones_and_the_largest(tmp_path: Path) -> None:
    driver = FakeDriver(formats={"H264": {(32, 1296, 2, 32, 972, 2): [(1, 90), (1, 1)]}})
    (device,) = Board(tmp_path, {0: driver}).devices()
    (h264,) = device.formats
    sizes = [(size.width, size.height) for size in h264.sizes]
    assert sizes == [(320, 240), (640, 480), (800, 600), (1280, 720), (1280, 960), (1296, 972)]
    assert {size.rates for size in h264.sizes} == {(90.0, 1.0)}


def test_nodes_that_are_not_cameras_are_left_out(tmp_path: Path) -> None:
    others: dict[int, FakeDriver | OSError] = {
        1: FakeDriver(caps=METADATA),
        10: FakeDriver(driver="bcm2835-codec", caps=CAPTURE | MEMORY_TO_MEMORY),
        13: FakeDriver(driver="bcm2835-isp"),
        14: FakeDriver(driver="unicam"),
        15: FakeDriver(driver="rp1-cfe", caps=CAPTURE | IO_MC),
        16: FakeDriver(driver="another", caps=CAPTURE | IO_MC),
        20: OSError(errno.ENODEV, "No such device"),
    }
    assert [device.node[-6:] for device in Board(tmp_path, {0: webcam(), **others}).devices()] == ["video0"]


def test_source_is_the_path_that_follows_the_camera(tmp_path: Path) -> None:
    board = Board(tmp_path, {2: webcam(), 10: webcam(), 11: webcam()})
    board.link("by-path", "pci-usb-1-video-index0", 2)
    by_path = board.link("by-path", "pci-usb-2-video-index0", 10)
    by_id = board.link("by-id", "usb-HD_Webcam-video-index0", 2)
    assert [device.source for device in board.devices()] == [by_id, by_path, str(tmp_path / "dev/video11")]


def test_device_without_permission_is_listed_with_the_remedy(tmp_path: Path) -> None:
    (device,) = Board(tmp_path, {3: OSError(errno.EACCES, "Permission denied")}).devices()
    assert (device.name, device.formats) == ("Old Webcam", ())
    assert device.trouble == (
        f"No permission to use {device.node}. Run the command with sudo, or add this user to the group video."
    )


def test_controls_are_set_in_order_so_that_a_mode_activates_another() -> None:
    driver = webcam()
    set_controls(9, {"auto_exposure": 1, "exposure_time_absolute": 300}, ioctl=driver.ioctl)
    values = {each.title: each.value for each in driver.controls}
    assert (values["Auto Exposure"], values["Exposure Time, Absolute"]) == (1, 300)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("brightness", 65, "The camera's control brightness does not take 65. It takes -64 to 64."),
        ("zoom_absolute", 105, "does not take 105. It takes 100 to 200 in steps of 10."),
        ("auto_exposure", 2, "does not take 2. It takes 1 (Manual Mode), 3 (Aperture Priority Mode)."),
        ("exposure_time_absolute", 5, "is inactive. Set first what decides about it, such as auto_exposure: 1."),
        ("firmware", 1, "The camera's control firmware cannot be set. Remove it from controls."),
        ("reset", 1, "The camera has no control reset. Its controls: auto_exposure, brightness, exposure_time_ab"),
    ],
)
def test_wrong_control_is_refused_with_what_the_camera_takes(name: str, value: int, sentence: str) -> None:
    driver = webcam()
    before = [each.value for each in driver.controls]
    with pytest.raises(SourceError) as refused:
        set_controls(9, {name: value}, ioctl=driver.ioctl)
    assert sentence in str(refused.value)
    assert [each.value for each in driver.controls] == before


def test_control_that_the_driver_refuses_is_a_sentence() -> None:
    driver = webcam()
    driver.refuses = errno.EIO
    with pytest.raises(SourceError, match=r"The camera refused brightness: 3 \(Input/output error\)\."):
        set_controls(9, {"brightness": 3}, ioctl=driver.ioctl)


def test_controls_of_a_device_that_is_missing_or_not_a_camera_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none does not exist\. Plug the camera in"):
        set_controls(str(tmp_path / "none"), {"brightness": 3})
    with pytest.raises(SourceError, match=r"no control brightness\. Its controls: none\."):
        set_controls(os.devnull, {"brightness": 3})


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Exposure (Absolute)", "exposure_absolute"),
        ("White Balance Temperature, Auto", "white_balance_temperature_auto"),
        ("  3A, Lock ", "3a_lock"),
    ],
)
def test_control_has_the_name_that_v4l2_ctl_gives_it(title: str, name: str) -> None:
    assert control_name(title) == name


def test_faulty_driver_that_never_ends_its_list_is_bounded(tmp_path: Path) -> None:
    class Endless(FakeDriver):
        def _format(self, buffer: bytearray) -> None:
            (index,) = struct.unpack_from("=I", buffer)
            struct.pack_into("=4s", buffer, 44, f"{index % 1000:04}".encode())

        def _size(self, buffer: bytearray) -> None:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    (device,) = Board(tmp_path, {0: Endless()}).devices()
    assert len(device.formats) == 256


def test_csi_stack_is_the_program_of_the_board(tmp_path: Path) -> None:
    assert csi_stack(_installed("rpicam-vid"), dev=tmp_path) == ("rpicam-vid", False)
    (tmp_path / "media0").touch()
    assert csi_stack(_installed("libcamera-vid"), dev=tmp_path) == ("libcamera-vid", True)
    assert csi_stack(_installed(), dev=tmp_path) is None


def _installed(*programs: str) -> Callable[[str], str | None]:
    return lambda program: f"/usr/bin/{program}" if program in programs else None
