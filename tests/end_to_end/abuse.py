"""Abuse: bodies that are too large, connections that send nothing or too slowly, and damaged images."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
from agents.running_agent import ROOT
from end_to_end.material import digit_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from agents.running_agent import RunningAgent

BODIES = (
    *("raw, with its length", "raw, chunked", "form, with its length", "form, chunked"),
    *("gzip", "small gzip that expands", "nested JSON"),
)

_PIECE = bytes(1 << 16)
_FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


@contextlib.contextmanager
def peak_rss_mb(agent: RunningAgent) -> Iterator[Callable[[], float]]:
    """Yields a function: how far the memory of the agent grew, at most, since the beginning."""
    process = Path(f"/proc/{agent.process.pid}")
    (process / "clear_refs").write_text("5")  # resets VmHWM
    before_kb = _status_kb(process, "VmRSS")
    yield lambda: (_status_kb(process, "VmHWM") - before_kb) / 1024


def _status_kb(process: Path, field: str) -> int:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def send_body(agent: RunningAgent, kind: str, size: int, head: Sequence[str] = (), *, path: str = "/predict") -> int:
    """Sends `size` bytes, whatever the agent answers meanwhile, and returns the status code of its answer.

    "small gzip that expands" has `size` bytes once expanded, and goes to a route that accepts gzip.
    """
    fields = [*head]
    if kind.startswith("form"):
        fields.append("Content-Type: multipart/form-data; boundary=x")
    if kind == "gzip":
        fields.append("Content-Encoding: gzip")
    bomb = b""
    if kind == "small gzip that expands":
        bomb = b"".join(_compressed(size))
        path, size = "/v2/models/digits/infer", len(bomb)
        fields.append("Content-Encoding: gzip")
    if kind == "nested JSON":
        path, size = "/api/models/digits/pin", 100_000
        fields.append("Content-Type: application/json")
    chunked = kind.endswith("chunked")
    fields.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}")
    with socket.create_connection(("127.0.0.1", agent.port), timeout=10) as stream:
        stream.sendall("\r\n".join((f"POST {path} HTTP/1.1", "Host: agent", *fields, "", "")).encode())
        with contextlib.suppress(ConnectionError):  # the agent may end the connection once it has answered
            for piece in [bomb] if bomb else _pieces(kind, size):
                stream.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        return int(stream.recv(4096).split()[1])


def _pieces(kind: str, size: int) -> Iterator[bytes]:
    if kind == "nested JSON":
        yield b"[" * size
    elif kind == "gzip":
        packer = zlib.compressobj(wbits=31)
        bomb = itertools.chain((packer.compress(_PIECE) for _ in range(1 << 11)), itertools.repeat(_PIECE))
        yield from _limited(bomb, size)
    else:
        yield from _limited(itertools.chain([_FORM] * kind.startswith("form"), itertools.repeat(_PIECE)), size)


def _compressed(size: int) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    yield from (packer.compress(_PIECE) for _ in range(size // len(_PIECE)))
    yield packer.flush()


def _limited(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:size]
        size -= len(piece)
        if size <= 0:
            return


class SlowConnections:
    """Connections from another address that send nothing, or a byte in each call of `drip`.

    The byte belongs to the head of a request or, with TLS, to the first message of the handshake.
    """

    def __init__(self, agent: RunningAgent, *, silent: int, dripping: int) -> None:
        start = b"\x16\x03\x01\x3f\xff\x01" if agent.url.startswith("https") else b"GET /healthz HTTP/1.1\r\nX: "
        self._selector = selectors.DefaultSelector()
        self._dripping: list[socket.socket] = []
        for number in range(silent + dripping):
            stream = socket.create_connection(("127.0.0.1", agent.port), timeout=10, source_address=("127.0.0.2", 0))
            stream.settimeout(0)
            self._selector.register(stream, selectors.EVENT_READ)
            if number >= silent:
                stream.send(start)
                self._dripping.append(stream)

    @property
    def open(self) -> int:
        """How many the agent has not closed."""
        for key, _ in self._selector.select(0):
            self._close(key.fileobj)  # type: ignore[arg-type]
        return len(self._selector.get_map())

    def drip(self) -> None:
        for stream in list(self._dripping):
            with contextlib.suppress(ConnectionError):  # `open` finds out
                stream.send(b"a")

    def _close(self, stream: socket.socket) -> None:
        self._selector.unregister(stream)
        if stream in self._dripping:
            self._dripping.remove(stream)
        stream.close()


def upload_times_s(agent: RunningAgent, image: bytes, *, until: Callable[[], bool]) -> list[float]:
    """Uploads over one connection until the condition is true, which is asked after each upload."""
    times_s = []
    with httpx.Client(base_url=agent.url, timeout=10, verify=False, trust_env=False) as client:
        while not until():
            begun_s = time.perf_counter()
            assert client.post("/predict", content=image).status_code == 200
            times_s.append(time.perf_counter() - begun_s)
    return times_s


def percentile_99_s(times_s: list[float]) -> float:
    return sorted(times_s)[len(times_s) * 99 // 100]


def png_with_chunk_of_3_gb() -> bytes:
    content = digit_png()
    at = content.index(b"IDAT") - 4
    return content[:at] + (3 << 30).to_bytes(4, "big") + content[at + 4 :]


def damaged_images(random: Random) -> Iterator[bytes]:
    """An endless series of damaged JPEG, PNG and WebP files."""
    photo = cv2.imread(str(ROOT / "demo" / "digit.jpg"))
    large = cv2.resize(photo, (640, 480))
    images = [
        cv2.imencode(suffix, picture, options)[1].tobytes()
        for picture in (photo, large)
        for suffix, options in (
            (".jpg", []),
            (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
            (".png", []),
            (".webp", []),
            (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        )
    ]
    for image in itertools.cycle(images):
        yield _damaged(image, random)


def _damaged(image: bytes, random: Random) -> bytes:
    content = bytearray(image)
    damage = random.randrange(4)
    if damage == 0:
        return bytes(content[: random.randrange(len(content))])
    end = 64 if damage == 1 else len(content)  # damage the header more often: sizes, types, counts
    if damage == 3:
        at = random.randrange(len(content))
        content[at : at + random.randrange(1, 64)] = random.randbytes(random.randrange(64))
        return bytes(content)
    for _ in range(random.randrange(1, 9)):
        content[random.randrange(min(end, len(content)))] = random.randrange(256)
    return bytes(content)
