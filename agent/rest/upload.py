"""Upload: reads an HTTP body of bounded size within a time limit, and the files of a multipart form."""

from __future__ import annotations

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
_MAX_PARTS = 100


@dataclass(slots=True)
class Part:
    """One field of a form."""

    name: str | None = None
    content: bytes = b""


class UploadReader:
    """Reads bodies of at most `max_bytes`, each within `timeout_s`, and `max_bytes_together` at any time.

    `max_bytes_together` bounds memory: slow clients could open any number of uploads. Raises HTTPException 400,
    408 or 413, and BusyError.
    """

    def __init__(self, *, max_bytes: int, max_bytes_together: int, timeout_s: float) -> None:
        self.max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_together = max_bytes_together
        self._left_together = max_bytes_together

    async def read_image(self, request: Request) -> bytes:
        """The raw body, or the form field `file`."""
        if not _is_form(request):
            return await self._read_body(request, max_bytes=self.max_bytes, slack=0)
        files = await self._read_form(request, field_name="file", max_bytes=self.max_bytes)
        if len(files) != 1:
            raise HTTPException(
                400, f"The form has {len(files)} fields named `file` instead of one. Send: curl -F file=@photo.jpg"
            )
        if len(files[0]) > self.max_bytes:
            raise HTTPException(413, too_large(self.max_bytes))
        return files[0]

    async def read_images(self, request: Request) -> list[bytes]:
        """Every form field `files`; a single file may be larger than `max_bytes`."""
        if not _is_form(request):
            raise HTTPException(400, "The body is not a form. Send: curl -F files=@one.jpg -F files=@two.jpg")
        return await self._read_form(request, field_name="files", max_bytes=self._max_together)

    async def _read_form(self, request: Request, *, field_name: str, max_bytes: int) -> list[bytes]:
        body = await self._read_body(request, max_bytes=max_bytes, slack=_FORM_OVERHEAD_BYTES)
        return [part.content for part in _parse(body, request.headers["content-type"]) if part.name == field_name]

    async def _read_body(self, request: Request, *, max_bytes: int, slack: int) -> bytes:
        """Refuses by Content-Length before reading, or while reading if that header is missing or wrong."""
        stated = request.headers.get("content-length", "")
        expected = int(stated) if stated.isdecimal() and len(stated) < 16 else max_bytes
        if expected > max_bytes + slack:
            raise HTTPException(413, too_large(max_bytes))
        with self._reserved(min(expected, max_bytes)):
            try:
                with anyio.fail_after(self._timeout_s):
                    return await _read_at_most(request, max_bytes=max_bytes, slack=slack)
            except TimeoutError:
                raise HTTPException(
                    408, f"The body did not arrive within {self._timeout_s:.0f} s. Send it again."
                ) from None

    @contextmanager
    def _reserved(self, size: int) -> Iterator[None]:
        if size > self._left_together:
            raise BusyError("Too many uploads are arriving at the same time. Retry later.", retry_after_s=1)
        self._left_together -= size
        try:
            yield
        finally:
            self._left_together += size


def too_large(max_bytes: int) -> str:
    return f"The body has more than {max_bytes} bytes. Send a smaller image or raise http.max_upload_bytes."


async def _read_at_most(request: Request, *, max_bytes: int, slack: int) -> bytes:
    chunks: list[bytes] = []
    left = max_bytes + slack
    async for chunk in request.stream():
        left -= len(chunk)
        if left < 0:
            raise HTTPException(413, too_large(max_bytes))
        chunks.append(chunk)
    return b"".join(chunks)


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith(_FORM)


def _parse(body: bytes, content_type: str) -> list[Part]:
    """Parses RFC 7578 in memory, since the size is bounded; Starlette's own parser would write to disk."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "The Content-Type multipart/form-data has no boundary.")
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
        self._pieces: list[memoryview] = []  # slices of the body, copied only once: at the end of a part
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_part_data": lambda data, start, end: self._pieces.append(memoryview(data)[start:end]),
            "on_part_end": self._end_part,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
        }

    def _begin_part(self) -> None:
        if len(self.parts) == _MAX_PARTS:  # a body of empty parts would block the event loop for seconds
            raise HTTPException(400, f"The form has more than {_MAX_PARTS} fields. Send fewer.")
        self.parts.append(Part())

    def _end_part(self) -> None:
        self.parts[-1].content = b"".join(self._pieces)
        self._pieces.clear()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()
