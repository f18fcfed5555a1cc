"""RtspServer: an RTSP camera on a free port, served by GStreamer in the system's Python."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from needs import need
from peers import picture_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

_MISSING = "no RTSP server can run: apt install python3-gst-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly"
_SYSTEM_PYTHON = "/usr/bin/python3"
_SERVER = """
import sys
import threading
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
picture, frame_bytes, port, password = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( {picture} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 )"
)
viewers = []
factory.connect("media-configure", lambda _, media: viewers.append(media.get_element().get_child_by_name("pictures")))
def feed():
    while frame := sys.stdin.buffer.read(int(frame_bytes)):
        for viewer in viewers:
            if viewer.current_state == Gst.State.PLAYING:
                viewer.emit("push-buffer", Gst.Buffer.new_wrapped(frame))
if int(frame_bytes):
    threading.Thread(target=feed, daemon=True).start()
server = GstRtspServer.RTSPServer()
if password:
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """Skips the test if GStreamer is not installed.

    `pattern` is one of videotestsrc: a color, or ball, which moves. Or it is "clock", for those of picture_clock.py.

    `enter` is put before its command, for example to run it in another network namespace.
    """

    def __init__(self, *, pattern: str = "red", password: str = "", enter: Sequence[str] = ()) -> None:
        self._enter = enter
        self._pattern = pattern
        self._password = password
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self._clock: subprocess.Popen[bytes] | None = None
        need(Path("/usr/lib/python3/dist-packages/gi/overrides/Gst.py").exists(), _MISSING)
        self.start()

    def url(self, password: str = "secret") -> str:
        return f"rtsp://user:{password}@127.0.0.1:{self._port}/cam"

    def start(self, *, size: str = "320x240") -> None:
        """On the same port after the first time."""
        width, height = size.split("x")
        raw = "video/x-raw,format=I420,width={},height={},framerate=25/1"
        picture, frame_bytes = f"videotestsrc is-live=true pattern={self._pattern} ! {raw.format(width, height)}", 0
        if self._pattern == "clock":
            self._clock = subprocess.Popen([sys.executable, picture_clock.__file__, "i420"], stdout=subprocess.PIPE)
            caps = raw.format(picture_clock.WIDTH, picture_clock.HEIGHT)
            picture = f"appsrc name=pictures is-live=true do-timestamp=true format=time caps={caps}"
            frame_bytes = picture_clock.WIDTH * picture_clock.HEIGHT * 3 // 2
        command = [*self._enter, _SYSTEM_PYTHON, "-c", _SERVER, picture, str(frame_bytes), self._port, self._password]
        self._process = subprocess.Popen(
            command,
            stdin=self._clock.stdout if self._clock else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._port = self._process.stdout.readline().strip()
        need(self._port, _MISSING)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._clock is not None:
            self._clock.kill()
            self._clock.communicate()
            self._clock = None

    def stall(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
