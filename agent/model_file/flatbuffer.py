"""Flatbuffer: reads the tables of an untrusted model file by field number and checks every offset."""

from __future__ import annotations

import struct
from typing import Any

from flatbuffers import number_types
from flatbuffers.table import Table as RawTable

from agent.errors import IncompleteModelError

INT8 = number_types.Int8Flags
UINT8 = number_types.Uint8Flags
INT32 = number_types.Int32Flags
UINT32 = number_types.Uint32Flags
INT64 = number_types.Int64Flags
UINT64 = number_types.Uint64Flags
FLOAT32 = number_types.Float32Flags


class Table:
    """A table of the flatbuffer format (flatbuffers.dev/internals); fields are numbered from 0 as in the schema.

    Every method raises IncompleteModelError for an offset or a length that points outside the content.
    """

    def __init__(self, content: bytes, position: int) -> None:
        if not 0 <= position <= len(content) - 4:
            raise damaged(f"the offset {position} is outside its {len(content)} bytes")
        self._raw = RawTable(content, position)

    @classmethod
    def root(cls, content: bytes) -> Table:
        if len(content) < 8:
            raise damaged("it has fewer than 8 bytes")
        return cls(content, struct.unpack_from("<I", content)[0])

    @property
    def position(self) -> int:
        """Where the table starts, counted from the first byte."""
        return int(self._raw.Pos)

    def position_of(self, field: int) -> int | None:
        """Where the string, vector or table that the field refers to starts."""
        at = self._at(field)
        return self.position + at + int(self._get(UINT32, self.position + at)) if at else None

    def scalar(self, field: int, flags: Any, default: int = 0) -> int:
        at = self._at(field)
        return int(self._get(flags, self._raw.Pos + at)) if at else default

    def string(self, field: int) -> str | None:
        at = self._at(field)
        return self._read_string(self._raw.Pos + at) if at else None

    def strings(self, field: int) -> list[str]:
        return [self._read_string(at) for at in self._elements(field, 4)]

    def table(self, field: int) -> Table | None:
        at = self._at(field)
        return self._follow(self._raw.Pos + at) if at else None

    def tables(self, field: int) -> list[Table]:
        return [self._follow(at) for at in self._elements(field, 4)]

    def numbers(self, field: int, flags: Any) -> list[Any]:
        return [self._get(flags, at) for at in self._elements(field, flags.bytewidth)]

    def blob(self, field: int) -> bytes | None:
        """A vector of bytes, or None if the field is absent."""
        span = self._vector(field, 1)
        return bytes(self._raw.Bytes[span[0] : span[0] + span[1]]) if span else None

    def span(self, field: int) -> tuple[int, int] | None:
        """Position and length of a vector of bytes, which is not copied."""
        return self._vector(field, 1)

    def _at(self, field: int) -> int:
        try:
            return int(self._raw.Offset(4 + 2 * field))
        except (struct.error, TypeError, ValueError) as error:
            raise damaged("the index of a table is outside the file") from error

    def _get(self, flags: Any, position: int) -> Any:
        try:
            return self._raw.Get(flags, position)
        except (struct.error, TypeError, ValueError) as error:
            raise damaged(f"the position {position} of a value is outside the file") from error

    def _follow(self, position: int) -> Table:
        return Table(self._raw.Bytes, position + int(self._get(UINT32, position)))

    def _read_string(self, position: int) -> str:
        start = position + int(self._get(UINT32, position))
        length = int(self._get(UINT32, start))
        self._check(start + 4, length)
        return bytes(self._raw.Bytes[start + 4 : start + 4 + length]).decode("utf-8", "replace")

    def _vector(self, field: int, width: int) -> tuple[int, int] | None:
        at = self._at(field)
        if not at:
            return None
        start = self._raw.Pos + at + int(self._get(UINT32, self._raw.Pos + at))
        length = int(self._get(UINT32, start))
        self._check(start + 4, length * width)
        return start + 4, length

    def _elements(self, field: int, width: int) -> range:
        span = self._vector(field, width)
        return range(span[0], span[0] + span[1] * width, width) if span else range(0)

    def _check(self, start: int, size: int) -> None:
        if start + size > len(self._raw.Bytes):
            raise damaged(f"it should have {start + size} bytes but has {len(self._raw.Bytes)}")


def damaged(why: str) -> IncompleteModelError:
    """The error for an inconsistent file: most are still being copied or were truncated."""
    return IncompleteModelError(
        f"The file is damaged or incomplete ({why}). Copy it again; the agent retries once the copy is complete."
    )
