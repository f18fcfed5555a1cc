"""Flatbuffer: writes tables by field number, for schemas of which few fields are used (flatbuffers.dev, Internals)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flatbuffers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIGNMENT = 16  # of weights and metadata in a .tflite; the largest that its schema requires


class Writer:
    """Builds one flatbuffer from its leaves to its root. Parts are identified by offsets; 0 is an absent part.

    A flatbuffer given as `tail` is kept unchanged, with its alignment, at the end of the new one, which can
    refer to its parts: offsets count from the end.
    """

    def __init__(self, *, tail: bytes = b"") -> None:
        self._tail = tail + bytes(-len(tail) % _ALIGNMENT)
        self._builder = flatbuffers.Builder(len(self._tail) + (1 << 16))
        self._builder.Prep(_ALIGNMENT, 0)
        if tail:
            self._builder.CreateByteVector(self._tail)

    def in_tail(self, position: int) -> int:
        return len(self._tail) - position

    def string(self, text: str) -> int:
        return int(self._builder.CreateString(text)) if text else 0

    def content(self, content: bytes) -> int:
        self._builder.Prep(_ALIGNMENT, len(content))
        return int(self._builder.CreateByteVector(content))

    def floats(self, values: Sequence[float]) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return int(self._builder.EndVector())

    def vector(self, parts: Sequence[int]) -> int:
        self._builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            self._builder.PrependUOffsetTRelative(part)
        return int(self._builder.EndVector())

    def table(
        self,
        parts: Mapping[int, int],
        *,
        enums: Mapping[int, int] | None = None,
        uints: Mapping[int, int] | None = None,
    ) -> int:
        """Fields by number: `parts` by offset, `enums` of 8 bits, `uints` of 32 bits."""
        builder = self._builder
        builder.StartObject(1 + max((*parts, *(enums or {}), *(uints or {})), default=-1))
        for field, value in parts.items():
            builder.PrependUOffsetTRelativeSlot(field, value, 0)
        for field, value in (uints or {}).items():
            builder.PrependUint32Slot(field, value, 0)
        for field, value in (enums or {}).items():
            builder.PrependUint8Slot(field, value, 0)
        return int(builder.EndObject())

    def finish(self, root: int, identifier: bytes) -> bytes:
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())
