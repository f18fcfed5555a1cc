from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import cv2
import pytest
from sources.observing import Seen, soon, until

from agent.sources.capture import Capture
from agent.sources.v4l2 import V4l2Device
from agent.status import CameraStatus

if TYPE_CHECKING:
    from sources.fake_capture import FakeCapture

pytestmark = pytest.mark.anyio

ONLINE = CameraStatus("online")


@pytest.fixture
def opened(capture: FakeCapture, monkeypatch: pytest.MonkeyPatch) -> FakeCapture:
    """OpenCV opens this capture for every device."""
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    return capture


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("9", "/dev/video9 does not exist. Plug the camera in"),
        ("/dev/v4l/by-id/none", "/dev/v4l/by-id/none does not exist"),
        ("/dev/null", "/dev/null gives no video. Stop the program that uses it"),
    ],
)
async def test_device_reports_what_to_do_when_it_cannot_be_opened(source: str, sentence: str) -> None:
    seen = Seen()
    with closing(Capture(V4l2Device(source), on_status=seen)):
        assert str((await seen.until("lost")).reason).startswith(sentence)


async def test_device_reports_the_same_loss_once(opened: FakeCapture) -> None:
    seen = Seen()
    opened.grabs = [False] * 5
    with closing(Capture(V4l2Device("/dev/null"), on_status=seen, backoff=soon())) as camera:
        assert await camera.read() is not None
        lost = seen.statuses[0]
        assert seen.statuses == [lost, ONLINE]
        assert "/dev/null stopped giving frames" in str(lost.reason)


async def test_device_is_opened_by_v4l2_with_a_queue_of_one(opened: FakeCapture) -> None:
    with closing(Capture(V4l2Device("0"), on_status=lambda _: None)) as camera:
        await camera.read()
        assert opened.opened_with == ("/dev/video0", cv2.CAP_V4L2)
        assert opened.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
        camera.close()
        await until(opened.released.is_set)


async def test_device_is_lost_when_this_user_has_no_permission(
    opened: FakeCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    opened.grabs = [False]
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open every file, and the test may run as root
    with closing(Capture(V4l2Device("/dev/null"), on_status=seen)):
        assert "Add the user of this program to the group video" in str((await seen.until("lost")).reason)
