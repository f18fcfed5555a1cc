from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from peers.mjpeg_server import MjpegServer
from sources.fake_capture import FakeCapture
from sources.observing import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(autouse=True)
async def _capture_threads_end_with_their_test(anyio_backend: str) -> AsyncIterator[None]:
    yield
    await until(lambda: not any(thread.name.startswith("camera ") for thread in threading.enumerate()))


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    if not server.stopping.is_set():
        server.stop()


@pytest.fixture
def capture() -> Iterator[FakeCapture]:
    fake = FakeCapture()
    yield fake
    fake.free.set()
