from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import cv2
import pytest
from sources.observing import Seen

from agent.sources.capture import Capture
from agent.sources.capture_options import CaptureOptions
from agent.sources.v4l2 import V4l2Device, open_device

if TYPE_CHECKING:
    from sources.fake_capture import FakeCapture

ANY: dict[str, Any] = {"size": None, "fps": None, "format": None, "controls": {}}
MJPG = cv2.VideoWriter.fourcc(*"MJPG")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("9", "/dev/video9 does not exist. Plug the camera in; `edge-agent cameras`"),
        ("/dev/v4l/by-id/none", "/dev/v4l/by-id/none does not exist"),
        ("/dev/null", "/dev/null gives no video. Stop the program that uses it"),
    ],
)
async def test_device_reports_what_to_do_when_it_cannot_be_opened(source: str, sentence: str) -> None:
    seen = Seen()
    with closing(Capture(V4l2Device(source, CaptureOptions()), on_status=seen)):
        assert str((await seen.until("lost")).reason).startswith(sentence)


@pytest.mark.anyio
async def test_device_is_lost_with_the_reason_why_a_control_cannot_be_set() -> None:
    seen = Seen()
    options = CaptureOptions(controls={"brightness": 300})
    with closing(Capture(V4l2Device("/dev/null", options), on_status=seen)):
        assert "no control brightness" in str((await seen.until("lost")).reason)


def test_device_explains_that_it_stopped() -> None:
    device = V4l2Device("/dev/null", CaptureOptions())
    assert device.explain(opened=True).startswith("/dev/null stopped giving frames. Plug it in again")


def test_device_explains_that_this_user_has_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open every file, and the test may run as root
    device = V4l2Device("/dev/null", CaptureOptions())
    assert "Add the user of this program to the group video" in device.explain(opened=False)


@pytest.fixture
def opened(capture: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    """OpenCV opens this capture for every device."""
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return capture


def test_device_is_opened_by_v4l2_with_a_queue_of_one(opened: FakeCapture) -> None:
    open_device("/dev/video0", ANY)
    assert opened.opened_with == ("/dev/video0", cv2.CAP_V4L2)
    assert opened.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}


def test_format_is_chosen_before_the_size_which_depends_on_it(opened: FakeCapture) -> None:
    open_device("/dev/video0", {**ANY, "size": [640, 480], "fps": 15, "format": "YUYV"})
    assert list(opened.settings) == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_BUFFERSIZE,
    ]


def test_large_picture_is_asked_for_as_jpegs_that_stay_encoded(opened: FakeCapture) -> None:
    open_device("/dev/video0", {**ANY, "size": [1920, 1080]})
    assert opened.settings[cv2.CAP_PROP_FOURCC] == MJPG
    assert opened.settings[cv2.CAP_PROP_CONVERT_RGB] == 0


def test_picture_is_decoded_when_the_device_has_no_jpegs(opened: FakeCapture) -> None:
    opened.refused = {cv2.CAP_PROP_FOURCC}
    open_device("/dev/video0", {**ANY, "size": [1920, 1080]})
    assert cv2.CAP_PROP_CONVERT_RGB not in opened.settings
