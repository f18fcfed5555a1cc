"""HlsServer: a live HLS stream on a free port, made by ffmpeg from a moving test picture."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from needs import need
from peers import picture_clock

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class HlsServer:
    """Segments of half a second. Skips the test if ffmpeg is not installed.

    Its picture is a test picture that moves or, if `has_clock`, those of picture_clock.py.
    """

    def __init__(self, folder: Path, *, has_clock: bool = False) -> None:
        need(shutil.which("ffmpeg"), "ffmpeg is not installed: apt install ffmpeg")
        self._folder = folder
        self._has_clock = has_clock
        self._port = 0
        self._clock: subprocess.Popen[bytes] | None = None
        self._ffmpeg: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/live.m3u8"

    def start(self) -> None:
        """On the same port after the first time."""
        picture = ["-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25"]
        if self._has_clock:
            self._clock = subprocess.Popen([sys.executable, picture_clock.__file__, "i420"], stdout=subprocess.PIPE)
            raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", "25"]
            picture = [*raw, "-s", f"{picture_clock.WIDTH}x{picture_clock.HEIGHT}", "-i", "-"]
        codec = ["-c:v", "libx264", "-preset", "ultrafast"]
        stream = ["-tune", "zerolatency", "-g", "12", "-f", "hls", "-hls_time", "0.5", "-hls_list_size", "6"]
        flags = ["-hls_flags", "delete_segments+omit_endlist", str(self._folder / "live.m3u8")]
        quiet = ["-loglevel", "quiet", *([] if self._has_clock else ["-nostdin"])]
        self._ffmpeg = subprocess.Popen(
            ["ffmpeg", *quiet, *picture, *codec, *stream, *flags], stdin=self._clock.stdout if self._clock else None
        )
        files = partial(_Files, directory=str(self._folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), files)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def kill(self) -> None:
        if self._ffmpeg is None:
            return
        self._ffmpeg.kill()
        self._ffmpeg.wait()
        self._ffmpeg = None
        if self._clock is not None:
            self._clock.kill()
            self._clock.communicate()
            self._clock = None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for file in self._folder.iterdir():
            file.unlink()

    def stall(self) -> None:
        assert self._ffmpeg is not None
        self._ffmpeg.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
