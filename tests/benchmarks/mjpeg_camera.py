"""A camera that sends the first frames of a video as JPEGs, 30 per second; prints its port."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

_FRAMES, _PERIOD_S = 30, 1 / 30


class _Viewer(BaseHTTPRequestHandler):
    parts: tuple[bytes, ...] = ()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due_s = time.monotonic()
        with suppress(OSError):  # the client disconnected
            for part in itertools.cycle(self.parts):
                self.wfile.write(part)
                due_s += _PERIOD_S
                time.sleep(max(0.0, due_s - time.monotonic()))

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    capture = cv2.VideoCapture(sys.argv[1])
    jpegs = [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(_FRAMES)]
    head = "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n"
    _Viewer.parts = tuple(head.format(len(jpeg)).encode() + jpeg + b"\r\n" for jpeg in jpegs)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Viewer)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
