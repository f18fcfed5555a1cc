"""Upload: an HTTP body of bounded size and time, and the files of a multipart form in it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

from agent.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

_FORM = "multipart/form-data"
_FORM_OVERHEAD_BYTES = 64 << 10


@dataclass(slots=True)
class Part:
    """One field of a form; `file_name` is None where it is not a file."""

    name: str | None = None
    file_name: str | None = None
    content: bytes = b""


class BodiesInFlight:
    """Bounds the memory of bodies that are still arriving, of which slow clients could open any number."""

    def __init__(self, *, at_most: int) -> None:
        self._left = at_most

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises BusyError at once when all places are taken."""
        if not self._left:
            raise BusyError("Too many uploads are arriving at once. Try again.", retry_after_s=1)
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


def now_ns() -> int:
    """When the upload arrived: the time that its Result calls captured_at."""
    return time.time_ns()


async def read_image(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """The raw body, or the form field `file`. Raises HTTPException 400, 408 or 413."""
    if not _is_form(request):
        return await _read_body(request, max_bytes=max_bytes, timeout_s=timeout_s)
    files = await read_form(request, field_name="file", max_bytes=max_bytes, timeout_s=timeout_s)
    if len(files) != 1:
        raise HTTPException(
            400, f"The form has {len(files)} fields `file` instead of one. Send: curl -F file=@photo.jpg"
        )
    return _bounded(files[0].content, max_bytes)


async def read_form(request: Request, *, field_name: str, max_bytes: int, timeout_s: float) -> list[Part]:
    """Every part named `field_name`, of `max_bytes` together. Raises HTTPException 400, 408 or 413."""
    if not _is_form(request):
        raise HTTPException(
            400, f"Send a form with `{field_name}`: curl -F {field_name}=@one.jpg -F {field_name}=@two.jpg"
        )
    body = await _read_body(request, max_bytes=max_bytes + _FORM_OVERHEAD_BYTES, timeout_s=timeout_s)
    return [part for part in _parse(body, request.headers["content-type"]) if part.name == field_name]


async def _read_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """Refuses by Content-Length before reading, and while reading where that lies or is missing."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    left = max_bytes
    try:
        with anyio.fail_after(timeout_s):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    raise _too_large(max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {timeout_s:.0f} s. Send it again.") from None
    return b"".join(chunks)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(_FORM)


def _bounded(content: bytes, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    return content


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"The body has more than {max_bytes} bytes. Send a smaller image or raise http.max_upload_bytes."
    )


def _parse(body: bytes, content_type: str) -> list[Part]:
    """RFC 7578; in memory, since the size is bounded, where Starlette's own parser would write to disk."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "The Content-Type multipart/form-data lacks its boundary.")
    reader = _FormReader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"The form is malformed: {error}.") from None
    return reader.parts


class _FormReader:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._pieces: list[memoryview] = []  # of the body, which is copied once: at the end of a part
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": lambda: self.parts.append(Part()),
            "on_part_data": lambda data, start, end: self._pieces.append(memoryview(data)[start:end]),
            "on_part_end": self._end_part,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
        }

    def _end_part(self) -> None:
        self.parts[-1].content = b"".join(self._pieces)
        self._pieces.clear()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
            file_name = options.get(b"filename")
            self.parts[-1].file_name = file_name.decode("utf-8", "replace") if file_name is not None else None
        self._header.clear()
        self._value.clear()
