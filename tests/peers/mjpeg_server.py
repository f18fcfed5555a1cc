"""MjpegServer: a network camera's HTTP stream on a free port."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np


class MjpegServer:
    """Can stall, stop and restart on the same port. Frame n has the blue value n, green 0 and red 200."""

    def __init__(self) -> None:
        self.period_s = 0.01
        self.sent = 0
        self.flowing = threading.Event()
        self.flowing.set()
        self.stopping = threading.Event()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://user:secret@127.0.0.1:{self._port}/cam"

    def start(self) -> None:
        self.stopping.clear()
        self._listener = _Listener(self._port, self)
        self._port = self._listener.server_port
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()  # joins the viewers
        self._thread.join()

    def next_part(self) -> bytes:
        pixels = np.empty((48, 64, 3), np.uint8)
        pixels[:] = (min(self.sent, 255), 0, 200)
        self.sent += 1
        encoded, jpeg = cv2.imencode(".jpg", pixels)
        assert encoded
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg.tobytes() + b"\r\n"


class _Viewer(BaseHTTPRequestHandler):
    """Sends frame after frame to one client until the server stops."""

    server: _Listener

    def do_GET(self) -> None:
        mjpeg = self.server.mjpeg
        if self.path != "/cam":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while not mjpeg.stopping.wait(mjpeg.period_s):
                if mjpeg.flowing.is_set():
                    self.wfile.write(mjpeg.next_part())
        except OSError:
            pass  # the client disconnected

    def log_message(self, *_: object) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    def __init__(self, port: int, mjpeg: MjpegServer) -> None:
        self.mjpeg = mjpeg
        super().__init__(("127.0.0.1", port), _Viewer)
