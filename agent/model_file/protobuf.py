"""Protobuf: walks the fields of an untrusted message without its description.

The format is described at protobuf.dev/programming-guides/encoding. A field is skipped without being read, so a
message may be larger than the memory.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


@dataclass(frozen=True, slots=True)
class Field:
    """`number` is the field's in the description; of a string, bytes or message, `value` is the length."""

    number: int
    value: int
    start: int
    is_bytes: bool
    file: BinaryIO = field(repr=False)

    def read(self) -> bytes:
        """The content of a string, bytes or message."""
        self.file.seek(self.start)
        return _exactly(self.file, self.value)

    def fields(self) -> Iterator[Field]:
        """The fields of an inner message."""
        return fields(self.file, start=self.start, end=self.start + self.value)


def fields(file: BinaryIO, *, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message from `start` to `end`, which is the end of the file by default.

    Raises ValueError, whose message is a clause, if the message ends in the middle of a field.
    """
    size = file.seek(0, io.SEEK_END)
    position, end = start, size if end is None else end
    while position < end:
        file.seek(position)
        found = _next(file)
        position = file.tell() if not found.is_bytes else found.start + found.value
        if position > end:
            raise ValueError(f"it has {size} bytes but should have at least {position}")
        yield found


def fields_of(content: bytes) -> Iterator[Field]:
    return fields(io.BytesIO(content))


def varint(file: BinaryIO) -> int:
    """Raises ValueError if it does not end within 10 bytes."""
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = _exactly(file, 1)[0]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value
    raise ValueError("one of its numbers does not end")


def _next(file: BinaryIO) -> Field:
    tag = varint(file)
    number, kind = tag >> 3, tag & 7
    if number == 0:
        raise ValueError("it is not a protobuf message")
    if kind == _VARINT:
        return Field(number, varint(file), file.tell(), is_bytes=False, file=file)
    if kind == _FIXED64:
        return Field(number, struct.unpack("<Q", _exactly(file, 8))[0], file.tell(), is_bytes=False, file=file)
    if kind == _FIXED32:
        return Field(number, struct.unpack("<I", _exactly(file, 4))[0], file.tell(), is_bytes=False, file=file)
    if kind == _BYTES:
        length = varint(file)
        return Field(number, length, file.tell(), is_bytes=True, file=file)
    raise ValueError("it is not a protobuf message")


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError(f"it ends after {file.tell()} bytes, in the middle of a field")
    return content
