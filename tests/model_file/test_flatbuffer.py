from __future__ import annotations

import struct

import flatbuffers
import pytest

from agent.errors import IncompleteModelError
from agent.model_file.flatbuffer import FLOAT32, INT8, INT32, UINT32, Table


def built() -> bytes:
    """A table with these fields: 0 is 7, 1 a string, 2 the numbers 1 to 3, 3 two strings, 4 a table, 5 tables."""
    builder = flatbuffers.Builder(64)
    text, other = builder.CreateString("Grüße"), builder.CreateString("b")
    builder.StartVector(4, 3, 4)
    for number in (3, 2, 1):
        builder.PrependInt32(number)
    numbers = builder.EndVector()
    builder.StartVector(4, 2, 4)
    builder.PrependUOffsetTRelative(other)
    builder.PrependUOffsetTRelative(text)
    texts = builder.EndVector()
    builder.StartObject(1)
    builder.PrependInt32Slot(0, -5, 0)
    inner = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(inner)
    tables = builder.EndVector()
    builder.StartObject(6)
    builder.PrependInt32Slot(0, 7, 0)
    for field, offset in enumerate((text, numbers, texts, inner, tables), 1):
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_fields_are_read_by_number() -> None:
    table = Table.root(built())
    assert table.scalar(0, INT32) == 7
    assert table.string(1) == "Grüße"
    assert table.numbers(2, INT32) == [1, 2, 3]
    assert table.strings(3) == ["Grüße", "b"]
    inner = table.table(4)
    assert inner is not None
    assert inner.scalar(0, INT32) == -5
    assert [each.scalar(0, INT32) for each in table.tables(5)] == [-5]


def test_blob_and_its_span_are_the_same_bytes() -> None:
    content = built()
    table = Table.root(content)
    start, length = table.span(2) or (0, 0)
    assert table.blob(2) == content[start : start + length]


def test_absent_field_has_the_default_value() -> None:
    table = Table.root(built())
    assert table.scalar(9, INT8, 4) == 4
    assert (table.string(9), table.table(9), table.blob(9), table.span(9)) == (None, None, None, None)
    assert (table.strings(9), table.tables(9), table.numbers(9, FLOAT32)) == ([], [], [])


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Iq", 5000, 0), struct.pack("<Iq", 9, 0)])
def test_root_outside_the_content_is_damage(content: bytes) -> None:
    with pytest.raises(IncompleteModelError):
        Table.root(content)


def test_vector_longer_than_the_content_is_damage() -> None:
    content = bytearray(built())
    start, _ = Table.root(bytes(content)).span(2) or (0, 0)
    struct.pack_into("<I", content, start - 4, 1 << 30)
    table = Table.root(bytes(content))
    for read in (lambda: table.numbers(2, INT32), lambda: table.blob(2), lambda: table.string(2)):
        with pytest.raises(IncompleteModelError, match="it should have"):
            read()


def test_truncated_or_changed_content_raises_only_incomplete_model_errors() -> None:
    whole = built()
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole[:at] + bytes([value]) + whole[at + 1 :] for at in range(len(whole)) for value in (0, 127, 255)]
    refused = sum(not reads(content) for content in damaged)
    assert len(damaged) * 0.2 < refused < len(damaged)


def reads(content: bytes) -> bool:
    try:
        table = Table.root(content)
        table.scalar(0, UINT32)
        table.string(1)
        table.numbers(2, INT32)
        table.strings(3)
        table.tables(5)
        inner = table.table(4)
        if inner is not None:
            inner.scalar(0, INT32)
    except IncompleteModelError:
        return False
    return True
