"""An RTSP camera on a free port, served by GStreamer in the system's Python."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SYSTEM_PYTHON = "/usr/bin/python3"
_SERVER = """
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 )"
)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


@contextmanager
def rtsp_server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yields the URL of a red picture, and the process. Skips the test if GStreamer is not installed."""
    if not Path("/usr/lib/python3/dist-packages/gi/overrides/Gst.py").exists():
        pytest.skip("no RTSP server: apt-get install python3-gst-1.0 gir1.2-gst-rtsp-server-1.0")
    command = [_SYSTEM_PYTHON, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0")
            yield f"rtsp://user:secret@127.0.0.1:{port}/cam", server
        finally:
            server.kill()
