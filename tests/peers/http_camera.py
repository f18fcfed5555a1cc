"""HttpCamera: an HTTP server on a free port that answers each path as a test says, byte by byte."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from pathlib import Path


class HttpCamera:
    """`answers` maps a path without its query to what the server does with a GET."""

    def __init__(self, answers: Mapping[str, Callable[[Viewer], None]], tls: ssl.SSLContext | None) -> None:
        self.answers = dict(answers)
        self.requests: list[tuple[str, Message, float]] = []  # path, headers, time.monotonic()
        self.stopping = threading.Event()
        self._listener = _Listener(self)
        self.port = self._listener.server_port
        self._scheme = "https" if tls else "http"
        if tls:
            self._listener.socket = tls.wrap_socket(self._listener.socket, server_side=True)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path: str, user: str = "") -> str:
        return f"{self._scheme}://{user}127.0.0.1:{self.port}{path}"

    def count(self, path: str) -> int:
        return sum(each == path for each, _, _ in self.requests)

    def stop(self) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()  # joins the viewers
        self._thread.join()


@contextmanager
def http_camera(
    answers: Mapping[str, Callable[[Viewer], None]], *, tls: ssl.SSLContext | None = None
) -> Iterator[HttpCamera]:
    camera = HttpCamera(answers, tls)
    try:
        yield camera
    finally:
        camera.stop()


def fixed(
    body: bytes, content_type: str | None, *, has_length: bool = True, code: int = 200, **headers: str
) -> Callable[[Viewer], None]:
    """The same answer to each request."""

    def answer(viewer: Viewer) -> None:
        viewer.begin(content_type, code, **({"Content-Length": str(len(body))} if has_length else {}), **headers)
        viewer.wfile.write(body)

    return answer


def chunked(body: bytes, content_type: str | None) -> Callable[[Viewer], None]:
    """The same, in chunks of 1000 bytes and without a length."""

    def answer(viewer: Viewer) -> None:
        viewer.protocol_version = "HTTP/1.1"
        viewer.begin(content_type, **{"Transfer-Encoding": "chunked", "Connection": "close"})
        for start in range(0, len(body), 1000):
            piece = body[start : start + 1000]
            viewer.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        viewer.wfile.write(b"0\r\n\r\n")

    return answer


def streaming(
    part: Callable[[int], bytes], content_type: str | None, *, period_s: float = 0.01, parts: int = 1 << 30
) -> Callable[[Viewer], None]:
    """Sends part after part; after `parts` it closes the connection."""

    def answer(viewer: Viewer) -> None:
        viewer.begin(content_type)
        for number in range(parts):
            if viewer.camera.stopping.wait(period_s):
                break
            viewer.wfile.write(part(number))

    return answer


def folder(path: Path) -> dict[str, Callable[[Viewer], None]]:
    """Answers with every file of a folder, as a web server does that knows no ranges."""
    types = {".mp4": "video/mp4", ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}
    return {f"/{file.name}": fixed(file.read_bytes(), types.get(file.suffix)) for file in path.iterdir()}


class Viewer(BaseHTTPRequestHandler):
    """One request to the camera."""

    server: _Listener

    @property
    def camera(self) -> HttpCamera:
        return self.server.camera

    def begin(self, content_type: str | None, code: int = 200, /, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": content_type, **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.camera.requests.append((path, self.headers, time.monotonic()))
        with suppress(OSError):  # the client disconnected
            self.camera.answers.get(path, _missing)(self)

    def log_message(self, *_: object) -> None:
        pass


def _missing(viewer: Viewer) -> None:
    viewer.send_error(404)


class _Listener(ThreadingHTTPServer):
    def __init__(self, camera: HttpCamera) -> None:
        self.camera = camera
        super().__init__(("127.0.0.1", 0), Viewer)

    def handle_error(self, *_: object) -> None:
        pass  # a client that does not finish the TLS handshake
