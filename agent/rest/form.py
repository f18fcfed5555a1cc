"""Form: the files of a multipart form (RFC 7578) in memory."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 100
_MAX_PART_HEADERS = 1 << 10
_PLAIN_TYPE = re.compile(r"multipart/form-data; ?boundary=([A-Za-z0-9'()+_,./:=?-]{1,70})", re.IGNORECASE)
_PLAIN_FILE = re.compile(
    rb'Content-Disposition: form-data; name="([^"\\\r\n%]*)"(?:; filename="[^"\\\r\n]*")?'
    rb"(?:\r\nContent-Type: [^\r\n]*)?",
    re.IGNORECASE,
)


def files_of(body: bytearray, content_type: str, field_name: str) -> list[bytearray]:
    """The contents of the fields with that name. `body` is used up. Raises HTTPException 400."""
    if _cut_only_file(body, content_type, field_name):
        return [body]
    return [part.content for part in _parse(body, content_type) if part.name == field_name]


def _cut_only_file(body: bytearray, content_type: str, field_name: str) -> bool:
    """Shortens `body` to its file without a copy, if it is what most clients send: one part with plain headers.

    Otherwise it leaves `body` as it is, for the parser, which is ten times slower.
    """
    plain = _PLAIN_TYPE.fullmatch(content_type)
    if plain is None:
        return False
    delimiter = b"\r\n--" + plain[1].encode()
    begin, end = len(delimiter), len(body) - len(delimiter) - (4 if body.endswith(b"\r\n") else 2)
    headers_end = body.find(b"\r\n\r\n", begin, begin + _MAX_PART_HEADERS)
    if not (body.startswith(delimiter[2:] + b"\r\n") and 0 <= headers_end <= end - 4):
        return False
    if body[end:].removesuffix(b"\r\n") != delimiter + b"--":
        return False
    head = _PLAIN_FILE.fullmatch(body, begin, headers_end)
    if head is None or head[1] != field_name.encode() or body.rfind(delimiter, headers_end + 2, end) >= 0:
        return False
    del head  # a match holds `body`, which therefore could not be resized
    del body[end:]
    del body[: headers_end + 4]  # only moves the start
    return True


@dataclass(slots=True)
class _Part:
    name: str | None = None
    content: bytearray = field(default_factory=bytearray)


def _parse(body: bytearray, content_type: str) -> list[_Part]:
    """Parses RFC 7578 in memory, since the size is bounded; Starlette's own parser would write to disk."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "The Content-Type multipart/form-data has no boundary.")
    reader = _FormReader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)  # type: ignore[arg-type]  # it takes bytearrays too
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"The form is malformed: {error}.") from None
    return reader.parts


class _FormReader:
    def __init__(self) -> None:
        self.parts: list[_Part] = []
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
        self.parts.append(_Part())

    def _end_part(self) -> None:
        self.parts[-1].content = bytearray().join(self._pieces)
        self._pieces.clear()

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header.clear()
        self._value.clear()
